"""One item of a queue: a command that waits, runs or has ended; and its file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from readwrite_edit.durable import write_text
from readwrite_edit.runs.regular import read_head
from readwrite_edit.runs.state import is_count, is_finite

SCHEMA = 1
WAITING, RUNNING, DONE, FAILED = STATES = ("waiting", "running", "done", "failed")
ENDED = (DONE, FAILED)
SUFFIX = ".json"
_LARGEST_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Item:
    """A command in a queue. Its strings are data: ``printable`` before they meet a terminal.

    Attributes:
        id: Number in the order of adding, and four digits that make it one of a kind.
        name: For people.
        argv: Arguments without the program.
        folder: That it was added in; its command runs there.
        device: That it occupies: ``cpu``, ``cuda:0``, …
        run: Run folder that it makes or goes on with, whole path.
        log: What its command prints.
        state: ``waiting``, ``running``, ``done`` (exit code 0) or ``failed``.
        reason: What there is to say about the state.
        added_s, started_s, ended_s: Unix seconds.
        pid: Of its process; None before it has one.
        hostname: Where it runs or ran.
        exit_code: 128 + n for the end by signal n; None where nobody was there to learn it.
    """

    id: str
    name: str
    argv: tuple[str, ...]
    folder: Path
    device: str
    run: Path
    log: Path
    state: str = WAITING
    reason: str = ""
    added_s: float = 0.0
    started_s: float | None = None
    ended_s: float | None = None
    pid: int | None = None
    hostname: str = ""
    exit_code: int | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self.state in ENDED


def save_item(place: Path, item: Item) -> None:
    """Replace the item's file whole.

    Raises:
        OSError: The disk refuses.
    """
    known = asdict(item)
    del known["id"], known["log"]  # they follow from where the file lies
    values = {name: str(value) if isinstance(value, Path) else value for name, value in known.items()}
    # ASCII alone: a path whose bytes are no UTF-8 comes back the same.
    write_text(place / f"{item.id}{SUFFIX}", json.dumps({"schema": SCHEMA, **values}, indent=2) + "\n")


def load_item(place: Path, item_id: str) -> Item:
    """Read an item; a damaged one is a failed item that says so.

    Args:
        place: Folder of the queue.
        item_id: Of the item.

    Raises:
        OSError: The file is missing or may not be read.
    """
    data = read_head(place / f"{item_id}{SUFFIX}", _LARGEST_BYTES)
    try:
        return _from_json(place, item_id, json.loads(data))
    except (ValueError, RecursionError) as error:
        reason = f"its file can not be read: {error}" if str(error) else "its file can not be read"
        return _damaged(place, item_id, reason)


def _from_json(place: Path, item_id: str, value: Any) -> Item:
    if not isinstance(value, dict) or not is_count(value.get("schema")):
        raise ValueError("not an item of a queue")
    if value["schema"] > SCHEMA:
        raise ValueError(f"written by a newer version (schema {value['schema']}; this version reads up to {SCHEMA})")
    known = {name: value[name] for name in _VALID if name in value}
    for name, item in known.items():
        if not _VALID[name](item):
            raise ValueError(f"{name} has an unexpected value")
    if missing := {"name", "argv", "folder", "device", "run", "state"} - known.keys():
        raise ValueError(f"lacks {', '.join(sorted(missing))}")
    known.update(argv=tuple(known["argv"]), folder=Path(known["folder"]), run=Path(known["run"]))
    return Item(id=item_id, log=log_of(place, item_id), **known)


def log_of(place: Path, item_id: str) -> Path:
    """Where the command of an item prints to."""
    return place / f"{item_id}.log"


def _damaged(place: Path, item_id: str, reason: str) -> Item:
    return Item(
        id=item_id,
        name=item_id,
        argv=(),
        folder=place,
        device="",
        run=place / item_id,
        log=log_of(place, item_id),
        state=FAILED,
        reason=reason,
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value


def _or_none(valid: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or valid(value)


_VALID: dict[str, Callable[[object], bool]] = {
    "name": _is_text,
    "argv": lambda value: isinstance(value, list) and bool(value) and all(map(_is_text, value)),
    "folder": _is_text,
    "device": _is_text,
    "run": _is_text,
    "state": lambda value: value in STATES,
    "reason": _is_text,
    "added_s": is_finite,
    "started_s": _or_none(is_finite),
    "ended_s": _or_none(is_finite),
    "pid": _or_none(is_count),
    "hostname": _is_text,
    "exit_code": _or_none(is_count),
}
assert {field.name for field in fields(Item)} == {*_VALID, "id", "log"}
