"""The console log: what it keeps, what it leaves out, and that neither end can kill the run."""

import errno
import io
import logging
import os
import sys

import pytest

from readwrite_edit.errors import RunError
from readwrite_edit.runs.console import tee_console


def logged(path, *texts):
    with tee_console(path):
        for text in texts:
            sys.stdout.write(text)
    return path.read_text()


def test_both_streams_reach_the_log_and_the_terminal(tmp_path, capsys):
    with tee_console(tmp_path / "console.log"):
        print("to stdout")
        print("to stderr", file=sys.stderr)
    print("after")
    assert (tmp_path / "console.log").read_text() == "to stdout\nto stderr\n"
    assert capsys.readouterr() == ("to stdout\nafter\n", "to stderr\n")


def test_the_log_is_appended_to(tmp_path):
    logged(tmp_path / "log", "one\n")
    assert logged(tmp_path / "log", "two") == "one\ntwo\n"


@pytest.mark.parametrize(
    ("texts", "kept"),
    [
        (["\r 10%", "\r 50%", "\r100%", "\n", "done\n"], "100%\ndone\n"),
        (["windows\r", "\nend\r\n"], "windows\nend\n"),
        (["bar 9/9\r", "       \rnext\n"], "next\n"),
        (["\x1b[31mred\x1b[0m \x1b]0;title\x07x\n"], "red x\n"),
        (["\x1b[2K\r 1/2", "\x1b[2K\r 2/2"], "2/2\n"),
        (["\r5%\r6%\r"], "6%\n"),
    ],
)
def test_progress_bars_and_escapes_leave_only_what_stays_on_the_line(tmp_path, texts, kept):
    assert [line.strip() for line in logged(tmp_path / "log", *texts).splitlines()] == kept.splitlines()


def test_a_bar_without_newline_does_not_grow_in_memory(tmp_path):
    with tee_console(tmp_path / "log"):
        for number in range(1000):
            sys.stdout.write(f"\r{number:>200}")
        assert len(sys.stdout._pending) < 500
        sys.stdout.write("y" * 200_000)
        assert len(sys.stdout._pending) == 0


def test_log_handlers_that_kept_a_stream_are_copied_too(tmp_path):
    handler = logging.StreamHandler(sys.stderr)
    kept = handler.stream
    logger = logging.getLogger("a.library")
    logger.addHandler(handler)
    try:
        with tee_console(tmp_path / "log"):
            logger.warning("heard")
        assert handler.stream is kept
    finally:
        logger.removeHandler(handler)
    assert (tmp_path / "log").read_text() == "heard\n"


class Dead(io.StringIO):
    """A terminal that was closed."""

    def write(self, text):
        raise OSError(errno.EIO, "Input/output error")


def test_a_dead_terminal_does_not_stop_the_log(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Dead())
    with tee_console(tmp_path / "log"):
        print("one")
        print("two", flush=True)
    assert (tmp_path / "log").read_text() == "one\ntwo\n"


def test_a_closed_stream_does_not_stop_the_log(tmp_path, monkeypatch):
    terminal = io.StringIO()
    terminal.close()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert logged(tmp_path / "log", "one\n") == "one\n"


def test_a_narrow_terminal_encoding_does_not_stop_the_run(tmp_path, monkeypatch):
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    assert logged(tmp_path / "log", "größer\n") == "größer\n"
    narrow.flush()
    assert narrow.buffer.getvalue() == b"gr\\xf6\\xdfer\n"


def test_a_full_disk_ends_the_log_with_one_line(tmp_path, monkeypatch, capsys):
    real = os.write

    def full(handle, data):
        if bytes(data).startswith(b"two"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, data)

    with tee_console(tmp_path / "log"):
        monkeypatch.setattr(os, "write", full)
        print("one\ntwo\nthree")
        print("four")
    monkeypatch.undo()
    assert (tmp_path / "log").read_text() == "one\n"
    shown = capsys.readouterr().out
    assert (
        shown.replace("\n\n", "\n").splitlines().count("readwrite-edit: console.log ends here: No space left on device")
        == 1
    )
    assert shown.endswith("four\n")


def test_a_log_that_can_not_be_opened_is_a_run_error(tmp_path):
    with pytest.raises(RunError, match=r"missing.*No such file"), tee_console(tmp_path / "missing" / "log"):
        pass
