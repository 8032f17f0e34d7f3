"""Queued items among the runs: what waits has no folder yet, and shows as a run of status queued."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from readwrite_edit.queue.items import RUNNING, WAITING, Item
from readwrite_edit.queue.store import is_paused, items
from readwrite_edit.runs.reader import RunView, list_runs


def list_all(root: Path) -> list[RunView]:
    """The runs of a folder and what waits in its queue, newest first, broken ones last.

    Raises:
        FolderError: ``root`` is a file or may not be read.
    """
    return with_queued(list_runs(root), root)


def with_queued(views: Sequence[RunView], root: Path) -> list[RunView]:
    """Put what waits among the runs that have a folder.

    Args:
        views: The runs of ``root``; one that waits to be resumed becomes queued.
        root: Folder of runs.
    """
    pending = {item.run: item for item in items(root) if item.state in (WAITING, RUNNING)}
    if not pending:
        return list(views)
    paused, now, merged = is_paused(root), time.time(), []
    for view in views:
        item = pending.pop(view.path.absolute(), None)
        waits = item is not None and item.state == WAITING and not view.live
        merged.append(replace(view, status="queued", reason=_reason(item, paused)) if waits and item else view)
    queued = [_view(item, root, paused, now) for item in pending.values()]
    return sorted([*queued, *merged], key=lambda view: (view.started_s or 0.0, view.name), reverse=True)


def _view(item: Item, root: Path, paused: bool, now: float) -> RunView:
    """An item whose run has no folder yet."""
    return RunView(
        path=root / item.run.name if item.run.parent == root.absolute() else item.run,
        status="queued",
        reason=_reason(item, paused),
        kind=item.argv[0],
        recipe=item.name,
        started_s=item.added_s,
        age_s=max(0.0, now - item.added_s),
    )


def _reason(item: Item, paused: bool) -> str:
    if item.state == RUNNING:
        return f"begins on {item.device}"
    return f"waits for {item.device}" + (", the queue is paused" if paused else "")
