"""What all screens share: the table of actions, help, keys, palette, the least size, --readonly."""

import asyncio
import importlib
import inspect
import pkgutil
from collections import Counter

import pytest
from textual.app import ComposeResult
from textual.widgets import Input, OptionList, Static
from textual.widgets._toast import Toast

import readwrite_edit.tui
from readwrite_edit.terminal import printable
from readwrite_edit.tui.actions import ACTIONS, BY_ID, EVERYWHERE, bindings_of, places_heard
from readwrite_edit.tui.app import RunsApp
from readwrite_edit.tui.dialogs import ConfirmDialog, HelpDialog
from readwrite_edit.tui.forms.new_screen import NewScreen
from readwrite_edit.tui.frame import CommandLine, Performing, WorkScreen, command_text
from readwrite_edit.tui.home.runs_screen import RunsScreen
from tests.tui.screens import SMALL, drive, make_run, notes, says, settle, shown, still_run


def performing():
    """The classes of the TUI with a NAME, by it."""
    found = {EVERYWHERE: [RunsApp]}
    for module in pkgutil.walk_packages(readwrite_edit.tui.__path__, "readwrite_edit.tui."):
        loaded = importlib.import_module(module.name)
        for _, kind in inspect.getmembers(loaded, inspect.isclass):
            if issubclass(kind, Performing) and "NAME" in vars(kind) and kind.__module__ == loaded.__name__:
                found.setdefault(kind.NAME, []).append(kind)
    return found


def test_every_action_of_the_table_is_carried_out_by_a_class_of_that_name():
    classes = performing()
    missing = [
        action.id
        for action in ACTIONS
        if not any(callable(getattr(kind, action.method, None)) for kind in classes.get(action.place, []))
    ]
    assert missing == []


def test_every_class_binds_all_actions_of_its_place():
    for place, kinds in performing().items():
        for kind in kinds:
            bound = {binding.id for binding in kind.BINDINGS}
            able = {action.id for action in ACTIONS if action.place == place and hasattr(kind, action.method)}
            assert able <= bound, f"{kind.__name__} does not bind {able - bound}"


def test_ids_are_unique_and_every_binding_of_ours_has_one():
    assert len(BY_ID) == len(ACTIONS)
    for kind in (kind for kinds in performing().values() for kind in kinds):
        ids = Counter(binding.id for binding in kind.BINDINGS)
        assert None not in ids and set(ids.values()) <= {1} and set(ids) <= set(BY_ID), kind.__name__


def test_every_action_has_words_and_keys_for_fields_type_nothing():
    for action in ACTIONS:
        assert action.label and action.text[0].isupper() and not action.text.endswith("."), action.id
    assert [binding.id for binding in bindings_of("new")] == [a.id for a in ACTIONS if a.place == "new"]


def test_a_dialog_hears_its_own_keys_alone():
    assert places_heard("confirm") == ("confirm",)
    assert places_heard("curves") == ("curves", "run", EVERYWHERE)


def test_keys_help_and_palette_name_the_same_actions(tmp_path):
    still_run(tmp_path, "a")

    async def steps(app, pilot):
        here = app.actions_here()
        assert {action.place for action in here} == {"runs", "table", EVERYWHERE}
        line = shown(app)[-1]
        for action in here:
            if action.shown and action.id not in ("everywhere.back",):
                assert f"{app.key_text(action, first=True)} {action.label}" in line
        palette = {command.title: command.help for command in app.get_system_commands(app.screen)}
        for action in here:
            title = action.label if action.place == EVERYWHERE else f"{action.place}: {action.label}"
            assert palette[title].startswith(action.text)
        assert {"Theme", "Screenshot"} <= set(palette)
        await pilot.press("f1")
        await settle(app, pilot)
        text = " ".join(str(part.render()) for part in app.screen.query(Static))
        for action in here:
            assert action.text in text
        assert "tui.toml" in text and "✗ failed" in text

    drive(tmp_path, steps, (160, 40))


def test_help_scrolls_on_the_least_terminal(tmp_path):
    async def steps(app, pilot):
        await pilot.press("question_mark")
        await settle(app, pilot)
        assert says(app, "Open the run") and says(app, "esc close") and not says(app, "tui.toml")
        await pilot.press("end")
        await settle(app, pilot)
        assert says(app, "tui.toml") and says(app, "esc close")

    drive(tmp_path, steps, (60, 16))


def test_the_palette_carries_out_an_action(tmp_path):
    still_run(tmp_path, "a")

    async def steps(app, pilot):
        await pilot.press("ctrl+p", *"runs: mark")
        found = app.screen.query_one(OptionList)
        while found.option_count == 0 or not str(found.get_option_at_index(0).prompt).startswith("runs: mark"):
            await pilot.pause(0.02)
        await pilot.press("enter")
        await settle(app, pilot)
        assert app.screen.marks == {"a"}

    drive(tmp_path, steps)


def test_a_key_that_does_nothing_here_says_where_it_works(tmp_path):
    still_run(tmp_path, "a")

    async def steps(app, pilot):
        await pilot.press("m")
        assert notes(app) == ["m works in curves, not here"]
        await pilot.press("ctrl+g", "left", "tab", "m", "m")  # said once, however often
        assert len(notes(app)) == 1
        await pilot.press("slash", "m", "v", "q", "y", "question_mark", "left")
        assert len(notes(app)) == 1 and app.screen.query_one(Input).value == "mvqy?"
        await pilot.press("f5")
        assert notes(app)[-1] == "f5 works in new, edit, export, not here"
        await pilot.press("escape", "v", "z")
        assert notes(app)[-2] == "v works in geometry, recipe, report, …, not here"
        assert notes(app)[-1] == "z does nothing; ? lists the keys"
        await pilot.press("d", "m")
        assert len(notes(app)) == 4 and isinstance(app.screen, ConfirmDialog)

    drive(tmp_path, steps)


@pytest.mark.parametrize("screen", [None, NewScreen])
@pytest.mark.parametrize("size", [(60, 16), SMALL])
def test_a_message_hides_neither_the_command_nor_the_keys(tmp_path, screen, size):
    async def session():
        app = RunsApp(tmp_path / ("a long name of a folder " * 8))
        async with app.run_test(size=size, notifications=True) as pilot:
            await settle(app, pilot)
            if screen is not None:
                app.push_screen(screen())
                await settle(app, pilot)
            app.refuse("x" * 200)
            await settle(app, pilot)
            toast, line = app.screen.query_one(Toast), app.screen.query_one(CommandLine)
            assert line.size.height == (1 if screen is None else 3)
            assert toast.region.height and toast.region.bottom <= line.region.y

    asyncio.run(session())


def test_a_terminal_that_is_too_small_says_what_is_needed_and_nothing_is_done_unseen(tmp_path):
    run = make_run(tmp_path, status=None)

    async def steps(app, pilot):
        focused = app.focused
        for size in ((59, 16), (60, 15)):
            await pilot.resize_terminal(*size)
            await settle(app, pilot)
            assert says(app, "is too small") and says(app, "60×16") and not says(app, "running")
            await pilot.press("s", "y", "enter")
            assert isinstance(app.screen, RunsScreen) and not run.stop_requested()
        await pilot.resize_terminal(60, 16)
        await settle(app, pilot)
        assert says(app, "▶ running") and not says(app, "too small") and app.focused is focused
        await pilot.press("s")
        assert isinstance(app.screen, ConfirmDialog)
        await pilot.resize_terminal(40, 10)
        await pilot.press("y")
        assert isinstance(app.screen, ConfirmDialog) and not run.stop_requested()
        await pilot.press("escape")
        assert isinstance(app.screen, RunsScreen)

    drive(tmp_path, steps)
    run.close()


def test_readonly_refuses_all_that_writes_and_nothing_else(tmp_path):
    run = make_run(tmp_path, status=None)

    async def steps(app, pilot):
        assert says(app, "read-only")
        for action in ACTIONS:
            if action.place == "runs" and action.writes:
                await pilot.press(app.keys_of(action)[0])
                assert isinstance(app.screen, RunsScreen)
                assert notes(app)[-1] == f"{action.label}: this session is --readonly"
        await pilot.press("space", "o", "slash", *"dpo", "enter")
        assert len(app.screen.marks) == 1

    drive(tmp_path, steps, readonly=True)
    run.close()
    assert not run.stop_requested() and sorted(entry.name for entry in tmp_path.iterdir()) == [run.folder.path.name]


def test_what_starts_stops_or_changes_something_is_marked_so():
    verbs = ("start", "stop", "resume", "delete", "note", "queue", "pause", "push", "undo", "redo", "stack", "save")
    places = ("runs", "run", "new", "edit", "ledger", "export", "note")
    acting = {action.id for action in ACTIONS if action.place in places and action.id.split(".")[1] in verbs}
    assert {action_id for action_id in acting if not BY_ID[action_id].writes} == set()


def test_the_command_of_an_action_is_shown_and_copied_safely(tmp_path):
    still_run(tmp_path, "a b\x1b[31m")

    async def steps(app, pilot):
        app.copied = None
        app.copy_to_clipboard = lambda text: setattr(app, "copied", text)
        await pilot.press("y")
        assert app.copied == command_text(["runs", "ls", "--root", str(tmp_path)])
        app.screen.show_command(["runs", "stop", "a b\x1b[31m"])
        await pilot.press("y")
        assert app.copied == "readwrite-edit runs stop 'a b\\x1b[31m'" == printable(app.copied)
        await settle(app, pilot)
        assert says(app, f"$ {app.copied}")

    drive(tmp_path, steps)


class Bare(WorkScreen):
    """A screen with a field and no actions."""

    NAME = "bare"

    def body(self) -> ComposeResult:
        yield Input()


def test_a_screen_with_a_field_keeps_letters_for_it_and_shows_only_keys_that_work(tmp_path):
    async def steps(app, pilot):
        assert not app.screen.query_one(CommandLine).command
        await pilot.press(*"qy?/")
        await settle(app, pilot)
        assert app.screen.query_one(Input).value == "qy?/"
        assert says(app, "f1 help") and says(app, "^q quit") and not says(app, "copy")
        await pilot.press("f1")
        assert isinstance(app.screen, HelpDialog)
        await pilot.press("escape", "escape")
        assert isinstance(app.screen, RunsScreen)

    drive(tmp_path, steps, screen=Bare)


def test_no_key_in_the_line_of_keys_is_cut_off(tmp_path):
    async def steps(app, pilot):
        labels = [f"{app.key_text(action, first=True)} {action.label}" for action in app.actions_here()]
        for width in range(60, 130, 7):
            await pilot.resize_terminal(width, 20)
            await settle(app, pilot)
            line = shown(app)[-1]
            assert line.rstrip().endswith("? help  q quit") and len(line.rstrip()) <= width
            assert all(part.strip() in labels for part in line.split("  ") if part.strip())

    drive(tmp_path, steps)


def test_a_click_on_a_key_presses_it(tmp_path):
    still_run(tmp_path, "a")

    async def steps(app, pilot):
        column = shown(app)[-1].index("space mark")
        await pilot.click(offset=(column + 2, 23))
        await settle(app, pilot)
        assert app.screen.marks == {"a"}

    drive(tmp_path, steps)
