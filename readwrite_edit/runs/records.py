"""Metrics and geometry of a run as its readers should see them: the lines that a resume superseded are gone.

The rule stands in ``runs.writer``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from readwrite_edit.runs.cursor import Cursor, parse_object
from readwrite_edit.runs.folder import RunFolder
from readwrite_edit.runs.regular import read_tail
from readwrite_edit.runs.state import StateError, is_count, is_finite, load_state

Record = dict[str, Any]
_TAIL_BYTES = 1 << 16


def metrics(path: Path) -> list[Record]:
    """The well-formed lines of ``metrics.jsonl`` that still hold, in the order of the file."""
    folder = RunFolder(path)
    records = filter(is_metric, Cursor(folder.metrics).read())
    return current(records, segment_starts(path), metric_key)


def geometry(path: Path) -> list[Record]:
    """The well-formed lines of ``geometry.jsonl`` that still hold, in the order of the file."""
    folder = RunFolder(path)
    records = filter(is_geometry, Cursor(folder.geometry).read())
    return current(records, segment_starts(path), geometry_key)


def last_snapshot(records: Sequence[Record]) -> list[Record]:
    """The geometry lines of the highest step."""
    last = max((record["step"] for record in records), default=0)
    return [record for record in records if record["step"] == last]


def last_value(path: Path, name: str) -> float | None:
    """The value of a name on the last train line that has it; NaN where it was not finite.

    Looks from the end through 64 KiB of ``metrics.jsonl``, so that it is cheap however long the run is.
    """
    try:
        data = read_tail(RunFolder(path).metrics, _TAIL_BYTES)
    except OSError:
        return None
    # A first line without its beginning has an opening brace too few, and is left out as garbage.
    for line in reversed(data.split(b"\n")[:-1]):
        record = parse_object(line)
        if record and is_metric(record) and record["kind"] == "train" and name in record["values"]:
            value = record["values"][name]
            return float(value) if is_finite(value) else math.nan
    return None


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
