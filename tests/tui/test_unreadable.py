"""What stands on the screens where a file of a run can not be read, a clock is wrong, or a run ends behind a dialog."""

import json
import os

import pytest

from readwrite_edit.cli import main
from readwrite_edit.runs.notes import Note, read_note
from readwrite_edit.runs.reader import read_run
from readwrite_edit.runs.writer import RunWriter
from readwrite_edit.tui.dialogs import ConfirmDialog
from readwrite_edit.tui.home.note_dialog import NoteDialog
from readwrite_edit.tui.home.runs_screen import RunsScreen
from readwrite_edit.tui.run.run_screen import RunScreen
from tests.tui.screens import LARGE, NOW, drive, make_run, notes, says, settle, shown, still_run, write_metrics


async def press(app, pilot, *keys):
    await pilot.press(*keys)
    await settle(app, pilot)


def pane_says(app, text):
    """Whether a sentence stands in the pane below the tabs, and not only in the state above them."""
    lines = shown(app)
    tabs = next(place for place, line in enumerate(lines) if "Curves" in line and "Report" in line)
    return any(text in line for line in lines[tabs:])


@pytest.mark.parametrize("kind", ["align", "probe", "edit"])
def test_each_pane_names_its_file_and_why_it_can_not_be_read(tmp_path, kind):
    with RunWriter.start(tmp_path / "run", recipe_text="", recipe_name="r", kind=kind) as run:
        run.mark("finished")
    for file in ("metrics.jsonl", "geometry.jsonl"):
        (tmp_path / "run" / file).unlink()
    (tmp_path / "run" / "metrics.jsonl").mkdir()
    os.mkfifo(tmp_path / "run" / "geometry.jsonl")
    (tmp_path / "run" / "summary.json").write_text('{"before": {')

    async def steps(app, pilot):
        assert pane_says(app, "metrics.jsonl can not be read: it is a folder")
        await press(app, pilot, "g")
        assert pane_says(app, "geometry.jsonl can not be read: it is a named pipe")
        assert says(app, "metrics.jsonl can not be read")
        await press(app, pilot, "p")
        assert pane_says(app, "summary.json can not be read: it is not valid JSON")
        (tmp_path / "run" / "summary.json").unlink()
        app.screen._refresh()
        await settle(app, pilot)
        assert pane_says(app, "No result: this run is finished and wrote none.")

    drive(tmp_path, steps, screen=lambda: RunScreen(tmp_path / "run"))


def test_panes_change_from_not_yet_to_never_when_the_run_ends(tmp_path):
    run = RunWriter.start(tmp_path / "run", recipe_text="", recipe_name="r")

    async def steps(app, pilot):
        assert pane_says(app, "No values yet")
        await press(app, pilot, "g")
        assert pane_says(app, "No snapshot yet")
        run.mark("finished")
        run.close()
        app.screen._refresh()
        await settle(app, pilot)
        assert pane_says(app, "No geometry: this run is finished and recorded none.")
        await press(app, pilot, "c")
        assert pane_says(app, "No values: this run is finished and logged none.")

    drive(tmp_path, steps, screen=lambda: RunScreen(tmp_path / "run"))


def test_the_list_says_of_the_chosen_row_what_can_not_be_read(tmp_path):
    path = still_run(tmp_path, "a", losses=[1.0])
    (path / "metrics.jsonl").unlink()
    (path / "metrics.jsonl").mkdir()

    async def steps(app, pilot):
        assert says(app, "metrics.jsonl can not be read: it is a folder")

    drive(tmp_path, steps)


def test_a_last_line_of_ten_megabytes_leaves_loss_and_trend_as_they_were(tmp_path):
    path = still_run(tmp_path, "a")
    write_metrics(path, [{"loss": 1 - step / 4000} for step in range(3000)])

    async def steps(app, pilot):
        def row():
            return next(line for line in shown(app) if "✓ finished" in line)

        before = row()
        assert "0.2502" in before and "█" in before
        with (path / "metrics.jsonl").open("a") as stream:
            stream.write('{"x": "' + "y" * 10_000_000 + '"}\n')
        await press(app, pilot, "r")
        assert row() == before

    drive(tmp_path, steps, clock=lambda: NOW)


# ---- a clock that is ahead


def test_a_heartbeat_in_the_future_is_said_in_words_and_is_no_age(tmp_path, capsys):
    still_run(tmp_path, "ended", age_s=-3 * 3600 - 60)
    still_run(tmp_path, "lives", age_s=-3 * 3600 - 60, status="running", started_s=NOW)
    now = [NOW]

    async def steps(app, pilot):
        for _ in range(2):
            for row in ("ended", "lives"):
                line = next(line for line in shown(app) if f" {row}" in line and "align" in line)
                assert " ahead " in line
                assert says(app, "last sign in the future (clock ahead by 3 h)")
                await press(app, pilot, "down")
            await press(app, pilot, "home")
            now[0] += 30  # an ended run is not read again, only counted on
            await press(app, pilot, "r")
        await press(app, pilot, "enter")
        assert says(app, "its clock is ahead of this machine's by 3 h")
        now[0] += 4 * 3600 - 90
        await press(app, pilot, "escape", "end", "r")
        assert says(app, "last sign 58 min ago")

    drive(tmp_path, steps, LARGE, clock=lambda: now[0])
    view = read_run(tmp_path / "ended", now=NOW)
    assert (view.age_s, round(view.ahead_s)) == (0.0, 3 * 3600 + 60) and view.aged(-60).ahead_s > view.ahead_s
    assert read_run(tmp_path / "ended", now=NOW + 3 * 3600 + 57).ahead_s == 0.0  # clocks never agree to the second
    state = json.loads((tmp_path / "ended" / "state.json").read_text())
    (tmp_path / "ended" / "state.json").write_text(json.dumps(state | {"heartbeat_s": 1e308}))
    assert main(["runs", "show", "ended", "--root", str(tmp_path)]) == 0
    assert "heartbeat  in the future (clock ahead by 9999+ d), pid 4242" in capsys.readouterr().out
    assert main(["runs", "ls", "--root", str(tmp_path)]) == 0
    assert "9999+ d ahead" in capsys.readouterr().out


# ---- behind a dialog


def test_a_run_that_ends_behind_a_dialog_is_seen_there_and_not_acted_on(tmp_path):
    run = make_run(tmp_path, "a", status=None)

    async def steps(app, pilot):
        await press(app, pilot, "s")
        assert isinstance(app.screen, ConfirmDialog) and says(app, "▶ running")
        run.mark("finished")
        run.close()
        app.screen_stack[0].read_again()
        await settle(app, pilot)
        assert says(app, "✓ finished") and not says(app, "▶ running")
        await press(app, pilot, "y")
        assert "ended meanwhile" in notes(app)[-1] and not run.stop_requested()
        assert not says(app, "$ readwrite-edit runs stop")

    drive(tmp_path, steps)


def test_the_list_is_read_at_once_when_a_dialog_closes(tmp_path, monkeypatch):
    monkeypatch.setattr("readwrite_edit.tui.home.runs_screen.REFRESH_EVERY_S", 1000.0)
    run = make_run(tmp_path, "a", status=None)

    async def steps(app, pilot):
        await press(app, pilot, "s")
        run.mark("finished")
        run.close()
        await press(app, pilot, "n")
        assert says(app, "✓ finished")
        await press(app, pilot, "s")
        assert isinstance(app.screen, RunsScreen) and "nothing to stop" in notes(app)[-1]

    drive(tmp_path, steps)


def test_what_was_deleted_or_taken_up_behind_a_dialog_is_left_alone(tmp_path):
    still_run(tmp_path, "a")
    path = make_run(tmp_path, "b", status="stopped").folder.path

    async def steps(app, pilot):
        await press(app, pilot, "end", "t")
        assert isinstance(app.screen, NoteDialog)
        (tmp_path / "a").rename(tmp_path / ".gone")
        await press(app, pilot, *"x", "enter")
        assert "was deleted meanwhile" in notes(app)[-1] and read_note(tmp_path, "a") == Note()
        await press(app, pilot, "home", "d")
        with RunWriter.resume(path):
            await press(app, pilot, "y")
            await settle(app, pilot)
            assert "stop it first" in notes(app)[-1] and path.is_dir()

    drive(tmp_path, steps)
