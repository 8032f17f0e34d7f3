"""A probe as a run: folder, lock, signals, tables, summary and report around what measures."""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from readwrite_edit.errors import RunError
from readwrite_edit.job.carrying import carry_out
from readwrite_edit.job.result import Result, write_result
from readwrite_edit.job.session import Session
from readwrite_edit.probe.settings import dump_settings, load_settings
from readwrite_edit.probe.settings.base import ProbeSettings
from readwrite_edit.runs.folder import FolderError, RunFolder, require_unused
from readwrite_edit.runs.lock import is_locked
from readwrite_edit.runs.reader import read_run
from readwrite_edit.runs.signals import Interruption, heeding_signals
from readwrite_edit.runs.writer import RunWriter

_RESUME = "readwrite-edit probe resume"


@dataclass(frozen=True)
class ProbeOutcome:
    """How a probe ended.

    Attributes:
        folder: The run folder.
        result: What it found; None where it was stopped.
        interrupted: Whether a signal, not a stop request, ended it.
    """

    folder: RunFolder
    result: Result | None
    interrupted: bool = False


def start_probe(settings: ProbeSettings, path: Path, command: str) -> ProbeOutcome:
    """Carry out a probe in a new run folder; nothing is written where its input is wrong.

    Args:
        settings: What to measure.
        path: Run folder, missing or empty.
        command: The command line that asked for it, kept with the results.

    Raises:
        ReadWriteEditError: Wrong input, or the probe failed; the folder then says why.
    """
    require_unused(path, f", or go on with {_RESUME} {shlex.quote(str(path))}")
    with heeding_signals() as interruption:
        measure = prepare(settings)
        recipe = dump_settings(settings, command)
        writer = RunWriter.start(path, recipe_text=recipe, recipe_name=settings.KIND, kind="probe")
        return _carry_out(settings, measure, writer, interruption)


def resume_probe(path: Path) -> ProbeOutcome:
    """Go on with a stopped or killed probe where it was.

    Raises:
        ReadWriteEditError: It is no probe, finished or in use, or its input is no longer what it was.
    """
    folder = RunFolder(path)
    view = read_run(path)
    if view.status == "broken" or view.kind != "probe":
        raise FolderError(f"{path} is not the run of a probe: {view.reason or f'it is of kind {view.kind}'}")
    if view.status == "finished" and folder.report.is_file():
        raise FolderError(f"{path} is finished: see {folder.report}, or start a new probe")
    if is_locked(folder.lock):
        raise RunError(f"{path} is in use by another process: stop it first")
    settings = load_settings(folder.recipe)
    with heeding_signals() as interruption:
        measure = prepare(settings)
        writer = RunWriter.resume(path)
        writer.rewind(view.step)
        return _carry_out(settings, measure, writer, interruption)


def prepare(settings: ProbeSettings) -> Callable[[Session], Result]:
    """Check everything that a probe needs; returns what measures."""
    module = importlib.import_module(f"readwrite_edit.probe.{settings.KIND}")
    ready: Callable[[Session], Result] = module.prepare(settings)
    return ready


def _carry_out(
    settings: ProbeSettings,
    measure: Callable[[Session], Result],
    writer: RunWriter,
    interruption: Interruption,
) -> ProbeOutcome:
    """Measure and write, with the folder's state true at every end."""
    folder = writer.folder

    def work(session: Session) -> Result:
        result = measure(session)
        session.close()
        write_result(result, folder, {"probe": settings.KIND, "settings": settings.model_dump(mode="json")})
        return result

    again = f"go on with {_RESUME} {shlex.quote(str(folder.path))}"
    result = carry_out(writer, interruption, work, again=again, less="--batch-size or --max-length")
    return ProbeOutcome(folder, result, result is None and interruption.asked)
