"""The names of the files in a run folder, and the name of a new one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from readwrite_edit.errors import RunError

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_NAME = 60


class FolderError(RunError):
    """A folder named for a run can not be used; nothing was started."""

    exit_code = 2


@dataclass(frozen=True)
class RunFolder:
    """Paths inside one run folder; nothing here touches the disk."""

    path: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe, written once."""
        return self.path / "recipe.yaml"

    @property
    def state(self) -> Path:
        """Status, step and heartbeat; replaced whole."""
        return self.path / "state.json"

    @property
    def lock(self) -> Path:
        """Locked while the run's process lives. Open it only through ``runs.lock``."""
        return self.path / "run.lock"

    @property
    def metrics(self) -> Path:
        """One JSON object per logged step."""
        return self.path / "metrics.jsonl"

    @property
    def geometry(self) -> Path:
        """One JSON object per adapted matrix and snapshot."""
        return self.path / "geometry.jsonl"

    @property
    def console(self) -> Path:
        """What the run printed."""
        return self.path / "console.log"

    @property
    def stop_request(self) -> Path:
        """Its presence asks the run to save and end; the only file that others write."""
        return self.path / "requests" / "stop"

    @property
    def checkpoints(self) -> Path:
        """Folder of training checkpoints."""
        return self.path / "checkpoints"

    @property
    def adapter(self) -> Path:
        """Folder of the finished PEFT adapter."""
        return self.path / "adapter"

    @property
    def report(self) -> Path:
        """The self-contained report."""
        return self.path / "report.html"

    @property
    def summary(self) -> Path:
        """The end table: before, after, generations, certificate."""
        return self.path / "summary.json"

    @property
    def basis(self) -> Path:
        """The frozen bases of the run."""
        return self.path / "basis.safetensors"


def require_unused(path: Path, otherwise: str = "") -> None:
    """Refuse a folder that holds anything, before work is done for a run in it; the writer looks again.

    Args:
        path: Where the run is to be.
        otherwise: What else the user can do, for the message.

    Raises:
        FolderError: It is not empty.
    """
    if path.is_dir() and any(path.iterdir()):
        raise FolderError(f"{path} is not empty: name a new folder{otherwise}")


def new_run_path(root: Path, recipe_name: str, now: datetime) -> Path:
    """A path under ``root`` that no run has yet: ``<time>-<recipe>``, numbered where taken.

    Args:
        root: Folder of runs; need not exist.
        recipe_name: Any text; characters outside ``A-Za-z0-9._-`` become dashes.
        now: Time of the start, in the user's time zone.

    Returns:
        The path; the folder is made by ``RunWriter.start``.
    """
    safe = _UNSAFE.sub("-", recipe_name).strip("-.")[:_LONGEST_NAME] or "run"
    name = f"{now:%Y%m%d-%H%M%S}-{safe}"
    candidate, number = root / name, 1
    while candidate.exists() or candidate.is_symlink():
        number += 1
        candidate = root / f"{name}-{number}"
    return candidate
