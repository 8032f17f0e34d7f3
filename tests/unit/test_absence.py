"""Not yet, never, or not readable: what is said where a run shows nothing, by the command line as by the TUI."""

import json
import os

import pytest

from readwrite_edit.cli import main
from readwrite_edit.runs.absence import GEOMETRY, METRICS, SUMMARY, absence, damage, why_no_records
from readwrite_edit.runs.cursor import Cursor
from readwrite_edit.runs.reader import read_run, read_summary
from readwrite_edit.runs.regular import open_regular
from readwrite_edit.runs.writer import RunWriter

FILES = (METRICS, GEOMETRY, SUMMARY)
FAULTS = {
    "folder": (lambda file: file.mkdir(), "it is a folder, not a file"),
    "pipe": (os.mkfifo, "it is a named pipe, not a file"),
    "loop": (lambda file: file.symlink_to(file.name), "Too many levels of symbolic links"),
    "torn": (lambda file: file.write_text('{"step": 1, "se'), None),
    "garbage": (lambda file: file.write_text("x\n[1]\n"), None),
    "foreign": (lambda file: file.write_text("[]\n"), None),
}
if os.path.exists("/proc/self/mem"):  # a regular file by its mode, whose first page is not there to read
    FAULTS["unreadable"] = (lambda file: file.symlink_to("/proc/self/mem"), "Input/output error")
SAID = {
    "torn": ("it breaks off within its first line", "it is not valid JSON"),
    "garbage": ("none of its 2 lines is a record", "it is not valid JSON"),
    "foreign": ("its only line is no record", "it is not a JSON object"),
}


def run_of(root, kind="align", status="finished", name="run"):
    with RunWriter.start(root / name, recipe_text="", recipe_name="r", kind=kind) as run:
        run.mark(status)
    return root / name


def broken(root, fault):
    """A finished run each of whose files has a fault; what is wrong with the three."""
    path = run_of(root)
    for file in FILES:
        (path / file).unlink(missing_ok=True)
        FAULTS[fault][0](path / file)
    lines, end = SAID.get(fault, (FAULTS[fault][1],) * 2)
    return path, (lines, lines, end)


@pytest.mark.parametrize("fault", FAULTS)
def test_each_file_that_can_not_be_read_is_named_with_its_reason(tmp_path, capsys, fault):
    _, problems = broken(tmp_path, fault)
    sentences = [f"{file} can not be read: {problem}." for file, problem in zip(FILES, problems, strict=True)]
    assert main(["runs", "show", "run", "--root", str(tmp_path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if line.startswith("unread")] == [f"unread     {sentence}" for sentence in sentences]
    assert main(["runs", "show", "run", "--json", "--root", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["unread"] == sentences
    for command, sentence in ((["geometry", "run"], sentences[1]), (["runs", "tail", "run"], sentences[0])):
        assert main([*command, "--root", str(tmp_path)]) == 2
        assert sentence in capsys.readouterr().err
    run_of(tmp_path, name="whole")
    assert main(["runs", "compare", "whole", "run", "--root", str(tmp_path)]) == 0
    assert [f"run 2: {sentence}" for sentence in sentences] == capsys.readouterr().out.splitlines()[2:5]


@pytest.mark.parametrize("fault", ["folder", "pipe", "loop"])
def test_the_list_says_it_too(tmp_path, capsys, fault):
    broken(tmp_path, fault)
    assert main(["runs", "ls", "--root", str(tmp_path)]) == 0
    assert f"metrics.jsonl can not be read: {FAULTS[fault][1]}." in capsys.readouterr().out


def test_a_file_without_rights_is_said(tmp_path, monkeypatch):
    path = run_of(tmp_path)
    real = os.open

    def shut(file, *args, **options):
        if str(file).endswith(".jsonl"):
            raise PermissionError(13, "Permission denied", str(file))
        return real(file, *args, **options)

    monkeypatch.setattr(os, "open", shut)
    cursor = Cursor(path / METRICS)
    assert cursor.read() == [] and damage(cursor, 0, live=True) == "metrics.jsonl can not be read: Permission denied."


def test_a_file_that_is_mended_is_no_problem_any_more(tmp_path):
    (tmp_path / "file").mkdir()
    cursor = Cursor(tmp_path / "file")
    assert cursor.read() == [] and cursor.problem
    (tmp_path / "file").rmdir()
    assert cursor.read() == [] and not cursor.problem
    (tmp_path / "file").write_text('{"a": 1}\n{"b"')
    assert cursor.read() == [{"a": 1}] and not cursor.problem and cursor.torn


@pytest.mark.parametrize(
    ("kind", "status", "said"),
    [
        ("align", "running", ("No values yet", "No snapshot yet", "No result yet")),
        ("probe", "running", ("No values yet", "No matrices yet", "No result yet")),
        ("edit", "running", ("An edit logs no values", "An edit records no geometry", "No result yet")),
        ("align", "finished", ("is finished and logged none", "is finished and recorded none", "and wrote none")),
        ("align", "stopped", ("was stopped before it logged any",) * 1),
        ("align", "failed", ("failed before it logged any", "failed before it recorded any", "before it wrote any")),
        ("probe", "finished", ("This probe logged no values", "This probe measured no layers", "and wrote none")),
        ("edit", "failed", ("An edit logs no values", "An edit records no geometry", "before it wrote any")),
    ],
)
def test_not_yet_is_told_from_never(tmp_path, capsys, kind, status, said):
    with RunWriter.start(tmp_path / "run", recipe_text="", recipe_name="r", kind=kind) as run:
        if status != "running":
            run.mark(status)
        view = read_run(tmp_path / "run")
        for file, words in zip(FILES, said, strict=False):
            assert words in absence(file, view, "")
        assert main(["geometry", "run", "--root", str(tmp_path)]) == 2
        assert absence(GEOMETRY, view, "") in capsys.readouterr().err


def test_a_line_without_its_end_is_no_fault_while_the_run_goes_on(tmp_path):
    (tmp_path / METRICS).write_text('{"step": 1')
    cursor = Cursor(tmp_path / METRICS)
    cursor.read()
    assert why_no_records(cursor, 0, live=True) == "" != why_no_records(cursor, 0, live=False)


def test_some_damaged_lines_are_counted_and_a_large_end_table_is_said(tmp_path):
    path = run_of(tmp_path)
    (path / METRICS).write_text('{"step": 1}\nx\n')
    cursor = Cursor(path / METRICS)
    assert damage(cursor, len(cursor.read()), live=False) == "1 line of metrics.jsonl can not be read and is left out."
    (path / SUMMARY).write_text('{"a": "' + "x" * (1 << 24) + '"}')
    assert read_summary(path) == ({}, "it is larger than 16 MiB")
    (path / SUMMARY).write_text("{}")
    assert read_summary(path) == ({}, "there is nothing in it")


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="it counts open files by /proc")
def test_what_is_opened_is_closed_where_it_is_no_file(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(OSError, match="it is a folder"):
            open_regular(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_console_of_any_run_can_be_printed_and_says_what_is_wrong_with_it(tmp_path, capsys):
    path = run_of(tmp_path)
    (path / "console.log").write_text("one\ntwo\x1b[2J\n")
    assert main(["runs", "tail", "run", "--console", "-n", "1", "--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "two\\x1b[2J"
    (path / "console.log").unlink()
    (path / "console.log").mkdir()
    assert main(["runs", "tail", "run", "--console", "--root", str(tmp_path)]) == 2
    assert "console.log can not be read: it is a folder, not a file." in capsys.readouterr().err
