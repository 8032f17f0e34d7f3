"""Opening a run folder's files for reading: regular files only, of bounded size.

A run folder may come from anywhere. Opening a named pipe would block for ever,
and a device may not end.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading bytes, unbuffered.

    Raises:
        OSError: It is missing, may not be read, or is no regular file.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        kind = _KINDS.get(stat.S_IFMT(mode), "of another kind")
        raise OSError(errno.EINVAL, f"it is {kind}, not a file", str(path))
    return os.fdopen(handle, "rb", buffering=0)


def reason_of(error: OSError) -> str:
    """Why a file could not be opened or read, as a clause without its name."""
    return error.strerror or str(error)


def read_head(path: Path, limit_bytes: int) -> bytes:
    """The first ``limit_bytes`` of a regular file.

    Raises:
        OSError: As ``open_regular``.
    """
    with open_regular(path) as stream:
        return read_exactly(stream, limit_bytes)


def read_tail(path: Path, limit_bytes: int) -> bytes:
    """The last ``limit_bytes`` of a regular file, or all of a shorter one.

    Raises:
        OSError: As ``open_regular``.
    """
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        stream.seek(max(0, size - limit_bytes))
        return read_exactly(stream, limit_bytes)


def read_exactly(stream: BinaryIO, limit_bytes: int) -> bytes:
    """So many bytes from where a stream stands, or all there are."""
    parts, wanted = [], limit_bytes
    while wanted and (part := stream.read(wanted)):
        parts.append(part)
        wanted -= len(part)
    return b"".join(parts)
