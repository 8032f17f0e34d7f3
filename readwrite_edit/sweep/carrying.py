"""Carrying a sweep out: planned runs become items of the queue in its folder, and the queue does the rest.

The folder is the only memory: what is to be done follows from the runs in it, so
that the same call goes on after a kill, and does nothing where all is finished.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from readwrite_edit.errors import RunError
from readwrite_edit.queue import add
from readwrite_edit.queue.runner import run_queue, runner_pid
from readwrite_edit.queue.store import changing
from readwrite_edit.recipe import Recipe
from readwrite_edit.runs.folder import FolderError
from readwrite_edit.runs.lock import RunLock, holder
from readwrite_edit.runs.wording import age_text
from readwrite_edit.sweep.planning import Grid, Survey, survey
from readwrite_edit.sweep.progress import Standing, finished_text, seconds_left
from readwrite_edit.sweep.record import SweepRecord, write_record

Say = Callable[[str], None]
Checker = Callable[[Sequence[Recipe]], None]


def carry_out(folder: Path, grid: Grid, *, jobs: int, check: Checker, say: Say) -> list[Standing]:
    """Do every run of a sweep that is not finished; each is tried once in a call.

    Args:
        folder: Of the sweep.
        grid: Its runs.
        jobs: Devices to use.
        check: Refuses recipes of runs that are to begin; nothing has been written for them yet.
        say: Tells the user what happens.

    Returns:
        How the runs stand in the end.

    Raises:
        ReadWriteEditError: Wrong input, or the folder can not be used.
    """
    tried: set[str] = set()
    found = survey(folder, grid)
    check(_to_begin(found, tried))
    with _alone(folder):
        while True:
            write_record(folder, found.record)
            due = _due(found, tried)
            if not due:
                return list(found.runs)
            tried |= {run.planned.name for run in due}
            say(_outlook(found, jobs))
            _enqueue(folder, found.record, due, jobs)
            run_queue(folder, say)
            found = survey(folder, grid, tried)
            check(_to_begin(found, tried))


def _outlook(found: Survey, jobs: int) -> str:
    left = seconds_left(found.runs, later=found.later, jobs=jobs)
    time = "" if left is None else f", about {age_text(left)} to go"
    more = f" ({found.later} more once {found.record.choose} is chosen)" if found.later else ""
    return f"{finished_text(found.runs)}{more}{time}"


def _due(found: Survey, tried: set[str]) -> list[Standing]:
    return [run for run in found.runs if not run.finished and run.planned.name not in tried]


def _to_begin(found: Survey, tried: set[str]) -> list[Recipe]:
    """Those that are to begin; the others have been looked at when they began, or look themselves when they go on."""
    return [found.recipes[run.planned.name] for run in _due(found, tried) if run.view is None and not run.busy]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Be the only sweep of a folder, in which nobody else works on the queue: another would begin what this one plans.

    Raises:
        FolderError: There is another one, or the folder can not be written.
    """
    with changing(folder) as place:  # makes the folder
        lock = RunLock(place / "sweep.lock")
        pid = holder(lock.path) or runner_pid(folder)
        if pid is not None:
            known = f", as pid {pid}" if pid else ""  # 0: the system can not name it
            remedy = f"or end it with kill {pid} (its runs go on)" if pid else "or end it (its runs go on)"
            raise FolderError(f"a sweep or a queue works on {folder} already{known}: wait for its end, {remedy}")
        try:
            lock.acquire()
        except FolderError:
            raise
        except RunError as error:
            raise FolderError(str(error)) from None
    try:
        yield
    finally:
        lock.release()


def _enqueue(folder: Path, record: SweepRecord, due: Sequence[Standing], jobs: int) -> None:
    """Put runs into the queue, unless they wait or run there already."""
    for number, run in enumerate(due):
        if not run.busy:
            device = f"cuda:{number % jobs}" if jobs > 1 else None
            name = run.planned.name
            add(folder, _argv(record, run, (folder / name).absolute()), name, device=device)


def _argv(record: SweepRecord, run: Standing, path: Path) -> list[str]:
    if run.view is not None:
        return ["align", "--resume", str(path)]
    settings = [word for setting in (*record.settings, *run.planned.settings) for word in ("--set", setting)]
    return ["align", "--recipe", record.recipe, *settings, "--run-dir", str(path)]
