"""What became of an item whose runner died: asked of its process, by a lock that it inherited, and of its run."""

from __future__ import annotations

import socket
import time
from dataclasses import replace
from pathlib import Path

from readwrite_edit.queue.items import DONE, FAILED, RUNNING, WAITING, Item, load_item
from readwrite_edit.queue.locks import is_taken
from readwrite_edit.runs.reader import RunView, read_run
from readwrite_edit.runs.state import ENDED

_UNWATCHED = "no runner was there to learn its exit code"


def life_lock(place: Path, item_id: str) -> Path:
    """Locked as long as the item's runner or its process lives."""
    return place / f"{item_id}.lock"


def judged(place: Path, item: Item) -> Item:
    """The item as it stands: one that calls itself running may not be any more.

    Args:
        place: Folder of the queue.
        item: As its file has it.
    """
    if item.state != RUNNING:
        return item
    view = read_run(item.run)
    if item.hostname != socket.gethostname():
        return _by_run(item, view) if view.status in ENDED and _touched(item, view) else item
    if _alive(place, item):
        return item
    try:
        again = load_item(place, item.id)
    except OSError:
        return item
    # Its runner may have noted the end between our two looks, at the file and at the lock.
    return _orphan(again, read_run(item.run)) if again.state == RUNNING else again


def _orphan(item: Item, view: RunView) -> Item:
    """An item without runner and without process."""
    if _touched(item, view):
        return item if view.live else _by_run(item, view)
    if item.pid is None:
        return replace(item, state=WAITING, started_s=None, reason="its runner died before it began")
    return replace(item, state=FAILED, ended_s=time.time(), reason=f"it ended before its run began; {_UNWATCHED}")


def _by_run(item: Item, view: RunView) -> Item:
    failed = view.status == "failed"
    reason = f"its run {view.status}" if not failed else f"its run failed: {view.reason}"
    ended_s = None if view.age_s is None else time.time() - view.age_s
    return replace(item, state=FAILED if failed else DONE, ended_s=ended_s, reason=f"{reason}; {_UNWATCHED}")


def _touched(item: Item, view: RunView) -> bool:
    """Whether the run has given a sign since the item began: one that is to be resumed has an older state."""
    return view.age_s is not None and time.time() - view.age_s >= (item.started_s or 0.0) - 1e-2


def _alive(place: Path, item: Item) -> bool:
    try:
        return is_taken(life_lock(place, item.id))
    except OSError:
        return True  # a lock that can not be tested may be held
