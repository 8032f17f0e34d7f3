"""Run folders made to hurt: each is one view that says what is wrong, and no reader raises."""

import json
import os
import socket
import subprocess
import sys

import pytest

from readwrite_edit.runs.reader import geometry, last_value, list_runs, metrics, read_run

GOOD = {"schema": 1, "status": "finished", "kind": "align", "recipe": "dpo", "hostname": socket.gethostname()}
LINE = {"step": 1, "segment": 0, "kind": "train", "values": {"loss": 0.5}}


def write_state(path, content):
    path.mkdir(exist_ok=True)
    (path / "state.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return path


STATES = {
    "empty": ("", "not valid JSON"),
    "cut": (json.dumps(GOOD)[:40], "not valid JSON"),
    "list": ("[]", "not a JSON object"),
    "deep": ("[" * 200_000, "not valid JSON"),
    "long number": ('{"schema": ' + "9" * 10_000 + "}", "not valid JSON"),
    "huge": ('{"a": "' + "x" * 2_000_000 + '"}', "larger than"),
    "no schema": ({**GOOD, "schema": None}, "schema"),
    "true schema": ({**GOOD, "schema": True}, "schema"),
    "newer": ({**GOOD, "schema": 2}, "newer version (schema 2"),
    "missing": ({"schema": 1}, "lacks kind, recipe, status"),
    "status": ({**GOOD, "status": "\x1b[2Jgreat"}, "status"),
    "status list": ({**GOOD, "status": ["running"]}, "status"),
    "step text": ({**GOOD, "step": "7"}, "step"),
    "step negative": ({**GOOD, "step": -7}, "step"),
    "step huge": ({**GOOD, "step": 10**400}, "step"),
    "heartbeat": (json.dumps({**GOOD, "heartbeat_s": 0})[:-2] + "NaN}", "heartbeat_s"),
    "segments": ({**GOOD, "segment_starts": {"0": 1}}, "segment_starts"),
}


@pytest.mark.parametrize("name", STATES)
def test_a_bad_state_is_a_broken_run_that_says_why(tmp_path, name):
    content, said = STATES[name]
    view = read_run(write_state(tmp_path / "run", content))
    assert view.status == "broken"
    assert said in view.reason


def test_a_future_clock_extra_fields_and_text_are_taken_as_data(tmp_path):
    view = read_run(
        write_state(tmp_path / "run", {**GOOD, "heartbeat_s": 1e18, "recipe": "\x1b[31m\ud800", "color": "red"})
    )
    assert (view.status, view.age_s) == ("finished", 0.0)


@pytest.mark.parametrize("kind", ["missing", "file", "loop", "pipe", "directory"])
def test_things_that_are_no_files_do_not_block_or_raise(tmp_path, kind):
    path = tmp_path / "run"
    state = path / "state.json"
    if kind == "file":
        path.write_text("")
    elif kind != "missing":
        path.mkdir()
        makers = {"loop": lambda: state.symlink_to(state), "pipe": lambda: os.mkfifo(state), "directory": state.mkdir}
        makers[kind]()
    assert read_run(path).status == "broken"


def test_a_lock_that_is_a_pipe_or_a_loop_does_not_block_or_raise(tmp_path):
    for number, make in enumerate((lambda lock: os.mkfifo(lock), lambda lock: lock.symlink_to(lock))):
        path = write_state(tmp_path / str(number), {**GOOD, "status": "running"})
        make(path / "run.lock")
        assert read_run(path).status in ("failed", "silent")


def test_one_bad_folder_leaves_the_others_alone(tmp_path):
    write_state(tmp_path / "good", {**GOOD, "started_s": 5.0})
    write_state(tmp_path / "bad", "{")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "\x1b[31mred\n").mkdir()
    os.mkdir(os.fsencode(tmp_path) + b"/\xff\xfe")
    views = list_runs(tmp_path)
    assert (views[0].name, views[0].status) == ("good", "finished")
    assert {view.status for view in views[1:]} == {"broken"} and len(views) == 4


def test_garbage_in_the_middle_of_the_records(tmp_path):
    path = write_state(tmp_path / "run", GOOD)
    bad = [{**LINE, "step": "1"}, {**LINE, "segment": 1.5}, {**LINE, "values": []}, {**LINE, "kind": None}, {"step": 1}]
    lines = [
        json.dumps(LINE),
        "}{",
        *map(json.dumps, bad),
        "x" * 10_000_000,
        json.dumps({**LINE, "step": 2, "values": {"loss": 0.25}}),
    ]
    (path / "metrics.jsonl").write_text("\n".join(lines) + "\n\x00\xff")
    (path / "geometry.jsonl").write_text("\n".join(lines) + "\n")
    assert [record["step"] for record in metrics(path)] == [1, 2]
    assert last_value(path, "loss") == 0.25
    assert geometry(path) == []


def test_a_segment_that_never_was_and_a_giant_one_harm_nothing(tmp_path):
    path = write_state(tmp_path / "run", {**GOOD, "segment_starts": [0, None, 99]})
    (path / "metrics.jsonl").write_text(json.dumps({**LINE, "segment": 2**50}) + "\n" + json.dumps(LINE) + "\n")
    assert [record["segment"] for record in metrics(path)] == [2**50]


def test_the_command_prints_no_escape_sequence(tmp_path):
    write_state(
        tmp_path / "\x1b[31mrun", {**GOOD, "recipe": "\x1b]0;owned\x07", "status": "failed", "error": "\x1b[2J\u202e"}
    )
    line = {**LINE, "values": {"\x1b[5mloss": 1.0}, "message": "\x1b[0m"}
    (tmp_path / "\x1b[31mrun" / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    for arguments in (["ls"], ["show", "last"], ["tail", "last"], ["ls", "--json"], ["show", "last", "--json"]):
        outcome = command("runs", *arguments, "--root", str(tmp_path))
        assert outcome.returncode == 0, outcome.stderr
        assert "\x1b" not in outcome.stdout and "\u202e" not in outcome.stdout
        assert "31mrun" in outcome.stdout or "loss" in outcome.stdout


LISTING = """
import os, sys
from pathlib import Path
from readwrite_edit.runs.reader import list_runs
os.chdir(sys.argv[1])
if os.geteuid() == 0:
    os.setuid(65534)  # root reads everything
for view in list_runs(Path(".")):
    print(view.name, view.status, view.reason)
"""


def test_a_folder_without_rights_is_one_broken_run(tmp_path):
    write_state(tmp_path / "open", {**GOOD, "started_s": 1.0})
    path = write_state(tmp_path / "shut", GOOD)
    tmp_path.chmod(0o755)
    path.chmod(0)
    try:
        outcome = python("-c", LISTING, str(tmp_path))
    finally:
        path.chmod(0o755)
    assert outcome.stdout == "open finished \nshut broken state.json can not be read: Permission denied\n", (
        outcome.stderr
    )


def python(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True)


def command(*arguments):
    return python("-c", "import sys; from readwrite_edit.cli import main; sys.exit(main())", *arguments)
