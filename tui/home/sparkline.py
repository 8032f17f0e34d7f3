"""The loss of a whole run in one cell of a table, from a handful of lines of its file.

A short file is read whole. Of a long one a block is read at each of some evenly
spaced offsets, and its end: 100,000 lines cost what 1,000 cost. Where the end can
not be read, as in a line of 10 MB, what stands before it counts as the end.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from readwrite_edit.runs.cursor import parse_object
from readwrite_edit.runs.folder import RunFolder
from readwrite_edit.runs.records import (
    Record,
    current,
    figure,
    has_train_value,
    is_metric,
    last_train,
    metric_key,
    segment_starts,
)
from readwrite_edit.runs.regular import open_regular, reason_of

SAMPLES = 32
_WHOLE_BYTES = 1 << 16
_BLOCK_BYTES = 1 << 12
_BARS = "▁▂▃▄▅▆▇█"
_MISSING = "×"


@dataclass(frozen=True)
class Trace:
    """A value over a run.

    Attributes:
        last: The last one; NaN where it was not finite, None where there is none, or none near the end of the file.
        samples: Some of them, in order, NaN where not finite.
        problem: Why the file, or its end, can not be read, as a clause; empty where it can.
    """

    last: float | None = None
    samples: tuple[float, ...] = ()
    problem: str = ""


def read_trace(path: Path, name: str = "loss", *, resumed: bool = False) -> Trace:
    """How a train value of a run went; an empty trace where there is none, or its file can not be read.

    Args:
        path: The run folder.
        name: Of the value.
        resumed: Whether the run has later segments, so that some lines may be superseded.
    """
    try:
        with open_regular(RunFolder(path).metrics) as stream:
            records, ended, problem = _sampled(stream, name)
    except FileNotFoundError:
        return Trace()
    except OSError as error:
        return Trace(problem=reason_of(error))
    if resumed:
        records = current(records, segment_starts(path), metric_key)
    values = [figure(record["values"][name]) for record in records]
    return Trace(values[-1] if ended and values else None, tuple(_spread(values, SAMPLES)), problem)


def sparkline(samples: Sequence[float], width: int) -> str:
    """Samples as bars between their least and their greatest, × for what was not finite; level where all are equal."""
    finite = [sample for sample in samples if math.isfinite(sample)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    return "".join(_bar(sample, low, high) for sample in _spread(samples, width))


def _bar(sample: float, low: float, high: float) -> str:
    if not math.isfinite(sample):
        return _MISSING
    share = (sample - low) / (high - low) if high > low else 0.5
    return _BARS[min(len(_BARS) - 1, int(share * len(_BARS)))] if math.isfinite(share) else _BARS[0]


def _spread(values: Sequence[float], count: int) -> list[float]:
    """At most ``count`` values, evenly spaced, with the first and the last."""
    if len(values) <= count:
        return list(values)
    return [values[round(place * (len(values) - 1) / (count - 1))] for place in range(count)]


def _sampled(stream: BinaryIO, name: str) -> tuple[list[Record], bool, str]:
    """Lines of a file in its order, whether the last of them is the file's last, and what is wrong with its end.

    Of a short file these are all lines, of a long one the first of each block, and the last.
    """
    size = os.fstat(stream.fileno()).st_size
    if size <= _WHOLE_BYTES:
        records = [record for record in _lines(stream.read(size), whole=True) if has_train_value(record, name)]
        return records, True, ""
    last = last_train(stream, name)
    problem = "" if last.end else "its last 16 MB hold no line that can be read"
    records = [record for record in _samples(stream, last.end or size) if has_train_value(record, name)]
    if last.found is not None and (not records or records[-1] != last.found):
        records.append(last.found)
    return records, last.found is not None, problem


def _samples(stream: BinaryIO, end: int) -> Iterator[Record]:
    """All metric lines before an offset where that is near, else the first train line of each of some blocks."""
    stream.seek(0)
    if end <= _WHOLE_BYTES:
        yield from _lines(stream.read(end), whole=True)
        return
    step = (end - _WHOLE_BYTES) // SAMPLES
    for place in range(SAMPLES):
        stream.seek(place * step)
        yield from _first_of_a_train(_lines(stream.read(_BLOCK_BYTES), whole=place == 0))


def _lines(data: bytes, *, whole: bool) -> Iterator[Record]:
    """The complete lines of a block that are metrics; where it does not begin a file, its first line is torn."""
    for line in data.split(b"\n")[0 if whole else 1 : -1]:
        record = parse_object(line)
        if record and is_metric(record):
            yield record


def _first_of_a_train(records: Iterator[Record]) -> Iterator[Record]:
    for record in records:
        if record["kind"] == "train":
            yield record
            return
