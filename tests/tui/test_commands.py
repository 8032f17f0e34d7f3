"""The command above the line of keys is that of what is on the screen, and does what was done."""

import shlex

import pytest

from readwrite_edit import queue
from readwrite_edit.cli import build_parser, main
from readwrite_edit.runs.notes import Note, read_note, write_note
from readwrite_edit.runs.writer import RunWriter
from readwrite_edit.tui.frame import CommandLine
from readwrite_edit.tui.home.runs_screen import RunsScreen
from readwrite_edit.tui.launches import Launches
from readwrite_edit.tui.run.run_screen import TABS, RunScreen, command_of
from tests.tui.screens import LARGE, drive, geometry_rows, make_run, notes, settle, still_run


async def press(app, pilot, *keys):
    await pilot.press(*keys)
    await settle(app, pilot)


def command(app):
    """The arguments of the command that is shown."""
    return shlex.split(app.screen.query_one(CommandLine).command)[1:]


def test_each_tab_shows_its_own_command_however_it_was_opened(tmp_path):
    path = make_run(tmp_path, "a").folder.path

    async def steps(app, pilot):
        assert command(app) == ["runs", "tail", str(path)]
        for key, tab in zip("lgipc", ("console", "geometry", "recipe", "report", "curves"), strict=True):
            await press(app, pilot, key)
            assert command(app) == command_of(tab, path)
        await pilot.click("#--content-tab-tab-console")
        await settle(app, pilot)
        assert command(app) == ["runs", "tail", "--console", str(path)]

    drive(tmp_path, steps, LARGE, screen=lambda: RunScreen(path))
    for tab in TABS:
        build_parser().parse_args(command_of(tab, path))  # a command that there is


def test_the_recipe_s_command_prints_it(tmp_path, capsys):
    path = still_run(tmp_path, "a")
    assert main(command_of("recipe", path)) == 0
    assert capsys.readouterr().out == (path / "recipe.yaml").read_text()


def test_the_geometry_s_command_has_its_quantity_and_step(tmp_path):
    with RunWriter.start(tmp_path / "a", recipe_text="", recipe_name="r") as run:
        for step in (0, 4):
            run.log_geometry(step, geometry_rows(2, 0.5))
        run.mark("finished")

    async def steps(app, pilot):
        await press(app, pilot, "g", "v", "comma")
        own = ["geometry", str(tmp_path / "a"), "--step", "0", "--quantity", "read-isotropic"]
        assert command(app) == own
        await press(app, pilot, "c", "g")
        assert command(app) == own
        await press(app, pilot, "full_stop")
        assert command(app) == [*own[:2], *own[4:]]

    drive(tmp_path, steps, screen=lambda: RunScreen(tmp_path / "a"))


def test_a_tab_of_a_run_drops_the_command_of_what_was_done(tmp_path):
    run = make_run(tmp_path, "a", status=None)

    async def steps(app, pilot):
        await press(app, pilot, "l", "s", "n")
        assert command(app) == ["runs", "tail", "--console", str(tmp_path / "a")]
        await press(app, pilot, "s", "y")
        assert command(app) == ["runs", "stop", str(tmp_path / "a")]
        await press(app, pilot, "l")
        assert command(app)[:2] == ["runs", "tail"]

    drive(tmp_path, steps, screen=lambda: RunScreen(tmp_path / "a"))
    run.close()


@pytest.mark.parametrize("keys", [("down",), ("space",), ("o",), ("O",), ("slash", "a"), ("a",), ("r",)])
def test_the_list_drops_the_command_of_a_row_when_it_is_left(tmp_path, monkeypatch, keys):
    monkeypatch.setattr(Launches, "start", lambda self, argv, name: None)
    for name in "ab":
        still_run(tmp_path, name, status="stopped")

    async def steps(app, pilot):
        own = ["runs", "ls", "--root", str(tmp_path)]
        assert command(app) == own
        await press(app, pilot, "u")
        assert command(app) == ["align", "--resume", str(tmp_path / "b")]
        app.screen.read_again()
        await settle(app, pilot)
        assert command(app)[0] == "align"  # it is still that row
        await press(app, pilot, *keys)
        assert command(app) == own

    drive(tmp_path, steps)


def test_another_screen_shows_its_own_and_the_list_its_own_again(tmp_path, monkeypatch):
    monkeypatch.setattr(Launches, "start", lambda self, argv, name: None)
    still_run(tmp_path, "a", status="stopped")

    async def steps(app, pilot):
        await press(app, pilot, "u", "enter")
        assert command(app)[:2] == ["runs", "tail"]
        await press(app, pilot, "escape")
        assert isinstance(app.screen, RunsScreen) and command(app)[:2] == ["runs", "ls"]

    drive(tmp_path, steps)


def test_a_question_answered_with_no_leaves_no_command(tmp_path):
    run = make_run(tmp_path, "b", status=None)
    still_run(tmp_path, "a")
    queue.add(tmp_path, ["align", "--recipe", "dpo_lora"], "waits", device="cpu")

    async def steps(app, pilot):
        own = ["runs", "ls", "--root", str(tmp_path)]
        for keys in (("home", "s", "n"), ("down", "s", "n"), ("end", "d", "n"), ("t", "escape")):
            await press(app, pilot, *keys)
            assert command(app) == own, keys

    drive(tmp_path, steps)
    run.close()


def test_the_command_of_a_deletion_stays_until_the_cursor_moves(tmp_path):
    for name in ("a", "b", "-c"):
        still_run(tmp_path, name)

    async def steps(app, pilot):
        await press(app, pilot, "end", "d", "y")
        await settle(app, pilot)
        assert command(app) == ["runs", "rm", "--root", str(tmp_path), "--", "-c"] and not (tmp_path / "-c").exists()
        await press(app, pilot, "home", "d", "y")
        await settle(app, pilot)
        assert command(app) == ["runs", "rm", "b", "--root", str(tmp_path)]
        await press(app, pilot, "r")
        assert command(app)[:2] == ["runs", "ls"]

    drive(tmp_path, steps)


def test_the_command_of_a_note_writes_the_same_note(tmp_path):
    still_run(tmp_path, "a")
    before = Note("old", ("keep", "gone"))
    write_note(tmp_path, "a", before)

    async def steps(app, pilot):
        await press(app, pilot, "t", "backspace", "backspace", "backspace", *"-x", "tab", "backspace")
        await press(app, pilot, *["backspace"] * 5, *"new", "enter")
        return command(app), read_note(tmp_path, "a")

    argv, written = drive(tmp_path, steps)
    write_note(tmp_path, "a", before)
    assert main(argv) == 0 and read_note(tmp_path, "a") == written != before


def test_the_same_run_under_two_names_is_not_compared(tmp_path):
    still_run(tmp_path, "a")
    (tmp_path / "b").symlink_to("a")

    async def steps(app, pilot):
        await press(app, pilot, "a", "c")
        assert isinstance(app.screen, RunsScreen) and "are the same run" in notes(app)[-1]

    drive(tmp_path, steps)
