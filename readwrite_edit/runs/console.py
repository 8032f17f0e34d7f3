"""``console.log``: what the run prints, line by line, while it still reaches the terminal.

The log is plain text: escape sequences are left out, and of a progress bar only
what stood on the line when it ended. The copy is made at Python's level
(``sys.stdout``, ``sys.stderr`` and log handlers that hold them): at the level
of file descriptors it would need a pipe, in which the last words of a killed
run would be lost, and which no progress bar takes for a terminal.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from readwrite_edit.runs.appender import disk_error

_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
_LONGEST_LINE = 1 << 16
_GONE = (errno.EIO, errno.EPIPE, errno.EBADF, errno.ENXIO)


@contextmanager
def tee_console(path: Path) -> Iterator[None]:
    """Copy everything written to stdout and stderr into a log file as well.

    A terminal that closes meanwhile is written to no more, and the run goes on.
    A log that can not be written any more ends with one line on the terminal.

    Args:
        path: The log; lines are appended.

    Raises:
        RunError: The log can not be opened.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise disk_error(path, error) from error
    log = _Log(handle)
    terminals = sys.stdout, sys.stderr
    tees = _Tee(sys.stdout, log), _Tee(sys.stderr, log)
    sys.stdout, sys.stderr = tees  # type: ignore[assignment]
    _hand_over(dict(zip(map(id, terminals), tees, strict=True)))
    try:
        yield
    finally:
        _hand_over(dict(zip(map(id, tees), terminals, strict=True)))
        sys.stdout, sys.stderr = terminals
        for tee in tees:
            tee.end()
        log.close()


class _Log:
    """The open log file, shared by both streams; a failing disk ends it once."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self.lock = threading.RLock()  # a signal handler may print while a print is under way

    def write(self, line: str) -> str | None:
        """Append one line; returns why the log ended, the first time that it can not."""
        if self._handle < 0:
            return None
        try:
            rest = memoryview(line.encode("utf-8", "backslashreplace"))
            while rest:
                rest = rest[os.write(self._handle, rest) :]
        except OSError as error:
            self.close()
            return error.strerror
        return None

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


class _Tee:
    """A text stream that writes to a terminal and, line by line, to the log.

    Everything else (``isatty``, ``encoding``, ``fileno``) is the terminal's, so
    that progress bars behave as without it. It goes on as a plain stream after
    the log was closed, because others may have kept it.
    """

    def __init__(self, terminal: TextIO, log: _Log) -> None:
        self._terminal = terminal
        self._log = log
        self._pending = ""
        self._reachable = terminal is not None

    def write(self, text: str) -> int:
        with self._log.lock:
            self._show(text)
            self._keep(text)
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if self._reachable:
            with self._log.lock, self._surviving():
                self._terminal.flush()

    def end(self) -> None:
        """Put an unfinished line into the log."""
        with self._log.lock:
            if line := as_seen(self._pending):
                self._log.write(line + "\n")
            self._pending = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._terminal, name)

    def _show(self, text: str) -> None:
        if not self._reachable:
            return
        with self._surviving():
            try:
                self._terminal.write(text)
            except UnicodeEncodeError:
                encoding = self._terminal.encoding
                self._terminal.write(text.encode(encoding, "backslashreplace").decode(encoding))

    def _keep(self, text: str) -> None:
        *lines, self._pending = (self._pending + text).split("\n")
        for line in lines:
            if reason := self._log.write(as_seen(line) + "\n"):
                self._show(f"\nreadwrite-edit: console.log ends here: {reason}\n")
        self._pending = _without_overwritten(self._pending)
        if len(self._pending) > _LONGEST_LINE:
            self.end()

    @contextmanager
    def _surviving(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _GONE:
                raise
            self._reachable = False
            self._discard_rest()
        except ValueError:
            if not self._terminal.closed:
                raise
            self._reachable = False

    def _discard_rest(self) -> None:
        """Point the dead terminal at the null device, or its buffer would fail again at exit."""
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._terminal.fileno())
            os.close(null)


def as_seen(line: str) -> str:
    """What a finished line shows: no escape sequences, nothing that a carriage return overwrote."""
    return _ESCAPE.sub("", line).rstrip("\r").rpartition("\r")[2].rstrip()


def _without_overwritten(pending: str) -> str:
    """Drop what was overwritten already; a carriage return at the end may still belong to a newline."""
    start = pending.rfind("\r", 0, max(0, len(pending) - 1))
    return pending[start + 1 :] if start >= 0 else pending


def _hand_over(replacement: dict[int, Any]) -> None:
    """Let log handlers that kept one stream write to another."""
    loggers = [logging.getLogger(), *logging.root.manager.loggerDict.values()]
    for logger in loggers:
        for handler in getattr(logger, "handlers", ()):
            # A handler without a stream of its own looks sys.stderr up each time: nothing to hand over.
            stream = vars(handler).get("stream")
            if isinstance(handler, logging.StreamHandler) and id(stream) in replacement:
                handler.setStream(replacement[id(stream)])
