"""The only writer of a run folder: the process that trains, edits or probes.

Resuming never rewrites a JSONL file. Each resume is a new ``segment``, and
``state.json`` keeps in ``segment_starts`` the step that it went on from. The
rule for readers (``runs.records`` applies it): a line of an earlier segment is
superseded where its step lies beyond the start of a later segment, and where a
later segment has a line for the same step and kind. A segment that did not say
where it started counts from the step before its first line.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, SupportsFloat

from readwrite_edit.durable import write_text
from readwrite_edit.errors import RunError
from readwrite_edit.runs.appender import LineAppender, disk_error
from readwrite_edit.runs.folder import FolderError, RunFolder
from readwrite_edit.runs.lock import RunLock
from readwrite_edit.runs.state import ENDED, STATUSES, RunState, StateError, load_state, save_state

HEARTBEAT_EVERY_S = 1.0
_LONGEST_ERROR = 2000


class RunWriter:
    """Holds a run's lock and writes its state, metrics and geometry.

    As a context manager it marks the run as failed when an exception leaves the
    block before an end was marked, and always gives the lock back.
    """

    def __init__(self, folder: RunFolder, lock: RunLock, state: RunState) -> None:
        """Use ``start`` or ``resume`` instead: they take the lock that this needs."""
        self.folder = folder
        self._lock = lock
        self._state = state
        self._saved_at = -math.inf
        self._save(flush=True)
        self._metrics = LineAppender(folder.metrics)
        self._geometry = LineAppender(folder.geometry)
        self._evaluations: LineAppender | None = None  # only alignments have it

    @classmethod
    def start(
        cls, path: Path, *, recipe_text: str, recipe_name: str, max_steps: int | None = None, kind: str = "align"
    ) -> RunWriter:
        """Create a run folder and take it; on failure nothing of it stays behind.

        Args:
            path: The folder, missing or empty.
            recipe_text: The resolved recipe, written verbatim.
            recipe_name: Its short name, for lists.
            max_steps: Steps to do, where they are known yet.
            kind: ``align``, ``probe`` or ``edit``.

        Raises:
            RunError: Another process holds the folder.
            FolderError: It is not empty, or can not be written.
        """
        folder = RunFolder(path)
        made = _make_folder(path)
        lock = RunLock(folder.lock).acquire()
        try:
            _refuse_used(folder)  # nothing of another's is swept away: what is refused here was not written here
        except FolderError:
            lock.release()
            raise
        try:
            write_text(folder.recipe, recipe_text)
            return cls(folder, lock, _first_state(kind, recipe_name, max_steps))
        except (OSError, RunError) as error:
            _sweep(folder, made)
            lock.release()
            if isinstance(error, RunError):
                raise
            raise disk_error(folder.path, error) from error

    @classmethod
    def resume(cls, path: Path, *, max_steps: int | None = None) -> RunWriter:
        """Take an existing run and open its next segment; a pending stop request is dropped.

        Call ``rewind`` with the step of the checkpoint that training goes on from.

        Raises:
            RunError: Another process holds the folder.
            FolderError: It is no run, or one of a newer schema.
        """
        folder = RunFolder(path)
        _load_for_resume(folder)  # before run.lock is created in a folder that is no run
        lock = RunLock(folder.lock).acquire()
        try:
            folder.stop_request.unlink(missing_ok=True)
            return cls(folder, lock, _next_segment(_load_for_resume(folder), max_steps))
        except OSError as error:
            lock.release()
            raise disk_error(path, error) from error
        except RunError:
            lock.release()
            raise

    @property
    def state(self) -> RunState:
        """The state as last set; the file may lag behind by a heartbeat."""
        return self._state

    @property
    def segment(self) -> int:
        """How many times the run was resumed."""
        return self._state.segment

    def log_metrics(
        self, step: int, values: Mapping[str, SupportsFloat], *, kind: str = "train", message: str | None = None
    ) -> None:
        """Append one line of named values; those that are not finite become null and are listed.

        Args:
            step: Optimiser step the values belong to.
            values: Numbers by name; scalar tensors and NumPy scalars do too.
            kind: ``train``, ``eval`` or ``alarm``.
            message: A sentence for the reader, for alarms.

        Raises:
            RunError: The disk refuses.
        """
        numbers = {name: float(value) for name, value in values.items()}
        row = {**self._stamp(step), "kind": kind, "values": _finite_or_null(numbers)}
        if lost := [name for name, number in numbers.items() if not math.isfinite(number)]:
            row["nonfinite"] = lost
        if message is not None:
            row["message"] = message
        self._metrics.append([row])

    def log_geometry(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append one snapshot, a row per adapted matrix, all or none; numbers not finite become null.

        Raises:
            RunError: The disk refuses.
        """
        stamp = self._stamp(step)
        self._geometry.append([{**_finite_or_null(row), **stamp} for row in rows])

    def log_evaluation(self, step: int, line: Mapping[str, Any]) -> None:
        """Append one line of ``evaluations.jsonl``, see ``evaluate.records``.

        Raises:
            RunError: The disk refuses.
        """
        if self._evaluations is None:
            self._evaluations = LineAppender(self.folder.evaluations)
        self._evaluations.append([{**line, **self._stamp(step)}])

    def rewind(self, step: int) -> None:
        """Say that this segment goes on from a checkpoint at ``step``: earlier lines beyond it are superseded."""
        starts = (*self._state.segment_starts[:-1], step)
        self._state = replace(self._state, step=step, segment_starts=starts)
        self._save(flush=True)

    def heartbeat(self, step: int, max_steps: int | None = None) -> None:
        """Note the step and that the run is alive; reaches the disk at most once a second."""
        known = self._state.max_steps if max_steps is None else max_steps
        self._state = replace(self._state, step=step, max_steps=known)
        if time.monotonic() - self._saved_at >= HEARTBEAT_EVERY_S:
            self._save(flush=False)

    def mark(self, status: str, error: str | None = None) -> None:
        """Change the status: running, stopping, stopped, finished or failed (with the error's text).

        Raises:
            RunError: The disk refuses.
        """
        if status not in STATUSES:
            raise ValueError(f"status {status!r} is none of {', '.join(STATUSES)}")
        text = None if error is None else error[:_LONGEST_ERROR]
        self._state = replace(self._state, status=status, error=text)
        self._save(flush=True)

    def stop_requested(self) -> bool:
        """Whether someone asked the run to save and end."""
        return os.path.lexists(self.folder.stop_request)

    def close(self) -> None:
        """Close the files and give the lock back; a second call does nothing."""
        self._metrics.close()
        self._geometry.close()
        if self._evaluations is not None:
            self._evaluations.close()
        self._lock.release()

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None and self._state.status not in ENDED:
                self._mark_failed(error)
        finally:
            self.close()

    def _mark_failed(self, error: BaseException) -> None:
        try:
            self.mark("failed", str(error) or type(error).__name__)
        except RunError as second:
            # The first error is the one to report; readers call a run failed whose process is gone.
            error.add_note(f"and the run's state could not be saved: {second}")

    def _stamp(self, step: int) -> dict[str, Any]:
        return {"step": step, "segment": self._state.segment, "time": round(time.time(), 3)}

    def _save(self, *, flush: bool) -> None:
        self._state = replace(self._state, heartbeat_s=round(time.time(), 3))
        try:
            save_state(self.folder.state, self._state, flush=flush)
        except OSError as error:
            raise disk_error(self.folder.state, error) from error
        self._saved_at = time.monotonic()


def _first_state(kind: str, recipe_name: str, max_steps: int | None) -> RunState:
    return RunState(
        status="running",
        kind=kind,
        recipe=recipe_name,
        max_steps=max_steps,
        started_s=round(time.time(), 3),
        pid=os.getpid(),
        hostname=socket.gethostname(),
    )


def _next_segment(state: RunState, max_steps: int | None) -> RunState:
    segment = state.segment + 1
    starts = (*state.segment_starts, *[None] * segment)[:segment]
    return replace(
        state,
        status="running",
        error=None,
        segment=segment,
        segment_starts=(*starts, None),
        max_steps=state.max_steps if max_steps is None else max_steps,
        pid=os.getpid(),
        hostname=socket.gethostname(),
    )


def _load_for_resume(folder: RunFolder) -> RunState:
    try:
        return load_state(folder.state)
    except StateError as error:
        raise FolderError(f"{folder.path}: {error}: it can not be resumed") from error


def _make_folder(path: Path) -> bool:
    """Make the folder where it is missing; whether it was."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir()
    except FileExistsError:
        if path.is_dir():
            return False
        raise FolderError(f"{path} is a file: name a folder for the run") from None
    except OSError as error:
        raise FolderError(f"{path}: {error.strerror}: name a folder that can be written") from error
    return True


def _refuse_used(folder: RunFolder) -> None:
    """Refuse a folder that holds anything but the lock just taken."""
    present = {entry.name for entry in folder.path.iterdir()} - {folder.lock.name}
    if folder.state.name in present:
        raise FolderError(f"{folder.path} holds a run already: resume it, or name another folder")
    if present:
        raise FolderError(f"{folder.path} is not empty: name a new folder for the run")


def _finite_or_null(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(item, float) and not math.isfinite(item) else item for name, item in row.items()}


def _sweep(folder: RunFolder, made: bool) -> None:
    """Take back what a failed start wrote, while its lock is still held."""
    temporary = folder.state.with_name(f".{folder.state.name}.new")
    for path in (folder.recipe, folder.state, temporary, folder.metrics, folder.geometry, folder.lock):
        path.unlink(missing_ok=True)
    if made:
        folder.path.rmdir()
