"""Who holds a run: an exclusive POSIX record lock on ``run.lock``.

A POSIX lock (``lockf``) belongs to the process, so a forked worker that
outlives a dead trainer does not keep the run alive, as ``flock`` would. The
price is a trap: closing *any* descriptor of the file in the holding process
drops the lock. So nothing but this module may open ``run.lock``; it remembers
what this process holds and never opens such a file again, and it probes other
processes' locks with ``F_GETLK``, which takes nothing.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import sys
import threading
from pathlib import Path
from types import TracebackType

from readwrite_edit.errors import RunError
from readwrite_edit.runs.folder import FolderError
from readwrite_edit.terminal import printable

_HELD: dict[tuple[int, int], int] = {}  # (device, inode) of the lock file → pid that locked it
_GUARD = threading.Lock()
_BSD_LAYOUT = sys.platform == "darwin" or "bsd" in sys.platform
_LONGEST_NOTE = 300


class RunLock:
    """The exclusive right to write one run folder, held until ``release`` or the process's death."""

    def __init__(self, path: Path) -> None:
        """Name the lock file; nothing is opened until ``acquire``."""
        self.path = path
        self._handle: int | None = None
        self._key: tuple[int, int] | None = None
        self._pid = 0

    def acquire(self) -> RunLock:
        """Take the lock at once or refuse.

        Raises:
            RunError: Another process, or another run in this one, holds it.
            FolderError: The file can not be written, or its file system has no locks.
        """
        with _GUARD:
            if _held_here(self.path):
                raise _in_use(self.path, os.getpid(), socket.gethostname())
            handle = _open_lock(self.path)
            try:
                _lock(self.path, handle)
                _sign(handle)
            except OSError as error:
                os.close(handle)
                raise FolderError(f"{self.path}: {error.strerror}: a run needs a folder it can write") from error
            except RunError:
                os.close(handle)
                raise
            status = os.fstat(handle)
            self._handle, self._key, self._pid = handle, (status.st_dev, status.st_ino), os.getpid()
            _HELD[self._key] = self._pid
        return self

    def release(self) -> None:
        """Give the lock back; a forked child that inherited this object changes nothing."""
        with _GUARD:
            if self._handle is None or self._pid != os.getpid():
                return
            if self._key is not None:
                _HELD.pop(self._key, None)
            os.close(self._handle)
            self._handle = self._key = None

    def __enter__(self) -> RunLock:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def is_locked(path: Path) -> bool:
    """Whether a living process on this host holds the lock; takes and drops nothing.

    Raises:
        OSError: The file exists and may not be read.
    """
    return holder(path) is not None


def holder(path: Path) -> int | None:
    """The pid of the living process on this host that holds the lock; None where nobody does.

    0 where the system can not name it: it is in another container, or the lock is not of this kind.

    Raises:
        OSError: The file exists and may not be read.
    """
    with _GUARD:
        if _held_here(path):
            return os.getpid()
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            return _holder(handle)
        finally:
            os.close(handle)


def _held_here(path: Path) -> bool:
    try:
        status = os.stat(path)
    except OSError:
        return False
    return _HELD.get((status.st_dev, status.st_ino)) == os.getpid()


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    except OSError as error:
        raise FolderError(f"{path}: {error.strerror}: a run needs a folder it can write") from error


def _lock(path: Path, handle: int) -> None:
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        pid, host = _signature(handle)
        raise _in_use(path, _holder(handle) or pid, host) from error


def _in_use(path: Path, pid: int | str, host: str) -> RunError:
    return RunError(f"{path.parent} is in use by pid {pid} on host {host}: stop that run first, or name another folder")


def _sign(handle: int) -> None:
    """Leave pid and host in the file, for the message that a second process gets."""
    note = f"{os.getpid()} {socket.gethostname()}\n".encode()
    os.ftruncate(handle, 0)
    os.pwrite(handle, note, 0)


def _signature(handle: int) -> tuple[str, str]:
    words = os.pread(handle, _LONGEST_NOTE, 0).decode(errors="replace").split()
    pid, host = words if len(words) == 2 else ("unknown", "unknown")
    return printable(pid), printable(host)


def _holder(handle: int) -> int | None:
    """The pid that keeps us from the lock (0 where the system can not name it), or None."""
    question = _pack(fcntl.F_WRLCK)
    kind, pid = _unpack(fcntl.fcntl(handle, fcntl.F_GETLK, question))
    return None if kind == fcntl.F_UNLCK else max(0, pid)


def _pack(kind: int) -> bytes:
    """A ``struct flock`` that asks about the whole file."""
    if _BSD_LAYOUT:
        return struct.pack("qqihh", 0, 0, 0, kind, os.SEEK_SET)
    return struct.pack("hhqqi0q", kind, os.SEEK_SET, 0, 0, 0)


def _unpack(answer: bytes) -> tuple[int, int]:
    if _BSD_LAYOUT:
        _, _, pid, kind, _ = struct.unpack("qqihh", answer)
    else:
        kind, _, _, _, pid = struct.unpack("hhqqi0q", answer)
    return kind, pid
