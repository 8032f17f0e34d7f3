"""The last lines of a JSONL file, looked for from its end: cheap however long the file is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from readwrite_edit.runs.cursor import LONGEST_LINE_BYTES, parse_object
from readwrite_edit.runs.regular import read_exactly

BLOCK_BYTES = 1 << 16
MOST_PASSED_BYTES = 1 << 24
_MOST_PARSED_BYTES = 1 << 16


@dataclass(frozen=True)
class LastObject:
    """What a look from the end of a file found.

    Attributes:
        found: The last object of the wanted sort; None where none lies near enough to the end.
        end: Offset behind the last line that is an object at all: what follows it can not be read. 0 where none is
            near enough to the end.
    """

    found: dict[str, Any] | None
    end: int


def last_object(stream: BinaryIO, fits: Callable[[dict[str, Any]], bool]) -> LastObject:
    """The last line of a file that is a JSON object of the wanted sort.

    Looks at 64 KiB of lines, and to get to them passes over 16 MiB of what is no line, or one longer than 1 MiB.
    """
    parsed = end = 0
    for line, behind in lines_from_end(stream):
        found = parse_object(line)
        end = end or (behind if found is not None else 0)
        if found is not None and fits(found):
            return LastObject(found, end)
        parsed += len(line) + 1
        if parsed > _MOST_PARSED_BYTES:
            break
    return LastObject(None, end)


def lines_from_end(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """The complete lines in the last 16 MiB of a file, its last one first, each with the offset behind it.

    What has no newline yet and lines longer than 1 MiB are left out.
    """
    place = end = os.fstat(stream.fileno()).st_size
    least = max(0, place - MOST_PASSED_BYTES)
    held, whole = b"", False  # the right part of a line, and whether it ends with a newline
    while place > least:
        start = max(least, place - BLOCK_BYTES)
        stream.seek(start)
        data = read_exactly(stream, place - start)
        cut = len(data)
        while (newline := data.rfind(b"\n", 0, cut)) >= 0:
            line = data[newline + 1 : cut] + held
            if whole and len(line) <= LONGEST_LINE_BYTES:
                yield line, end
            held, whole, cut, end = b"", True, newline, start + newline + 1
        if len(held) <= LONGEST_LINE_BYTES:  # of a longer one no more is kept
            held = data[:cut] + held
        place = start
    if not least and whole and len(held) <= LONGEST_LINE_BYTES:
        yield held, end
