"""``state.json``: what a run says of itself, replaced whole at each change.

Fields: ``schema`` (1), ``status``, ``kind``, ``recipe``, ``step``,
``max_steps``, ``segment``, ``segment_starts``, ``started_s``, ``heartbeat_s``
(unix seconds), ``pid``, ``hostname``, ``error``.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeGuard

from readwrite_edit.runs.regular import read_head

SCHEMA = 1
LIVE = ("running", "stopping")
ENDED = ("stopped", "finished", "failed")
STATUSES = ("queued", *LIVE, *ENDED)
_LARGEST_BYTES = 1 << 20


class StateError(Exception):
    """A state file that is missing, unreadable, malformed or of a newer schema; says which."""


@dataclass(frozen=True, kw_only=True)
class RunState:
    """One reading of a run's state.

    ``segment`` counts resumes from 0. ``segment_starts[i]`` is the step that
    segment i went on from (0 for the first), None where it did not say.
    """

    status: str
    kind: str
    recipe: str
    step: int = 0
    max_steps: int | None = None
    segment: int = 0
    segment_starts: tuple[int | None, ...] = (0,)
    started_s: float = 0.0
    heartbeat_s: float = 0.0
    pid: int = 0
    hostname: str = ""
    error: str | None = None


def save_state(path: Path, state: RunState, *, flush: bool) -> None:
    """Replace the state file whole.

    Args:
        path: The state file.
        state: What to write.
        flush: Force it to the disk; heartbeats do without, since a lost one costs nothing.

    Raises:
        OSError: The disk refuses; the previous file stays.
    """
    text = json.dumps({"schema": SCHEMA, **asdict(state)}, indent=2, sort_keys=True, ensure_ascii=True)
    # A fixed name, unlike durable's: a run has one writer, and a killed one leaves a single file, not a heap.
    temporary = path.with_name(f".{path.name}.new")
    with open(temporary, "w", encoding="utf-8") as stream:
        stream.write(text + "\n")
        stream.flush()
        if flush:
            os.fsync(stream.fileno())
    temporary.replace(path)


def load_state(path: Path) -> RunState:
    """Read a state file that anyone may have written.

    Raises:
        StateError: With the reason in words.
    """
    try:
        data = read_head(path, _LARGEST_BYTES + 1)
    except FileNotFoundError:
        raise StateError("not a run folder: it has no state.json") from None
    except OSError as error:
        raise StateError(f"state.json can not be read: {error.strerror or error}") from None
    if len(data) > _LARGEST_BYTES:
        raise StateError("state.json is larger than 1 MiB")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise StateError("state.json is not valid JSON") from None
    return _from_json(value)


def _from_json(value: Any) -> RunState:
    if not isinstance(value, dict):
        raise StateError("state.json is not a JSON object")
    schema = value.get("schema")
    if not is_count(schema):
        raise StateError("state.json names no schema number")
    if schema > SCHEMA:
        raise StateError(f"written by a newer version (schema {schema}; this version reads up to {SCHEMA})")
    known = {field.name: value[field.name] for field in fields(RunState) if field.name in value}
    for name, item in known.items():
        if not _VALID[name](item):
            raise StateError(f"state.json: {name} has an unexpected value")
    if missing := {"status", "kind", "recipe"} - known.keys():
        raise StateError(f"state.json lacks {', '.join(sorted(missing))}")
    known["segment_starts"] = tuple(known.get("segment_starts", (0,)))
    return RunState(**known)


def is_count(value: object) -> TypeGuard[int]:
    """Whether a JSON value is a whole number from 0 to 2⁵³ (True and False are none)."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1 << 53


def is_finite(value: object) -> TypeGuard[float]:
    """Whether a JSON value is a number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count_or_none(value: object) -> bool:
    return value is None or is_count(value)


_VALID = {
    "status": lambda value: value in STATUSES,
    "kind": _is_text,
    "recipe": _is_text,
    "step": is_count,
    "max_steps": _is_count_or_none,
    "segment": is_count,
    "segment_starts": lambda value: isinstance(value, list) and all(map(_is_count_or_none, value)),
    "started_s": is_finite,
    "heartbeat_s": is_finite,
    "pid": is_count,
    "hostname": _is_text,
    "error": lambda value: value is None or isinstance(value, str),
}
