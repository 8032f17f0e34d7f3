"""The TUI on terminals of several kinds."""

import os
import pty
import select
import subprocess
import sys
from contextlib import contextmanager

import pytest

from tests.tui.screens import still_run

MAIN = "import sys; from readwrite_edit.cli import main; sys.exit(main())"


@contextmanager
def on_a_terminal(root, **environment):
    """The TUI and our end of its terminal; it does not outlive the test."""
    ours, theirs = pty.openpty()
    known = {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, "tui", "--root", str(root)],
        stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, **known, **environment}, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read_until(terminal, *texts):
    """What comes until one of the texts, or the end."""
    seen = b""
    while not any(text in seen for text in texts):
        assert select.select([terminal], [], [], 60)[0], f"none of {texts} came; seen: {seen[-2000:]!r}"
        try:
            got = os.read(terminal, 1 << 16)
        except OSError:  # Linux says so of a terminal that nobody holds any more
            break
        if not got:
            break
        seen += got
    return seen


@pytest.mark.parametrize(
    "locale", [{"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "latin-1"}]
)
def test_signs_are_drawn_whatever_the_locale_says(tmp_path, locale):
    still_run(tmp_path, "a", status="failed")
    with on_a_terminal(tmp_path, **locale) as (process, terminal):
        seen = read_until(terminal, "✗ failed".encode(), b"\\u2717")
        os.write(terminal, b"q")
        read_until(terminal, b"\x1b[?1049l")
        assert process.wait(60) == 0
    assert "✗".encode() in seen and b"\\u2717" not in seen


def test_a_terminal_without_a_cursor_that_moves_is_told_what_else_there_is(tmp_path):
    with on_a_terminal(tmp_path, TERM="dumb") as (process, terminal):
        seen = read_until(terminal, b"\x1b")
        assert b"TERM=dumb" in seen and b"readwrite-edit runs ls" in seen and b"\x1b" not in seen
        assert process.wait(60) == 2
