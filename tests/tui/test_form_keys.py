"""Keys of forms: what is typed ahead, arrows from field to field, and quitting with changes."""

import asyncio

import pytest
from textual.widgets import Input

from readwrite_edit.tui.app import RunsApp
from readwrite_edit.tui.dialogs import ConfirmDialog
from readwrite_edit.tui.forms.edit_screen import EditScreen
from readwrite_edit.tui.forms.new_screen import NewScreen
from readwrite_edit.tui.home.runs_screen import RunsScreen
from readwrite_edit.tui.run.run_screen import RunScreen
from tests.tui.forms import FakeCommands, checked, command, until, write
from tests.tui.screens import drive, says, settle, still_run

RECIPE = "model: {path: bundled:smollm2-135m-instruct}\ndata: {path: builtin:concise}\n"


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE)
    return path


def new(source, commands=None):
    return lambda: NewScreen(source, commands=commands or FakeCommands())


async def opened(app, pilot):
    await settle(app, pilot)
    await checked(app, pilot)


# ---- typed ahead


def test_what_is_typed_ahead_of_the_form_reaches_its_fields_in_order(tmp_path, mine):
    async def session():
        app = RunsApp(tmp_path / "runs")
        async with app.run_test() as pilot:
            await settle(app, pilot)
            app.push_screen(NewScreen(mine, commands=FakeCommands()))
            for key in ("down", "down", "q", "y", "backspace", "x"):  # before there is a form
                app.simulate_key(key)
            await opened(app, pilot)
            for key in ("down", "up", "z"):  # ahead of the focus
                app.simulate_key(key)
            await opened(app, pilot)
            assert isinstance(app.screen, NewScreen) and app.is_running
            assert app.screen.draft.changes == {"data.path": "builtin:conciseqxz"}

    asyncio.run(session())


def test_a_function_key_typed_ahead_waits_and_escape_does_not(tmp_path, mine):
    commands = FakeCommands()

    async def steps(app, pilot):
        app.push_screen(NewScreen(mine, commands=commands))
        app.simulate_key("f6")
        await until(app, pilot, lambda: commands.queued)
        app.pop_screen()
        app.push_screen(NewScreen(mine, commands=commands))
        for key in ("f6", "escape"):
            app.simulate_key(key)
        await until(app, pilot, lambda: isinstance(app.screen, RunsScreen))
        await settle(app, pilot)
        assert len(commands.queued) == 1

    drive(tmp_path / "runs", steps)


def test_words_typed_ahead_behind_a_key_that_moves_the_cursor_land_there(tmp_path, mine):
    async def steps(app, pilot):
        app.push_screen(NewScreen(mine, commands=FakeCommands()))
        screen = app.screen
        for key in ("f3", *"dec"):
            app.simulate_key(key)
        await until(app, pilot, lambda: screen._ahead._gives)
        for key in "ay":  # while the others are being given
            app.simulate_key(key)
        await until(app, pilot, lambda: says(app, "  weight_decay"))
        assert app.screen.query_one("#find", Input).value == "decay" and app.screen.draft.changes == {}

    drive(tmp_path / "runs", steps)


def test_where_no_form_comes_letters_go_into_the_line_for_another_file(tmp_path, mine):
    async def steps(app, pilot):
        app.push_screen(NewScreen(tmp_path / "nosuch", commands=FakeCommands()))
        app.simulate_key("q")
        await until(app, pilot, lambda: app.focused is not None)
        await pilot.press(*"q")
        assert app.is_running and app.screen.query_one("#file", Input).value == "q"

    drive(tmp_path / "runs", steps)


def test_arrows_stay_within_an_open_list_and_within_lines(tmp_path, mine):
    async def steps(app, pilot):
        await opened(app, pilot)
        await write(app, pilot, "evaluation.generations", "one\ntwo")
        lines = app.screen.form._rows["evaluation.generations"].editor
        await pilot.press("up")
        assert app.focused is lines and lines.cursor_location[0] == 0
        app.screen.form.find("adapter.basis")
        await settle(app, pilot)
        choice = app.screen.form._rows["adapter.basis"].editor
        choice.focus()
        await pilot.press("enter")
        before = choice.query_one("SelectOverlay").highlighted
        await pilot.press("down")
        assert choice.expanded and choice.query_one("SelectOverlay").highlighted != before

    drive(tmp_path, steps, screen=new(mine))


# ---- quitting


@pytest.mark.parametrize("key", ["f4", "f7", "f9", ""])
def test_quitting_asks_where_changes_would_be_lost_whatever_pane_is_open(tmp_path, key):
    async def steps(app, pilot):
        await opened(app, pilot)
        for name, text in {"prompt": "a q", "subject": "q", "target": " x"}.items():
            await write(app, pilot, f"associate.{name}", text)
        app.screen.query_one("#effect").run = tmp_path
        await pilot.press(*([key] if key else []))
        await settle(app, pilot)
        await pilot.press("q" if key else "ctrl+q")
        await pilot.pause()
        assert isinstance(app.screen, ConfirmDialog) and says(app, "Quit? 3 changes are lost")
        await pilot.press("n")
        assert isinstance(app.screen, EditScreen) and app.is_running
        app.push_screen(RunScreen(tmp_path / "run"))  # as from the ledger: the form lies below
        await settle(app, pilot)
        await pilot.press("q")
        await pilot.pause()
        assert isinstance(app.screen, ConfirmDialog) and says(app, "--target ' x'")
        await pilot.press("y")
        await pilot.pause()
        assert app._exit

    still_run(tmp_path, "run")
    drive(tmp_path, steps, (120, 34), screen=lambda: EditScreen(commands=FakeCommands()))


def test_quitting_does_not_ask_where_nothing_is_lost(tmp_path, mine):
    async def steps(app, pilot):
        await opened(app, pilot)
        assert "mine.yaml" in command(app)
        await pilot.press("ctrl+q")
        await pilot.pause()
        assert app._exit

    drive(tmp_path, steps, screen=new(mine))
