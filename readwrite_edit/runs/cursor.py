"""Reading a JSONL file that someone is still writing, piece by piece."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from readwrite_edit.runs.regular import open_regular, reason_of

LONGEST_LINE_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 18


class Cursor:
    """Gives each complete line of a JSONL file once.

    It advances only past a newline, so that a torn tail loses and repeats
    nothing. Lines that are no JSON object, or are longer than 1 MiB, are
    counted in ``garbage`` and skipped. A file that was cut or replaced is read
    again from its start, and ``generation`` grows: what was read before is void.

    Attributes:
        path: The file.
        offset: Where the next line begins.
        garbage: Lines that are no JSON objects.
        objects: Lines that are.
        torn: Whether something without a newline stands at the end.
        generation: How often the file was replaced.
        problem: Why the last reading could not take place, as a clause; empty where it did, or there is no file.
    """

    def __init__(self, path: Path) -> None:
        """Start before the first line; the file need not exist yet."""
        self.path = path
        self.offset = self.garbage = self.objects = self.generation = 0
        self.torn = False
        self.problem = ""
        self._skipped_to = 0  # how far an overlong line without its newline was looked through
        self._identity: tuple[int, int] | None = None

    def read(self) -> list[dict[str, Any]]:
        """The objects on the lines completed since the last call; none where the file can not be read."""
        return [record for block in self.blocks() for record in block]

    def blocks(self) -> Iterator[list[dict[str, Any]]]:
        """The same in pieces, so that a large file need not be held at once; look at ``generation`` after each."""
        self.problem = ""
        try:
            with open_regular(self.path) as stream:
                yield from self._from(stream)
        except FileNotFoundError:
            self.torn = False
        except OSError as error:
            self.problem = reason_of(error)

    def _from(self, stream: BinaryIO) -> Iterator[list[dict[str, Any]]]:
        self._notice_replacement(os.fstat(stream.fileno()))
        stream.seek(max(self.offset, self._skipped_to))
        held = b""
        while block := stream.read(_BLOCK_BYTES):
            records: list[dict[str, Any]] = []
            held = self._take(held + block, records)
            yield records
        self.torn = bool(held) or self._skipped_to > 0

    def _take(self, data: bytes, records: list[dict[str, Any]]) -> bytes:
        """Consume the complete lines of ``data``; returns what follows the last newline."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._finish(line, records)
        if len(rest) > LONGEST_LINE_BYTES or self._skipped_to:
            self._skipped_to = max(self._skipped_to, self.offset) + len(rest)
            return b""
        return rest

    def _finish(self, line: bytes, records: list[dict[str, Any]]) -> None:
        overlong = self._skipped_to > 0 or len(line) > LONGEST_LINE_BYTES
        self.offset = max(self.offset, self._skipped_to) + len(line) + 1
        self._skipped_to = 0
        record = None if overlong else parse_object(line)
        if record is not None:
            self.objects += 1
            records.append(record)
        elif overlong or line.strip():
            self.garbage += 1

    def _notice_replacement(self, status: os.stat_result) -> None:
        identity = status.st_dev, status.st_ino
        replaced = self._identity not in (None, identity)
        if replaced or status.st_size < self.offset:
            self.offset = self.garbage = self.objects = self._skipped_to = 0
            self.generation += 1
        elif status.st_size < self._skipped_to:
            self._skipped_to = 0  # only the torn tail was cut
        self._identity = identity


def parse_object(line: bytes) -> dict[str, Any] | None:
    """One line as a JSON object, or None where it is none."""
    try:
        value = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
