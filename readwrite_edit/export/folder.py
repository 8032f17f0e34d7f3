"""Writing an export: a folder that appears whole, replaces nothing unasked and destroys nothing of anyone's."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from readwrite_edit.adapter.save import METADATA
from readwrite_edit.durable import whole_folder
from readwrite_edit.errors import ExportError, ReadWriteEditError
from readwrite_edit.export.finished import ADAPTER_FILES, FinishedRun, finished_run
from readwrite_edit.report.card import model_card

CARD = "README.md"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class ExportedFile:
    """A file of an export; ``estimated`` where it is not written yet and its size follows from the configuration."""

    name: str
    size_bytes: int
    estimated: bool = False


def export_run(
    run_path: Path, to: Path, *, merge: bool = False, force: bool = False, repo_id: str | None = None
) -> list[ExportedFile]:
    """Write a run's adapter, or the merged model, with its model card.

    Args:
        run_path: Folder of a finished run.
        to: Target folder, missing or empty; appears whole or not at all.
        merge: Write the merged model instead of the adapter.
        force: Replace an earlier export at ``to``; any other folder is refused all the same.
        repo_id: Hub repository that the card names as the place to load from.

    Returns:
        What was written.

    Raises:
        DataError: There is no run, or one of its files is damaged.
        ExportError: The run can not be exported, or the target not be written.
    """
    run = finished_run(run_path)
    target = to.expanduser().resolve()
    _check_target(target, run_path.resolve(), force)
    with _reported(to), whole_folder(target) as folder:
        _write_contents(run, folder, merge)
        (folder / CARD).write_text(model_card(run_path, repo_id=repo_id, merged=merge), encoding="utf-8")
        _share(folder)
    return _listed(target)


def planned_files(run_path: Path, to: Path, *, merge: bool = False, force: bool = False) -> list[ExportedFile]:
    """What ``export_run`` would write; checks the same and writes nothing.

    Raises:
        DataError, ExportError: As ``export_run``, but for what only writing shows.
    """
    run = finished_run(run_path)
    _check_target(to.expanduser().resolve(), run_path.resolve(), force)
    card = ExportedFile(CARD, len(model_card(run_path, merged=merge).encode()))
    if not merge:
        return [card, *(ExportedFile(name, (run.adapter / name).stat().st_size) for name in ADAPTER_FILES)]
    from readwrite_edit.export.merged import merged_bytes

    return [card, ExportedFile("model.safetensors", merged_bytes(run), estimated=True)]


def _write_contents(run: FinishedRun, folder: Path, merge: bool) -> None:
    if not merge:
        for name in ADAPTER_FILES:
            shutil.copyfile(run.adapter / name, folder / name)
        return
    from readwrite_edit.export.merged import write_merged

    write_merged(run, folder)


def _share(folder: Path) -> None:
    """Give every file the rights of the card: safetensors keeps what it writes to its owner."""
    mode = (folder / CARD).stat().st_mode
    for path in folder.iterdir():
        path.chmod(mode)


def _check_target(target: Path, run: Path, force: bool) -> None:
    if target == run or target in run.parents or run in target.parents:
        raise ExportError(f"{target} is the run folder, around it or inside it: choose a folder beside {run}")
    if not target.exists():
        return
    if not target.is_dir():
        raise ExportError(f"{target} is a file: choose a folder")
    if not any(target.iterdir()):
        return
    if not force:
        raise ExportError(f"{target} is not empty: choose another folder, or --force to replace an earlier export")
    if not (target / METADATA).is_file():
        raise ExportError(f"{target} is not an earlier export (no {METADATA}), and --force replaces nothing else")


def _listed(folder: Path) -> list[ExportedFile]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [ExportedFile(str(path.relative_to(folder)), path.stat().st_size) for path in files]


@contextmanager
def _reported(to: Path) -> Iterator[None]:
    """Turn what the disk says into one line; nothing half-written is left by then."""
    try:
        yield
    except ReadWriteEditError:
        raise
    except OSError as error:
        full = error.errno in _FULL
        remedy = "free some space or choose another disk" if full else "choose a folder that can be written"
        what = "the disk is full" if full else str(error.strerror or error)
        raise ExportError(f"{to} can not be written ({what}): {remedy}; nothing was left behind") from error
    except SafetensorError as error:
        raise ExportError(f"{to} can not be written ({error}): free some space or choose another disk") from error
