"""Opening a run folder's files for reading: regular files only, of bounded size.

A run folder may come from anywhere. Opening a named pipe would block for ever,
and a device may not end.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading bytes, unbuffered.

    Raises:
        OSError: It is missing, may not be read, or is no regular file.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(f"{path.name} is not a regular file")
    return os.fdopen(handle, "rb", buffering=0)


def read_head(path: Path, limit_bytes: int) -> bytes:
    """The first ``limit_bytes`` of a regular file.

    Raises:
        OSError: As ``open_regular``.
    """
    with open_regular(path) as stream:
        return _read_exactly(stream, limit_bytes)


def read_tail(path: Path, limit_bytes: int) -> bytes:
    """The last ``limit_bytes`` of a regular file, or all of a shorter one.

    Raises:
        OSError: As ``open_regular``.
    """
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        stream.seek(max(0, size - limit_bytes))
        return _read_exactly(stream, limit_bytes)


def _read_exactly(stream: BinaryIO, limit_bytes: int) -> bytes:
    parts, wanted = [], limit_bytes
    while wanted and (part := stream.read(wanted)):
        parts.append(part)
        wanted -= len(part)
    return b"".join(parts)
