"""What a reader says of a run: status in words, cursors over growing files, finding a run by name."""

import json
import os
import socket

import pytest

from readwrite_edit.cli import main
from readwrite_edit.queue.finding import find_run
from readwrite_edit.runs.cursor import Cursor
from readwrite_edit.runs.folder import FolderError
from readwrite_edit.runs.reader import last_value, list_runs, read_run, summary
from readwrite_edit.runs.wording import age_text, number_text
from readwrite_edit.runs.writer import RunWriter

HERE = socket.gethostname()


def write_state(path, **fields):
    path.mkdir(parents=True, exist_ok=True)
    content = {
        "schema": 1,
        "status": "running",
        "kind": "align",
        "recipe": "dpo",
        "hostname": HERE,
        "heartbeat_s": 1000.0,
    }
    (path / "state.json").write_text(json.dumps(content | fields))
    return path


@pytest.mark.parametrize("status", ["queued", "stopped", "finished", "failed"])
def test_a_status_that_needs_no_process_is_taken_as_it_is(tmp_path, status):
    assert read_run(write_state(tmp_path, status=status)).status == status


def test_running_here_without_a_process_is_failed(tmp_path):
    view = read_run(write_state(tmp_path), now=1001.0)
    assert (view.status, view.reason) == ("failed", "its process is gone")


def test_running_elsewhere_is_believed_then_silent(tmp_path):
    write_state(tmp_path, hostname="elsewhere")
    assert read_run(tmp_path, now=1010.0).status == "running"
    view = read_run(tmp_path, now=1000.0 + 12 * 60)
    assert (view.status, view.reason) == ("silent", "silent 12 min on elsewhere")


def test_a_stop_request_shows_while_the_run_still_says_running(tmp_path):
    write_state(tmp_path, hostname="elsewhere")
    (tmp_path / "requests").mkdir()
    (tmp_path / "requests" / "stop").touch()
    assert read_run(tmp_path, now=1001.0).status == "stopping"


def test_a_clock_in_the_future_is_no_negative_age(tmp_path):
    view = read_run(write_state(tmp_path, hostname="elsewhere", heartbeat_s=9e9), now=1000.0)
    assert (view.status, view.age_s) == ("running", 0.0)


def test_a_living_run_without_heartbeat_says_so(tmp_path):
    with RunWriter.start(tmp_path / "run", recipe_text="", recipe_name="dpo") as run:
        view = read_run(tmp_path / "run", now=run.state.heartbeat_s + 600)
        assert (view.status, view.reason) == ("running", "silent 10 min")


def test_an_end_between_state_and_lock_is_not_called_failed(tmp_path, monkeypatch):
    write_state(tmp_path)

    def ends_meanwhile(path):
        write_state(tmp_path, status="finished")
        return False

    monkeypatch.setattr("readwrite_edit.runs.reader.is_locked", ends_meanwhile)
    assert read_run(tmp_path).status == "finished"


def test_cursor_gives_each_line_once_and_waits_for_a_newline(tmp_path):
    path = tmp_path / "m.jsonl"
    cursor = Cursor(path)
    assert cursor.read() == []
    for part, seen in (('{"a": 1}\n{"a"', [{"a": 1}]), (": 2", []), ("}\n", [{"a": 2}]), ("", [])):
        with path.open("a") as stream:
            stream.write(part)
        assert cursor.read() == seen
    assert cursor.offset == path.stat().st_size


def test_cursor_counts_garbage_and_goes_on(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"a": 1}\n\x00\xff\xfe\n[1]\nNaN\n\n{"a": NaN}\n' + b"[" * 100_000 + b'\n{"a": 2}\n')
    cursor = Cursor(path)
    assert cursor.read() == [{"a": 1}, {"a": 2}]
    assert cursor.garbage == 5


def test_cursor_skips_an_overlong_line_also_when_it_comes_in_parts(tmp_path):
    path = tmp_path / "m.jsonl"
    cursor = Cursor(path)
    path.write_bytes(b'{"a": 1}\n{"b": "' + b"x" * 6_000_000)
    assert cursor.read() == [{"a": 1}]
    assert cursor.offset == 9
    with path.open("ab") as stream:
        stream.write(b"x" * 4_000_000)
    assert cursor.read() == []
    with path.open("ab") as stream:
        stream.write(b'"}\n{"a": 2}\n{"a": 3}\n')
    assert cursor.read() == [{"a": 2}, {"a": 3}]
    assert (cursor.garbage, cursor.offset) == (1, path.stat().st_size)


def test_cursor_survives_the_cut_of_a_torn_overlong_line(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"a": 1}\n' + b"x" * 3_000_000)
    cursor = Cursor(path)
    cursor.read()
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n')
    assert cursor.read() == [{"a": 2}]
    assert cursor.generation == 0


def test_cursor_starts_again_on_a_shorter_or_another_file(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n')
    cursor = Cursor(path)
    cursor.read()
    path.write_text('{"a": 3}\n')
    assert (cursor.read(), cursor.generation) == ([{"a": 3}], 1)
    (tmp_path / "other").write_text('{"a": 4}\n{"a": 5}\n{"a": 6}\n')
    os.replace(tmp_path / "other", path)
    assert (len(cursor.read()), cursor.generation) == (3, 2)


def test_last_value_is_found_at_the_end_of_a_long_file(tmp_path):
    line = '{{"step": {}, "segment": 0, "kind": "{}", "values": {{"loss": {}}}}}\n'
    text = "".join(line.format(step, "train", step / 2) for step in range(5000)) + line.format(5000, "eval", 9)
    (tmp_path / "metrics.jsonl").write_text(text + '{"step": 5001, "segment": 0, "kind": "train", "values": {}}\ntorn')
    assert last_value(tmp_path, "loss") == 4999 / 2


def test_last_value_that_was_not_finite_or_never_logged(tmp_path):
    assert last_value(tmp_path, "loss") is None
    line = '{"step": 1, "segment": 0, "kind": "train", "values": {"loss": null}}\n'
    (tmp_path / "metrics.jsonl").write_text(line + "torn")
    assert number_text(last_value(tmp_path, "loss")) == "nan"
    assert last_value(tmp_path, "grad_norm") is None


def test_runs_are_listed_newest_first_and_foreign_folders_last(tmp_path):
    write_state(tmp_path / "a", started_s=10.0)
    write_state(tmp_path / "b", started_s=30.0)
    (tmp_path / "c").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "file").touch()
    assert [(view.name, view.status == "broken") for view in list_runs(tmp_path)] == [
        ("b", False),
        ("a", False),
        ("c", True),
    ]
    assert list_runs(tmp_path / "missing") == []
    with pytest.raises(FolderError, match="file"):
        list_runs(tmp_path / "file")


def test_find_run_by_last_name_path_and_beginning(tmp_path):
    for name, started in (("2025-dpo", 1.0), ("2025-dpo-2", 2.0), ("2024-orpo", 3.0)):
        write_state(tmp_path / name, started_s=started)
    assert find_run("last", tmp_path).name == "2024-orpo"
    assert find_run("2025-dpo", tmp_path).name == "2025-dpo"
    assert find_run("2024", tmp_path).name == "2024-orpo"
    assert find_run(str(tmp_path / "2025-dpo"), tmp_path / "nowhere") == tmp_path / "2025-dpo"
    with pytest.raises(FolderError, match="2 runs: 2025-dpo, 2025-dpo-2"):
        find_run("2025", tmp_path)
    with pytest.raises(FolderError, match="did you mean '2024-orpo'"):
        find_run("2024-orpp", tmp_path)
    with pytest.raises(FolderError, match="none yet"):
        find_run("last", tmp_path / "nowhere")


def test_wording():
    assert [age_text(age) for age in (None, 0.4, 59.9, 60, 7200, 90000)] == ["–", "0 s", "59 s", "1 min", "2 h", "1 d"]
    assert [number_text(value) for value in (None, True, "x", 0.123456, 3, float("nan"))] == [
        "–",
        "–",
        "–",
        "0.1235",
        "3",
        "nan",
    ]


def test_the_summary_of_a_run_is_read_and_damage_is_no_summary(tmp_path, capsys):
    run = write_state(tmp_path / "edit", status="finished", kind="edit", hostname="elsewhere")
    assert summary(run) == {}
    for damaged in ("", "[1]", '{"title": "a', "\udcff"):
        (run / "summary.json").write_text(damaged, errors="surrogateescape")
        assert summary(run) == {}
    found = {"title": "A \u001b[31m→ B", "verdict": "Shown.", "why": "", "figures": {"efficacy": 0.5, "kl": None}}
    (run / "summary.json").write_text(json.dumps(found))
    assert main(["runs", "show", str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "title      A \\x1b[31m→ B" in lines and "verdict    Shown." in lines
    assert (
        "figure     efficacy 0.5" in lines and "figure     kl –" in lines and not any("why" in line for line in lines)
    )
