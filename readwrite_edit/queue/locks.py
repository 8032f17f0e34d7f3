"""Locks that a child inherits: whoever holds the descriptor, runner or run, keeps the item and its device taken.

These are ``flock`` locks on purpose, unlike a run's own: they belong to the
open file, which a runner hands to the process that it starts. A runner that is
killed takes nothing away: as long as the process lives, both stay locked. So
nothing here ever unlocks; descriptors are closed, and the last one frees.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from readwrite_edit.runs.folder import FolderError

_PATIENCE_S, _EVERY_S = 20.0, 0.01
_MOMENT_S = 1.0
_LONGEST_NOTE = 300


def take(path: Path, note: str = "") -> int | None:
    """Take a lock: the open descriptor, or None where another has it.

    Args:
        path: Of the lock's file; made if missing.
        note: Left in the file, for ``note_of``.

    Raises:
        OSError: The file can not be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(handle, 0)
        os.pwrite(handle, note.encode("utf-8", "backslashreplace"), 0)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:
        os.close(handle)
        raise
    return handle


def take_soon(path: Path) -> int | None:
    """Take a lock that others hold for moments only, to look at it."""
    deadline = time.monotonic() + _MOMENT_S
    while (handle := take(path)) is None and time.monotonic() < deadline:
        time.sleep(_EVERY_S)
    return handle


def is_taken(path: Path) -> bool:
    """Whether any process holds the lock.

    Raises:
        OSError: The file exists and may not be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def note_of(path: Path) -> str:
    """What the last one to take the lock left in its file. It is data."""
    try:
        with open(path, "rb") as stream:
            return stream.read(_LONGEST_NOTE).decode("utf-8", "replace")
    except OSError:
        return ""


@contextmanager
def exclusively(path: Path) -> Iterator[None]:
    """Be the only one who changes what the lock guards; a change takes moments, so others wait for it.

    Raises:
        FolderError: The lock's file can not be written, or another kept it for 20 seconds.
    """
    deadline = time.monotonic() + _PATIENCE_S
    try:
        while (handle := take(path)) is None:
            if time.monotonic() > deadline:
                raise FolderError(f"{path.parent} is being changed by another process: try again")
            time.sleep(_EVERY_S)
    except OSError as error:
        raise FolderError(f"{path.parent}: {error.strerror}: name a folder of runs that can be written") from error
    try:
        yield
    finally:
        os.close(handle)
