"""Appending whole lines to a JSONL file, so that no line is ever left torn in the middle."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from readwrite_edit.errors import RunError

_BLOCK_BYTES = 1 << 16


class LineAppender:
    """Appends JSON objects, one a line; each call reaches the operating system before it returns."""

    def __init__(self, path: Path) -> None:
        """Open the file, made if missing, and cut off a torn last line.

        Raises:
            RunError: The file can not be written.
        """
        self.path = path
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            self._length = _cut_torn_tail(self._handle)
        except OSError as error:
            raise disk_error(path, error) from error

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows, all or none of them.

        Raises:
            RunError: The disk refuses; what was half-written is taken back.
        """
        data = "".join(json.dumps(row, ensure_ascii=True, allow_nan=False) + "\n" for row in rows).encode()
        try:
            _write_all(self._handle, data)
        except OSError as error:
            with suppress(OSError):  # a tail that can not be cut is cut at the next resume
                os.ftruncate(self._handle, self._length)
            raise disk_error(self.path, error) from error
        self._length += len(data)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def disk_error(path: Path, error: OSError) -> RunError:
    """A failing disk in one line that names the file."""
    return RunError(f"{path}: {error.strerror or error}: make room or give access, then resume the run")


def _write_all(handle: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]


def _cut_torn_tail(handle: int) -> int:
    """Truncate after the last newline; returns the length that stays."""
    end = os.fstat(handle).st_size
    keep = end
    while keep:
        start = max(0, keep - _BLOCK_BYTES)
        newline = os.pread(handle, keep - start, start).rfind(b"\n")
        keep = start + newline + 1
        if newline >= 0:
            break
    if keep < end:
        os.ftruncate(handle, keep)
    return keep
