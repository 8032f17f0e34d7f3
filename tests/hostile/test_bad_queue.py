"""Queues, notes and logs with files that nobody should have written: nothing crashes, nothing is believed."""

import json
import os

import pytest

from readwrite_edit import queue
from readwrite_edit.cli import main
from readwrite_edit.queue.runner import run_queue
from readwrite_edit.runs.folder import FolderError
from readwrite_edit.runs.notes import Note, read_note, read_notes, write_note

GOOD = {
    "schema": 1,
    "name": "x",
    "argv": ["align"],
    "folder": "/",
    "device": "cpu",
    "run": "/nowhere/run",
    "state": "waiting",
}
BAD = {
    "empty": "",
    "no JSON": "{",
    "a list": "[]",
    "newer": json.dumps({**GOOD, "schema": 2}),
    "no schema": json.dumps({key: value for key, value in GOOD.items() if key != "schema"}),
    "a state unheard of": json.dumps({**GOOD, "state": "asleep"}),
    "no argv": json.dumps({**GOOD, "argv": []}),
    "argv of numbers": json.dumps({**GOOD, "argv": ["align", 3]}),
    "a null byte": json.dumps({**GOOD, "run": "/x\0y"}),
    "infinity": json.dumps({**GOOD, "added_s": 1e999}),
    "deep": "[" * 100_000,
    "a pid that is none": json.dumps({**GOOD, "pid": -1}),
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("READWRITE_EDIT_CACHE", str(tmp_path / "cache"))


def place(root):
    (root / ".queue").mkdir(parents=True, exist_ok=True)
    return root / ".queue"


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_a_damaged_item_has_failed_says_so_and_never_runs(tmp_path, content, capsys):
    (place(tmp_path) / "000001-abcd.json").write_text(content)
    (item,) = queue.items(tmp_path)
    assert item.state == "failed" and item.reason.startswith("its file can not be read")
    assert queue.list_all(tmp_path) == []
    run_queue(tmp_path, pytest.fail)
    assert main(["queue", "ls", "--root", str(tmp_path)]) == 0
    assert main(["queue", "rm", "1", "--root", str(tmp_path)]) == 0
    assert queue.items(tmp_path) == []


def test_files_that_are_no_items_are_left_alone(tmp_path):
    os.mkfifo(place(tmp_path) / "000001-aaaa.json")  # opening it would block for ever
    (place(tmp_path) / "000002-aaaa.json").mkdir()
    for name in ("x.json", "000003.json", "000003-zzzz.json", ".000003-aaaa.json.tmp"):
        (place(tmp_path) / name).write_text(json.dumps(GOOD))
    assert queue.items(tmp_path) == []
    run_queue(tmp_path, pytest.fail)
    assert len(list(place(tmp_path).glob("*.json"))) == 5


def test_text_of_an_item_never_reaches_the_terminal_raw(tmp_path, capsys):
    wild = {**GOOD, "name": "n\x1b[2J", "device": "d\x1b[31m", "run": "/r\x1b]0;t\x07", "reason": "\x9b1m"}
    (place(tmp_path) / "000001-abcd.json").write_text(json.dumps(wild))
    for command in ("queue", "runs"):
        assert main([command, "ls", "--root", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "\\x1b[2J" in said and not {"\x1b", "\x9b", "\x07"} & set(said)


def test_a_queue_that_is_a_file_is_one_line(tmp_path, capsys):
    (tmp_path / ".queue").write_text("")
    assert queue.items(tmp_path) == []
    with pytest.raises(FolderError, match="name a folder of runs that can be written"):
        queue.add(tmp_path, ["align"], device="cpu")
    assert main(["queue", "pause", "--root", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("device", ["", "gpu", "cuda:", "../x", "cpu\n"])
def test_a_device_that_is_none_is_refused(tmp_path, device):
    with pytest.raises(FolderError, match="expected cpu, mps, cuda or cuda:N"):
        queue.add(tmp_path, ["align"], device=device)


@pytest.mark.parametrize("argv", [[], ["export", "x"], ["--help"], ["queue", "run"]])
def test_only_commands_that_make_runs_are_queued(tmp_path, argv):
    with pytest.raises(FolderError, match="expected a command that makes a run: align, edit, probe"):
        queue.add(tmp_path, argv)
    assert queue.items(tmp_path) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 9, "text": "x", "tags": []}', '{"schema": 1, "text": 3}'])
def test_a_file_that_is_no_note_is_no_note(tmp_path, text):
    (tmp_path / ".notes").mkdir()
    (tmp_path / ".notes" / "run").write_text(text)
    os.mkfifo(tmp_path / ".notes" / "pipe")
    assert read_notes(tmp_path) == {} and not read_note(tmp_path, "run")


@pytest.mark.parametrize("name", ["", ".", "..", ".queue", "a/b", "../x", "a\0b"])
def test_a_note_on_what_is_no_name_is_refused(tmp_path, name):
    with pytest.raises(FolderError, match="is not the name of a run"):
        write_note(tmp_path, name, Note("x"))
    assert list(tmp_path.iterdir()) == []


def test_a_note_of_wild_text_comes_back_and_one_too_long_is_refused(tmp_path):
    wild = Note("a\x1b[2J\n[red]ü\ud800", ("b\tb", " b b ", "[x]"))
    write_note(tmp_path, "run\udcff", wild)
    assert read_notes(tmp_path) == {"run\udcff": Note("a\x1b[2J\n[red]ü?", ("b b", "[x]"))}
    for note in (Note("x" * 10_001), Note(tags=("x" * 41,)), Note(tags=tuple(map(str, range(21))))):
        with pytest.raises(FolderError, match="expected at most"):
            write_note(tmp_path, "run", note)
    write_note(tmp_path, "run\udcff", Note())
    assert read_notes(tmp_path) == {}
