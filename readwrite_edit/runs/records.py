"""Metrics and geometry of a run as its readers should see them: the lines that a resume superseded are gone.

The rule stands in ``runs.writer``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from readwrite_edit.runs.cursor import Cursor
from readwrite_edit.runs.folder import RunFolder
from readwrite_edit.runs.from_end import LastObject, last_object
from readwrite_edit.runs.regular import open_regular, reason_of
from readwrite_edit.runs.state import StateError, is_count, is_finite, load_state

Record = dict[str, Any]


@dataclass(frozen=True)
class Found:
    """What a JSONL file of a run gave.

    Attributes:
        records: The well-formed lines that still hold, in the order of the file.
        cursor: That has read it: it knows what could not be read, and goes on where the file grows.
    """

    records: list[Record]
    cursor: Cursor


def read_metrics(path: Path) -> Found:
    """``metrics.jsonl`` of the run in a folder."""
    return _read(Cursor(RunFolder(path).metrics), is_metric, segment_starts(path), metric_key)


def read_geometry(path: Path) -> Found:
    """``geometry.jsonl`` of the run in a folder."""
    return _read(Cursor(RunFolder(path).geometry), is_geometry, segment_starts(path), geometry_key)


def _read(
    cursor: Cursor,
    is_record: Callable[[Record], bool],
    starts: Sequence[int | None],
    key: Callable[[Record], tuple[Any, ...]],
) -> Found:
    return Found(current(filter(is_record, cursor.read()), starts, key), cursor)


def metrics(path: Path) -> list[Record]:
    """The well-formed lines of ``metrics.jsonl`` that still hold, in the order of the file."""
    return read_metrics(path).records


def geometry(path: Path) -> list[Record]:
    """The well-formed lines of ``geometry.jsonl`` that still hold, in the order of the file."""
    return read_geometry(path).records


def last_snapshot(records: Sequence[Record]) -> list[Record]:
    """The geometry lines of the highest step."""
    last = max((record["step"] for record in records), default=0)
    return [record for record in records if record["step"] == last]


def last_value(path: Path, name: str) -> float | None:
    """The value of a name on the last train line that has it; NaN where it was not finite.

    Looks at the end of ``metrics.jsonl`` only, so that it is cheap however long the run is.
    """
    return read_last_value(path, name)[0]


def read_last_value(path: Path, name: str) -> tuple[float | None, str]:
    """As ``last_value``, and where the file can not be read, why, as a clause."""
    try:
        with open_regular(RunFolder(path).metrics) as stream:
            record = last_train(stream, name).found
    except FileNotFoundError:
        return None, ""
    except OSError as error:
        return None, reason_of(error)
    return None if record is None else figure(record["values"][name]), ""


def last_train(stream: BinaryIO, name: str) -> LastObject:
    """The last train line of an open ``metrics.jsonl`` that has a value of a name."""
    return last_object(stream, lambda record: has_train_value(record, name))


def has_train_value(record: Record, name: str) -> bool:
    """Whether a line is a train line with a value of a name."""
    return is_metric(record) and record["kind"] == "train" and name in record["values"]


def figure(value: object) -> float:
    """A value of a metric line; NaN where it was not finite."""
    return float(value) if is_finite(value) else math.nan


def segment_starts(path: Path) -> tuple[int | None, ...]:
    """The step that each segment went on from, as far as ``state.json`` says."""
    try:
        return load_state(RunFolder(path).state).segment_starts
    except StateError:
        return ()


def current(
    records: Iterable[Record], starts: Sequence[int | None], key: Callable[[Record], tuple[Any, ...]]
) -> list[Record]:
    """Leave out the lines that a later segment superseded.

    Args:
        records: Lines with ``step`` and ``segment``, in the order of the file.
        starts: ``segment_starts`` of the run's state; missing ones are taken from the lines.
        key: What makes two lines of different segments say the same, such as step and kind.
    """
    kept = list(records)
    first_steps: dict[int, int] = {}
    latest: dict[tuple[Any, ...], int] = {}
    for record in kept:
        segment = record["segment"]
        first_steps[segment] = min(record["step"], first_steps.get(segment, record["step"]))
        latest[key(record)] = max(segment, latest.get(key(record), 0))
    bounds = last_steps(first_steps, starts)
    return [
        record
        for record in kept
        if record["step"] <= bounds.get(record["segment"], math.inf) and record["segment"] == latest[key(record)]
    ]


def last_steps(first_steps: Mapping[int, int], starts: Sequence[int | None]) -> dict[int, float]:
    """The last step that holds of each segment: the lowest start of a later one.

    Args:
        first_steps: The first step that each segment has a line of.
        starts: ``segment_starts`` of the run's state; missing ones are taken from the lines.
    """
    begun = {segment: float(start) for segment, start in enumerate(starts) if start is not None}
    begun = {segment: float(step - 1) for segment, step in first_steps.items()} | begun
    bounds, lowest = {}, math.inf
    for segment in sorted({*first_steps, *begun}, reverse=True):
        bounds[segment] = lowest
        lowest = min(lowest, begun.get(segment, math.inf))
    return bounds


def is_metric(record: Record) -> bool:
    """Whether a line of ``metrics.jsonl`` has the fields that readers rely on."""
    return _placed(record) and isinstance(record.get("kind"), str) and isinstance(record.get("values"), dict)


def is_geometry(record: Record) -> bool:
    """Whether a line of ``geometry.jsonl`` has the fields that readers rely on."""
    return _placed(record) and is_count(record.get("layer")) and isinstance(record.get("module"), str)


def metric_key(record: Record) -> tuple[Any, ...]:
    """Two metric lines of one step and kind say the same."""
    return record["step"], record["kind"]


def geometry_key(record: Record) -> tuple[Any, ...]:
    """Two geometry lines of one step and matrix say the same."""
    return record["step"], record["layer"], record["module"], str(record.get("path"))


def _placed(record: Record) -> bool:
    return is_count(record.get("step")) and is_count(record.get("segment"))
