"""Run folders as everyone but their writer sees them: nothing that lies in one makes this raise."""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from readwrite_edit.runs.cursor import Cursor
from readwrite_edit.runs.folder import FolderError, RunFolder
from readwrite_edit.runs.lock import is_locked
from readwrite_edit.runs.records import geometry, last_snapshot, last_value, metrics
from readwrite_edit.runs.regular import read_head
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
    "resolve_run",
    "run_names",
    "summary",
]

_LARGEST_SUMMARY = 1 << 24
SILENT_AFTER_S = 120.0


@dataclass(frozen=True, kw_only=True)
class RunView:
    """A run in words. Its strings are data from files: ``printable`` before they meet a terminal.

    ``status`` is queued, running, stopping, stopped, finished, failed, silent
    (on another host, without a sign for a while) or broken (no run that this
    version can read); ``reason`` says more where there is more to say.
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
    try:
        found = json.loads(read_head(RunFolder(path).summary, _LARGEST_SUMMARY))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def resolve_run(text: str, root: Path) -> Path:
    """The run that a user means.

    Args:
        text: ``last``, the name of a folder under ``root``, a path, or the beginning of one name.
        root: Folder of runs.

    Raises:
        FolderError: No run, or more than one, is meant; the message names near ones.
    """
    names = [view.name for view in list_runs(root)]
    if text == "last" and names:
        return root / names[0]
    if text in names:
        return root / text
    if Path(text).is_dir() and (os.sep in text or RunFolder(Path(text)).state.exists()):
        return Path(text)
    matches = [name for name in names if text and name.startswith(text)]
    if len(matches) == 1:
        return root / matches[0]
    if matches:
        raise FolderError(f"{text!r} begins the names of {len(matches)} runs: {', '.join(sorted(matches)[:5])}")
    near = get_close_matches(text, names, n=1) or names[:1]
    hint = f"did you mean {near[0]!r}?" if near else "there are none yet"
    raise FolderError(f"no run {text!r} under {root}: {hint}")


def _view(folder: RunFolder, state: RunState, now: float) -> RunView:
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
        age_s=max(0.0, now - state.heartbeat_s),  # another host's clock may be ahead
        hostname=state.hostname,
        pid=state.pid,
    )
    return _judge_live(folder, view) if state.status in LIVE else view


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
