"""How far a sweep is: what has ended, what is to be done, and how long that will take."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from pathlib import Path
from statistics import mean

from readwrite_edit.queue import Item, items
from readwrite_edit.queue.items import DONE, FAILED, RUNNING
from readwrite_edit.runs.folder import RunFolder, has_run
from readwrite_edit.runs.reader import RunView, read_run
from readwrite_edit.runs.state import StateError, load_state
from readwrite_edit.sweep.grid import Planned

_RESUME = "--resume"


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One planned run as it stands. Its reason is data from files: ``printable`` before it meets a terminal.

    Attributes:
        planned: The run.
        view: Of its folder; None where there is none yet.
        item: Of the queue, the last one that was to carry it out; None where there was none.
    """

    planned: Planned
    view: RunView | None
    item: Item | None = None

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return self.view is not None and self.view.status == "finished"

    @property
    def busy(self) -> bool:
        """Whether it is at work, or waits for its turn: there is no need to start it."""
        return (self.view is not None and self.view.live) or (self.item is not None and not self.item.ended)

    @property
    def word(self) -> str:
        """Its status for people."""
        if self.view is not None and (self.finished or self.view.live):
            return self.view.status
        if self.item is not None and self.item.state == RUNNING:
            return "starting"  # its process has not come to the run's folder yet
        if self.view is not None:
            return self.view.status
        return "failed" if self.item is not None and self.item.state == FAILED else "to do"

    @property
    def reason(self) -> str:
        """Why it stands so, as far as that is known; of an attempt that never came to the folder, why it ended."""
        if self.item is not None and self.word == "starting":
            return f"as pid {self.item.pid}"
        if self.item is not None and self.item.state == FAILED and not _touched(self.view, self.item):
            return self.item.reason.removeprefix("readwrite-edit: ")
        return "" if self.view is None else self.view.reason

    @property
    def took_s(self) -> float | None:
        """Seconds that it took, its process's start and end included; None where unfinished, resumed or unknown."""
        if self.view is None or not self.finished or self.view.segment > 0:
            return None
        item = self.item
        if item is None or item.state != DONE or item.started_s is None or item.ended_s is None:
            return duration_s(self.view.path)
        return item.ended_s - item.started_s


def standing(folder: Path, planned: Iterable[Planned], settings: Sequence[str] = ()) -> list[Standing]:
    """How each run stands.

    Args:
        folder: Of the sweep.
        planned: The runs.
        settings: ``key=value`` each, of all runs.
    """
    last = {item.run: item for item in items(folder)}
    found = []
    for run in planned:
        path = folder / run.name
        item = last.get(path.absolute())
        if item is not None and not _carries_out(item, [*settings, *run.settings]):
            item = None
        found.append(Standing(planned=run, view=read_run(path) if has_run(path) else None, item=item))
    return found


def duration_s(path: Path) -> float | None:
    """Seconds that a finished run took from its start to its end; None where it was interrupted or says nothing."""
    try:
        state = load_state(RunFolder(path).state)
    except StateError:
        return None
    took = state.heartbeat_s - state.started_s
    return took if state.status == "finished" and state.segment == 0 and took > 0 else None


def seconds_left(runs: Iterable[Standing], *, later: int = 0, jobs: int = 1) -> float | None:
    """Estimate of the time that the unfinished runs take; None before the first has finished.

    Args:
        runs: All that can be named.
        later: How many more there will be.
        jobs: Runs at a time.
    """
    known = list(runs)
    took = [run.took_s for run in known if run.took_s is not None]
    left = later + sum(not run.finished for run in known)
    return mean(took) * ceil(left / jobs) if took else None


def finished_text(runs: Sequence[Standing]) -> str:
    """``3 of 4 runs are finished``."""
    return f"{sum(run.finished for run in runs)} of {len(runs)} {'run is' if len(runs) == 1 else 'runs are'} finished"


def _carries_out(item: Item, settings: Sequence[str]) -> bool:
    """Whether an item is of these settings: before its first run a sweep may have been called with others."""
    return _RESUME in item.argv or [word for option, word in pairwise(item.argv) if option == "--set"] == [*settings]


def _touched(view: RunView | None, item: Item) -> bool:
    """Whether the run has given a sign since the item began."""
    return view is not None and view.age_s is not None and time.time() - view.age_s >= (item.started_s or 0.0)
