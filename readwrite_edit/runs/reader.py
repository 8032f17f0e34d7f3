"""Run folders as everyone but their writer sees them: nothing that lies in one makes this raise."""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from readwrite_edit.runs.cursor import Cursor
from readwrite_edit.runs.folder import FolderError, RunFolder
from readwrite_edit.runs.lock import is_locked
from readwrite_edit.runs.records import geometry, last_snapshot, last_value, metrics
from readwrite_edit.runs.regular import read_head, reason_of
from readwrite_edit.runs.state import LIVE, RunState, StateError, load_state
from readwrite_edit.runs.wording import age_text

__all__ = [
    "Cursor",
    "RunView",
    "geometry",
    "last_snapshot",
    "last_value",
    "list_runs",
    "metrics",
    "read_run",
    "read_summary",
    "run_names",
    "summary",
]

_LARGEST_SUMMARY = 1 << 24
SILENT_AFTER_S = 120.0
_CLOCKS_AGREE_S = 5.0


@dataclass(frozen=True, kw_only=True)
class RunView:
    """A run in words. Its strings are data from files: ``printable`` before they meet a terminal.

    ``status`` is queued, running, stopping, stopped, finished, failed, silent
    (on another host, without a sign for a while) or broken (no run that this
    version can read); ``reason`` says more where there is more to say.
    ``age_s`` counts from its last sign, and is 0 where that is dated in the
    future: ``ahead_s`` says by how much, where clocks differ by more than 5 s.
    """

    path: Path
    status: str
    reason: str = ""
    kind: str = ""
    recipe: str = ""
    step: int = 0
    max_steps: int | None = None
    segment: int = 0
    started_s: float | None = None
    age_s: float | None = None
    ahead_s: float = 0.0
    hostname: str = ""
    pid: int = 0

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def live(self) -> bool:
        """Whether it may still write: running, stopping, or silent elsewhere."""
        return self.status in (*LIVE, "silent")

    def aged(self, passed_s: float) -> RunView:
        """The same run so many seconds later, by the reader's clock."""
        if self.age_s is None:
            return self
        age_s, ahead_s = _ages(self.age_s - self.ahead_s + passed_s)
        return replace(self, age_s=age_s, ahead_s=ahead_s)


def read_run(path: Path, *, now: float | None = None) -> RunView:
    """What a folder says of its run; a broken folder says why, and nothing raises.

    Args:
        path: The run folder.
        now: Unix seconds to count ages from; the clock by default.
    """
    moment = time.time() if now is None else now
    folder = RunFolder(path)
    try:
        state = load_state(folder.state)
        view = _view(folder, state, moment)
        if view.status == "failed" and state.status in LIVE:
            # It may have ended well between our look at the state and our look at the lock.
            view = _view(folder, load_state(folder.state), moment)
    except StateError as error:
        return RunView(path=path, status="broken", reason=str(error))
    return view


def run_names(root: Path) -> list[str]:
    """The folders under ``root`` that are not hidden, in no order; none where there is no ``root``.

    Raises:
        FolderError: ``root`` is a file or may not be read.
    """
    try:
        return [name for name in os.listdir(root) if not name.startswith(".") and os.path.isdir(root / name)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise FolderError(f"{root}: {error.strerror}: name a folder of runs") from error


def list_runs(root: Path, *, now: float | None = None) -> list[RunView]:
    """Every folder under ``root`` as a run, newest first, broken ones last; none where there is no ``root``.

    Raises:
        FolderError: ``root`` is a file or may not be read.
    """
    views = [read_run(root / name, now=now) for name in run_names(root)]
    return sorted(views, key=lambda view: (view.started_s or 0.0, view.name), reverse=True)


def summary(path: Path) -> dict[str, Any]:
    """The end table of a run, or an empty one where there is none that can be read."""
    return read_summary(path)[0]


def read_summary(path: Path) -> tuple[dict[str, Any], str]:
    """The end table of a run, and where it can not be read, why, as a clause; both are empty where there is none."""
    try:
        data = read_head(RunFolder(path).summary, _LARGEST_SUMMARY + 1)
    except FileNotFoundError:
        return {}, ""
    except OSError as error:
        return {}, reason_of(error)
    if len(data) > _LARGEST_SUMMARY:
        return {}, "it is larger than 16 MiB"
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}, "it is not valid JSON"
    if not isinstance(found, dict):
        return {}, "it is not a JSON object"
    return found, "" if found else "there is nothing in it"


def _view(folder: RunFolder, state: RunState, now: float) -> RunView:
    age_s, ahead_s = _ages(now - state.heartbeat_s)
    view = RunView(
        path=folder.path,
        status=state.status,
        reason=state.error or "",
        kind=state.kind,
        recipe=state.recipe,
        step=state.step,
        max_steps=state.max_steps,
        segment=state.segment,
        started_s=state.started_s,
        hostname=state.hostname,
        pid=state.pid,
        age_s=age_s,
        ahead_s=ahead_s,
    )
    return _judge_live(folder, view) if state.status in LIVE else view


def _ages(signed_s: float) -> tuple[float, float]:
    """Age, and how far ahead another clock is, from a difference of times; clocks that agree well are taken as one."""
    return max(0.0, signed_s), -signed_s if signed_s < -_CLOCKS_AGREE_S else 0.0


def _judge_live(folder: RunFolder, view: RunView) -> RunView:
    """Check what a run that calls itself alive can not say itself: whether it is."""
    age_s = view.age_s or 0.0
    silence = f"silent {age_text(age_s)}" if age_s > SILENT_AFTER_S else ""
    if view.hostname != socket.gethostname():
        return (
            replace(view, status="silent", reason=f"{silence} on {view.hostname}") if silence else _asked(folder, view)
        )
    try:
        alive = is_locked(folder.lock)
    except OSError as error:
        return replace(view, status="silent", reason=f"its lock can not be tested: {error.strerror}")
    if not alive:
        return replace(view, status="failed", reason="its process is gone")
    return _asked(folder, replace(view, reason=silence))


def _asked(folder: RunFolder, view: RunView) -> RunView:
    return replace(view, status="stopping") if os.path.lexists(folder.stop_request) else view
