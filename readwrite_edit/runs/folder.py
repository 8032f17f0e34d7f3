"""The names of the files in a run folder, and the name of a new one."""

from __future__ import annotations

import os
import re
from collections.abc import Container
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from readwrite_edit.durable import try_writing
from readwrite_edit.errors import RunError

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_DATE = re.compile(r"^\d{8}-\d{6}-")
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
    def evaluations(self) -> Path:
        """One JSON object per evaluation: what was measured of each row and of each sequence."""
        return self.path / "evaluations.jsonl"

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


def has_run(path: Path) -> bool:
    """Whether a folder holds a run, if only one that has just begun."""
    return RunFolder(path).state.exists() or RunFolder(path).recipe.exists()


def require_unused(path: Path, otherwise: str = "") -> None:
    """Refuse a folder that no run can begin in, before work is done for one; the writer looks again.

    Args:
        path: Where the run is to be.
        otherwise: What else the user can do with a folder that is in use, for the message.

    Raises:
        FolderError: It is not empty, is a file, or can not be made or written.
    """
    try:
        if path.is_dir() and any(path.iterdir()):
            raise FolderError(f"{path} is not empty: name a new folder{otherwise}")
        try_writing(path)
    except FileExistsError:
        raise FolderError(f"{path} is a file: name a folder for the run") from None
    except OSError as error:
        raise FolderError(f"{path}: {error.strerror or error}: name a folder that can be written") from error


def new_run_path(root: Path, recipe_name: str, now: datetime, *, taken: Container[Path] = ()) -> Path:
    """A path under ``root`` that no run has yet: ``<time>-<recipe>``, numbered where taken.

    Args:
        root: Folder of runs; need not exist.
        recipe_name: Any text; characters outside ``A-Za-z0-9._-`` become dashes.
        now: Time of the start, in the user's time zone.
        taken: Whole paths that are promised to runs without a folder yet.

    Returns:
        The path; the folder is made by ``RunWriter.start``.
    """
    name = dated_name(recipe_name, now)
    candidate, number = root / name, 1
    while os.path.lexists(candidate) or candidate.absolute() in taken:
        number += 1
        candidate = root / f"{name}-{number}"
    return candidate


def recipe_title(path_or_name: str) -> str:
    """What a run of a recipe is called: its file's name, and of the recipe frozen in a run that run's, undated."""
    path = Path(path_or_name)
    if path.name != RunFolder(path.parent).recipe.name:
        return path.stem
    return _DATE.sub("", path.absolute().parent.name) or path.stem


def dated_name(text: str, now: datetime) -> str:
    """``<time>-<text>`` as the name of a file: characters outside ``A-Za-z0-9._-`` become dashes."""
    safe = _UNSAFE.sub("-", text).strip("-.")[:_LONGEST_NAME] or "run"
    return f"{now:%Y%m%d-%H%M%S}-{safe}"
