"""One writer at a time: a change of a ledger takes moments, so others wait for it; and a disk that refuses."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from readwrite_edit.errors import EditError, RunError
from readwrite_edit.runs.folder import FolderError
from readwrite_edit.runs.lock import RunLock

LOCK = "ledger.lock"
_PATIENCE_S, _EVERY_S = 60.0, 0.02


@contextmanager
def exclusively(folder: Path) -> Iterator[None]:
    """Be the only process that writes a ledger.

    Args:
        folder: Of the ledger; exists.

    Raises:
        EditError: Another process kept it for a minute.
        FolderError: The lock's file can not be written.
    """
    lock = RunLock(folder / LOCK)
    _acquire(lock, folder)
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: RunLock, folder: Path) -> None:
    """Take the lock, once whoever has it lets go."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            lock.acquire()
            return
        except FolderError:
            raise
        except RunError as error:
            if time.monotonic() > deadline:
                raise EditError(f"the ledger {folder} is being written by another process: {error}") from None
        time.sleep(_EVERY_S)


def unwritable(folder: Path, error: Exception, state: str = "") -> EditError:
    """The error to raise where a ledger's disk refuses.

    Args:
        folder: Of the ledger, or of ledgers.
        error: What it said.
        state: Of the ledger now, for the message.
    """
    reason = getattr(error, "strerror", None) or error
    return EditError(
        f"the ledger {folder} can not be written ({reason}){state}: free space there or give access to it, or name "
        "another folder (--ledger)"
    )
