"""The list of runs, driven by keys."""

import json
import os
from pathlib import Path

import pytest

from readwrite_edit import queue
from readwrite_edit.runs.folder import RunFolder
from readwrite_edit.runs.notes import Note, read_note, write_note
from readwrite_edit.tui.dialogs import ConfirmDialog, HelpDialog, TypedDialog
from readwrite_edit.tui.home.note_dialog import NoteDialog
from readwrite_edit.tui.home.runs_screen import RunsScreen
from readwrite_edit.tui.launches import Launches
from tests.tui.screens import LARGE, NOW, SMALL, drive, make_run, notes, pictured, says, settle, shown, still_run


def names(app):
    return [row.name for row in app.screen.runs.rows]


def line_with(app, text):
    return next(line for line in shown(app) if text in line)


async def press(app, pilot, *keys):
    await pilot.press(*keys)
    await settle(app, pilot)


def test_a_row_has_word_glyph_step_trend_loss_and_age_within_80_columns(tmp_path):
    still_run(tmp_path, "a-run", losses=[0.9, 0.5, 0.75, 0.1], age_s=130)

    async def steps(app, pilot):
        line = line_with(app, "✓ finished")
        assert line.split() == ["✓", "finished", "align", "dpo_readonly", "4/4", "█▅▇▁", "0.1", "2", "min", "a-run"]
        assert says(app, "1 finished") and says(app, "⏎ open") and says(app, "q quit")
        assert says(app, f"$ readwrite-edit runs ls --root {tmp_path}"[:60])

    drive(tmp_path, steps, clock=lambda: NOW)


def test_a_loss_that_is_not_finite_is_said(tmp_path):
    path = still_run(tmp_path, "a", losses=[0.9, 0.5])
    with open(path / "metrics.jsonl", "a") as stream:
        line = {"step": 3, "segment": 0, "kind": "train", "values": {"loss": None}, "nonfinite": ["loss"]}
        stream.write(json.dumps(line) + "\n")

    async def steps(app, pilot):
        assert {"█▁×", "nan"} <= set(line_with(app, "✓ finished").split())

    drive(tmp_path, steps)


def test_an_empty_folder_says_how_to_start_and_keys_that_need_a_run_say_so(tmp_path):
    async def steps(app, pilot):
        assert says(app, "No runs in") and says(app, "Press n") and says(app, "readwrite-edit align")
        await press(app, pilot, "enter", "s", "d", "space")
        assert isinstance(app.screen, RunsScreen)
        assert [note.split(":")[0] for note in notes(app)] == ["open", "stop", "delete", "mark"]
        assert all("there are no runs yet" in note for note in notes(app))

    drive(tmp_path / "missing", steps)


def test_a_root_that_is_a_file_is_said_not_raised(tmp_path):
    (tmp_path / "file").touch()

    async def steps(app, pilot):
        assert says(app, "name a folder of runs")

    drive(tmp_path / "file", steps)


def test_the_list_follows_the_folders_and_the_cursor_stays_on_its_run(tmp_path):
    make_run(tmp_path, "a")
    make_run(tmp_path, "b")

    async def steps(app, pilot):
        await press(app, pilot, "down")
        chosen = app.screen.chosen.name
        run = make_run(tmp_path, "c", status=None)
        await press(app, pilot, "r")
        assert len(names(app)) == 3 and app.screen.chosen.name == chosen
        assert says(app, "▶ running")
        run.log_metrics(13, {"loss": 0.123})
        run.mark("failed", "out of memory")
        run.close()
        await press(app, pilot, "r")
        assert says(app, "✗ failed") and says(app, "0.123") and not says(app, "▶ running")
        assert app.screen.chosen.name == chosen
        await press(app, pilot, "up", "up")
        assert says(app, "out of memory")

    drive(tmp_path, steps)


def test_a_filter_takes_words_over_name_recipe_kind_status_tags_and_note(tmp_path):
    still_run(tmp_path, "first", recipe="dpo_lora", status="failed", error="no memory")
    still_run(tmp_path, "second", recipe="delta", kind="probe")
    still_run(tmp_path, "third", recipe="dpo_readonly")
    write_note(tmp_path, "third", Note("looks right", ("keep",)))

    async def steps(app, pilot):
        for typed, found in (("fir", ["first"]), ("PROBE", ["second"]), ("failed dpo", ["first"]), ("keep", ["third"]),
                             ("right", ["third"]), ("dq/-o", [])):  # fmt: skip
            await pilot.press("slash", *("space" if char == " " else char for char in typed))
            assert names(app) == found, typed
            await pilot.press("escape")
            assert len(names(app)) == 3
        await press(app, pilot, "slash", *"dpo", "enter", "s")
        assert "nothing to stop" in notes(app)[-1]
        assert says(app, "2 with 'dpo'") and says(app, "/ dpo")
        await press(app, pilot, "slash", "escape")
        assert len(names(app)) == 3 and not says(app, "/ dpo")

    drive(tmp_path, steps)


def test_sorting_goes_through_the_columns_and_turns_round(tmp_path):
    for name, recipe, losses, age_s in (("a", "z", [3, 2], 10), ("b", "y", [1], 30), ("c", "x", [], 20)):
        still_run(tmp_path, name, recipe=recipe, losses=losses, age_s=age_s, started_s=NOW - age_s)

    async def steps(app, pilot):
        seen = {}
        for _ in range(9):
            arrows = [word for line in shown(app)[1:2] for word in line.split() if "↓" in word]
            seen["".join(arrows)] = names(app)
            await press(app, pilot, "o")
        assert seen[""] == ["a", "c", "b"] and seen["recipe↓"] == ["c", "b", "a"]
        assert seen["loss↓"] == ["b", "a", "c"] and seen["age↓"] == ["a", "c", "b"] and seen["step↓"] == ["a", "b", "c"]
        before = names(app)
        await press(app, pilot, "O")
        assert names(app) == before[::-1] and says(app, "↑") == says(app, "↓")

    drive(tmp_path, steps, LARGE, clock=lambda: NOW)


def test_marks_are_seen_counted_and_outlive_a_filter(tmp_path):
    for name in "abc":
        still_run(tmp_path, name, recipe=f"recipe-{name}")

    async def steps(app, pilot):
        await press(app, pilot, "space", "space")
        assert says(app, "2 marked") and "●" in line_with(app, "recipe-c") and "●" not in line_with(app, "recipe-a")
        await press(app, pilot, "a")
        assert not app.screen.marks
        await press(app, pilot, "slash", *"recipe-a", "enter", "a", "slash", "escape")
        assert app.screen.marks == {"a"}

    drive(tmp_path, steps)


def test_deleting_names_the_runs_and_takes_only_yes(tmp_path):
    for name in "abc":
        still_run(tmp_path, name)

    async def steps(app, pilot):
        await press(app, pilot, "space", "space", "d")
        assert isinstance(app.screen, ConfirmDialog)
        assert says(app, "these 2 runs") and says(app, "  c ") and says(app, "readwrite-edit runs rm c b --root")
        await press(app, pilot, "n")
        assert len(list(tmp_path.iterdir())) == 3
        await press(app, pilot, "d", "y")
        await settle(app, pilot)
        assert names(app) == ["a"] and "deleted 2 runs" in notes(app)
        assert not (tmp_path / "b").exists() and (tmp_path / "a").exists()

    drive(tmp_path, steps)


def test_deleting_more_than_five_wants_their_number_typed(tmp_path):
    for name in "abcdef":
        still_run(tmp_path, name)

    async def steps(app, pilot):
        await press(app, pilot, "a", "d", "y", "enter")
        assert isinstance(app.screen, TypedDialog) and any("type 6" in note for note in notes(app))
        await press(app, pilot, "backspace", "6", "enter")
        await settle(app, pilot)
        assert names(app) == []

    drive(tmp_path, steps)


def test_a_run_that_lives_and_a_folder_that_is_no_run_are_not_deleted(tmp_path):
    run = make_run(tmp_path, "lives", status=None)
    (tmp_path / "mine").mkdir()

    async def steps(app, pilot):
        await press(app, pilot, "d")
        assert "stop it first" in notes(app)[-1] and isinstance(app.screen, RunsScreen)
        await press(app, pilot, "end", "d", "y")
        await settle(app, pilot)
        assert "is not a run folder" in notes(app)[-1] and (tmp_path / "mine").is_dir()

    drive(tmp_path, steps)
    run.close()


def test_a_note_and_tags_are_written_beside_the_run_and_shown(tmp_path):
    path = still_run(tmp_path, "a")

    async def steps(app, pilot):
        await press(app, pilot, "t")
        assert isinstance(app.screen, NoteDialog)
        await press(app, pilot, *"[red]x", "tab", *"keep,base", "enter")
        assert says(app, "keep base") and says(app, "note: [red]x")
        await press(app, pilot, "t", *"zzz", "escape")
        assert read_note(tmp_path, "a") == Note("[red]x", ("keep", "base"))

    drive(tmp_path, steps, LARGE)
    assert {entry.name for entry in path.iterdir()} == {"state.json", "recipe.yaml", "metrics.jsonl"}


def test_stop_asks_first_and_writes_the_request_only_on_yes(tmp_path):
    run = make_run(tmp_path, status=None)

    async def steps(app, pilot):
        for key in ("n", "escape"):
            await press(app, pilot, "s")
            assert isinstance(app.screen, ConfirmDialog) and says(app, "readwrite-edit runs stop")
            await press(app, pilot, key)
            assert not run.stop_requested()
        await press(app, pilot, "s", "y")
        assert run.stop_requested()
        await press(app, pilot, "r")
        assert says(app, "▷ stopping")

    drive(tmp_path, steps)
    run.close()


def test_stop_on_an_ended_run_says_why_not(tmp_path):
    make_run(tmp_path)

    async def steps(app, pilot):
        await press(app, pilot, "s")
        assert isinstance(app.screen, RunsScreen)
        assert "is finished: there is nothing to stop" in notes(app)[-1]

    drive(tmp_path, steps)
    assert not (tmp_path / "20250101-000000-dpo" / "requests").exists()


def test_a_run_that_ended_while_the_question_stood_gets_no_request(tmp_path):
    run = make_run(tmp_path, status=None)

    async def steps(app, pilot):
        await press(app, pilot, "s")
        run.mark("finished")
        await press(app, pilot, "y")
        assert "ended meanwhile" in notes(app)[-1]

    drive(tmp_path, steps)
    run.close()
    assert not run.stop_requested()


def test_a_run_that_does_not_heed_the_request_is_offered_sigterm_then_sigkill(tmp_path, monkeypatch):
    run, sent, now = make_run(tmp_path, status=None), [], [NOW]
    monkeypatch.setattr("readwrite_edit.runs.termination.terminate", lambda path: sent.append(("TERM", path)))
    monkeypatch.setattr("readwrite_edit.runs.termination.kill", lambda path: sent.append(("KILL", path)))
    path = run.folder.path

    async def steps(app, pilot):
        await press(app, pilot, "s", "y")
        os.utime(run.folder.stop_request, (NOW, NOW))
        now[0] += 59
        await press(app, pilot, "s")
        assert "asked to stop 59 s ago" in notes(app)[-1]
        now[0] += 2
        await press(app, pilot, "r")
        assert "still lives 60 s after" in notes(app)[-1]
        await press(app, pilot, "s")
        assert isinstance(app.screen, ConfirmDialog) and says(app, "SIGTERM")
        await press(app, pilot, "n", "s", "y")
        assert sent == [("TERM", path)]
        now[0] += 5
        await press(app, pilot, "s")
        assert isinstance(app.screen, RunsScreen) and sent == [("TERM", path)]
        now[0] += 6
        await press(app, pilot, "s", "y", "enter")
        assert isinstance(app.screen, TypedDialog) and says(app, "SIGKILL") and len(sent) == 1
        await press(app, pilot, "backspace", *path.name, "enter")
        assert sent == [("TERM", path), ("KILL", path)]

    drive(tmp_path, steps, clock=lambda: now[0])
    run.close()


def test_resume_starts_the_command_of_the_run_s_kind_and_shows_it(tmp_path, monkeypatch):
    still_run(tmp_path, "done")
    still_run(tmp_path, "half", status="stopped", started_s=NOW)
    started = []
    monkeypatch.setattr(Launches, "start", lambda self, argv, name: started.append((argv, name)))

    async def steps(app, pilot):
        await press(app, pilot, "u")
        assert started == [(["align", "--resume", str(tmp_path / "half")], "half")]
        assert says(app, "$ readwrite-edit align --resume")
        await press(app, pilot, "down", "u")
        assert len(started) == 1 and "is finished" in notes(app)[-1]

    drive(tmp_path, steps)


def test_what_waits_in_the_queue_is_a_row_that_can_be_cancelled_and_paused(tmp_path, monkeypatch):
    still_run(tmp_path, "a")
    runners = []
    monkeypatch.setattr(queue, "ensure_runner", runners.append)
    queue.add(tmp_path, ["align", "--recipe", "dpo_lora.yaml"], "[b]waits\x1b[31m")

    async def steps(app, pilot):
        assert "[b]waits\\x1b[31m" in line_with(app, "· queued") and says(app, "queue: 1 waiting, nobody runs it")
        await press(app, pilot, "enter")
        assert isinstance(app.screen, RunsScreen) and "has not begun" in notes(app)[-1]
        await press(app, pilot, "p")
        assert runners == [tmp_path]
        monkeypatch.setattr(queue, "runner_alive", lambda root: True)
        await press(app, pilot, "r", "p")
        assert queue.is_paused(tmp_path) and says(app, "queue paused, 1 waiting") and says(app, "queue pause --root")
        await press(app, pilot, "p")
        assert not queue.is_paused(tmp_path)
        await press(app, pilot, "home", "s", "y")
        assert not says(app, "queued") and not any(item.state == "waiting" for item in queue.items(tmp_path))

    drive(tmp_path, steps, LARGE)


def test_actions_that_do_not_apply_say_why(tmp_path):
    still_run(tmp_path, "a", kind="probe")

    async def steps(app, pilot):
        for key, reason in (("c", "mark two to four"), ("x", "has no adapter"), ("p", "nothing waits"),
                            ("escape", "first screen")):  # fmt: skip
            await press(app, pilot, key)
            assert reason in notes(app)[-1] and isinstance(app.screen, RunsScreen)

    drive(tmp_path, steps)


def test_help_lists_the_keys_of_the_open_screen_and_q_quits(tmp_path):
    make_run(tmp_path)

    async def steps(app, pilot):
        await press(app, pilot, "question_mark")
        assert isinstance(app.screen, HelpDialog) and says(app, "⏎  Open the run under the cursor")
        await press(app, pilot, "escape", "q")
        return app

    assert drive(tmp_path, steps).return_code == 0


def test_hostile_folders_are_rows_and_their_text_is_data(tmp_path):
    still_run(tmp_path, "[red]markup[", recipe="[/bold]\x1b[31mx")
    (tmp_path / "\x1b]0;title\x07").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    newer = tmp_path / "newer"
    newer.mkdir()
    (newer / "state.json").write_text('{"schema": 99}')
    shut = still_run(tmp_path, "shut")
    (shut / "state.json").unlink()
    os.mkfifo(shut / "state.json")
    future = still_run(tmp_path, "future", age_s=-9e9)
    (future / "metrics.jsonl").write_bytes(b"x" * 10_000_000 + b"\n\xff\xfe\n[1]\n{}\n")
    lines = [{"step": 1, "segment": 0, "kind": "train", "values": {"loss": 10**400}}, {"step": "x", "values": 3}]
    text = "\n".join(map(json.dumps, lines)) + "\n" + "y" * 2_000_000
    (tmp_path / "[red]markup[" / "metrics.jsonl").write_text(text)

    async def steps(app, pilot):
        await press(app, pilot, *["down"] * 6)
        assert says(app, "[red]markup[") and says(app, "[/bold]\\x1b[31mx")
        assert says(app, "\\x1b]0;title\\x07") and says(app, "3 broken")
        assert says(app, "written by a newer version") and says(app, "state.json can not be read")
        assert "\x1b" not in "".join(shown(app))

    drive(tmp_path, steps, LARGE)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_rights_is_one_row(tmp_path):
    path = still_run(tmp_path, "shut")
    path.chmod(0)

    async def steps(app, pilot):
        assert says(app, "! broken") and says(app, "can not be read")

    try:
        drive(tmp_path, steps)
    finally:
        path.chmod(0o700)


@pytest.mark.parametrize("size", [(60, 16), SMALL, LARGE, (200, 50)])
def test_lines_end_within_the_screen_and_the_cursor_stays_in_view(tmp_path, size):
    for number in range(60):
        still_run(tmp_path, f"run-{number:02}-宽-" + "long" * 20, recipe="recipe-" + "宽" * 30, started_s=NOW + number)

    async def steps(app, pilot):
        await press(app, pilot, "end")
        assert app.screen.chosen.name.startswith("run-00") and says(app, "run-00")
        await press(app, pilot, "pageup", "home")
        assert app.screen.chosen.name.startswith("run-59") and app.screen.runs.seen[0] == app.screen.chosen
        assert says(app, "…") and says(app, "q quit")

    drive(tmp_path, steps, size)


def test_only_rows_in_view_are_looked_into_until_they_are_sorted_by_loss(tmp_path):
    for number in range(40):
        still_run(tmp_path, f"run-{number:02}", losses=[1.0, 0.5], started_s=NOW + number)

    async def steps(app, pilot):
        known = app.screen.runs.traces
        assert "run-39" in known and "run-00" not in known
        await press(app, pilot, "end")
        assert "run-00" in known and "run-20" not in known
        await press(app, pilot, *"ooooo")
        assert len(known) == 40

    drive(tmp_path, steps)


def gallery(root):
    """One run in each condition."""
    root.mkdir()
    still_run(root, "20250615-130000-dpo_readonly", losses=[0.69 - 0.02 * n for n in range(24)], status="running",
              age_s=4, max_steps=48, started_s=NOW - 600)  # fmt: skip
    still_run(root, "20250615-120000-dpo_lora", recipe="dpo_lora", losses=[0.69, 0.64, 0.71, 2.5], status="failed",
              error="the loss is not finite at step 5", age_s=5000)  # fmt: skip
    still_run(root, "20250615-110000-dpo_lora", recipe="dpo_lora", losses=[0.7, 0.6], status="running", age_s=1300,
              hostname="far-away")  # fmt: skip
    still_run(root, "20250615-100000-probe-delta", recipe="delta", kind="probe", step=272, max_steps=272, age_s=9000)
    write_note(root, "20250615-100000-probe-delta", Note("reads what it should", ("keep", "table 2")))
    (root / "empty").mkdir()
    foreign = root / "photos"
    foreign.mkdir()
    (foreign / "state.json").write_text("[1, 2]")
    queue.add(root, ["align", "--recipe", "dpo_contrastive.yaml"], "contrastive next")


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("colour", [True, False], ids=["colour", "no_colour"])
def test_it_looks_so(tmp_path, snap_compare, monkeypatch, size, colour):
    monkeypatch.delenv("NO_COLOR", raising=False)
    if not colour:
        monkeypatch.setenv("NO_COLOR", "1")
    gallery(tmp_path / "runs")

    async def steps(app, pilot):
        await pilot.press("down", "down", "space")

    assert pictured(snap_compare, tmp_path, steps, size)


def test_an_empty_folder_looks_so(tmp_path, snap_compare):
    (tmp_path / "runs").mkdir()
    assert pictured(snap_compare, tmp_path)


def test_the_files_of_a_run_are_never_touched(tmp_path):
    path = still_run(tmp_path, "a", losses=[1, 2])
    before = {entry: entry.stat().st_mtime_ns for entry in Path(path).iterdir()}

    async def steps(app, pilot):
        await press(app, pilot, "r", "space", "o", "slash", "a", "enter", "question_mark", "escape")

    drive(tmp_path, steps)
    assert {entry: entry.stat().st_mtime_ns for entry in path.iterdir()} == before
    assert not RunFolder(path).lock.exists()
