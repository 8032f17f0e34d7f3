"""Deleting a run: refused while it may live, and never half visible.

The folder is first renamed to a hidden name beside it, so that a process killed
in the middle leaves no run that lacks some of its files; the next removal in
the same folder of runs sweeps what such a one left.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from readwrite_edit.errors import RunError
from readwrite_edit.runs.folder import FolderError, RunFolder
from readwrite_edit.runs.lock import RunLock, is_locked
from readwrite_edit.runs.notes import Note, write_note
from readwrite_edit.runs.reader import read_run
from readwrite_edit.runs.state import StateError, load_state

_HIDDEN = re.compile(r"\.removed-[0-9a-f]{16}")


def remove(path: Path) -> None:
    """Delete a run folder for good, with the note on it. Of a symbolic link only the link goes.

    Args:
        path: The run folder.

    Raises:
        FolderError: It is no run, may be living, or can not be deleted (the message says what is left of it).
    """
    root, name = _place(path)
    _require_dead(path)
    if path.is_symlink():
        _unlink(path)
    else:
        _delete(_hide(path, root))
    with suppress(FolderError):  # a note that stays does no harm
        write_note(root, name, Note())
    sweep(root)


def sweep(root: Path) -> None:
    """Delete what removals that were killed left in a folder of runs; what can not be deleted stays."""
    with suppress(OSError):
        for name in os.listdir(root):
            if _HIDDEN.fullmatch(name) and stat.S_ISDIR(os.lstat(root / name).st_mode):
                shutil.rmtree(root / name, ignore_errors=True)


def _place(path: Path) -> tuple[Path, str]:
    whole = path.absolute()
    if whole.name in ("", ".."):
        raise FolderError(f"{path}: expected the folder of one run")
    return whole.parent, whole.name


def _require_dead(path: Path) -> None:
    """Refuse what is no run, and what may still be written to."""
    if not _is_run(path):
        raise FolderError(f"{path} is not a run folder: nothing is deleted; delete it by hand if it is yours")
    view = read_run(path)
    if view.status == "silent":
        raise FolderError(
            f"{path} may live on host {view.hostname} ({view.reason}): stop it there, or delete the folder by hand"
        )
    if view.live or _held(path):
        raise FolderError(f"{path} is {view.status if view.live else 'in use'}: stop it first")


def _is_run(path: Path) -> bool:
    """Whether a folder holds what only a run has: a state that reads as one, or at least its lock and recipe."""
    folder = RunFolder(path)
    if not path.is_dir():
        return False
    try:
        load_state(folder.state)
    except StateError:
        return folder.lock.is_file() and folder.recipe.is_file()
    return True


def _held(path: Path) -> bool:
    try:
        return is_locked(RunFolder(path).lock)
    except OSError as error:
        raise FolderError(f"{path}: its lock can not be tested ({error.strerror}): nothing is deleted") from None


def _hide(path: Path, root: Path) -> Path:
    """Rename the folder while nobody can go on with the run."""
    hidden = root / f".removed-{secrets.token_hex(8)}"
    try:
        with RunLock(RunFolder(path).lock):
            path.rename(hidden)
    except FolderError as error:
        raise FolderError(f"{path} can not be deleted: {error}") from None
    except RunError:
        raise FolderError(f"{path} was taken up again just now: stop it first") from None
    except OSError as error:
        raise FolderError(f"{path}: {error.strerror}: it can not be deleted; give access to the folder") from error
    return hidden


def _delete(hidden: Path) -> None:
    try:
        shutil.rmtree(hidden)
    except FileNotFoundError:
        pass  # another removal swept it
    except OSError as error:
        raise FolderError(
            f"{error.filename}: {error.strerror}: the run is gone from the list, but some of its files are left in "
            f"{hidden}; give access to them, then delete that folder"
        ) from error


def _unlink(path: Path) -> None:
    try:
        path.unlink()
    except OSError as error:
        raise FolderError(f"{path}: {error.strerror}: the link can not be deleted") from error
