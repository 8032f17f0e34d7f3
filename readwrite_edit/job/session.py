"""What a running probe or edit may use: words for the user, the run folder's records, and whether to stop."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from readwrite_edit.runs import reader
from readwrite_edit.runs.appender import LineAppender
from readwrite_edit.runs.cursor import Cursor
from readwrite_edit.runs.writer import RunWriter
from readwrite_edit.terminal import printable


class StopAskedError(Exception):
    """Someone asked the run to stop; what it has measured is kept."""


class Session:
    """A run's surroundings. Without a writer, as from Python, it is silent and nothing is kept.

    Args:
        writer: Of the run folder.
        interrupted: Whether a signal asked for an end.
        aloud: Speak and show bars also without a writer, as before a run folder exists.
    """

    def __init__(
        self,
        writer: RunWriter | None = None,
        interrupted: Callable[[], bool] = lambda: False,
        *,
        aloud: bool = False,
    ) -> None:
        self._writer, self._interrupted = writer, interrupted
        self._aloud = aloud or writer is not None
        self._bar: tqdm[Any] | None = None

    @property
    def folder(self) -> Path | None:
        """The run folder, for partial results; None from Python."""
        return None if self._writer is None else self._writer.folder.path

    def say(self, sentence: str) -> None:
        """Tell whoever watches; the console log keeps it."""
        if self._aloud:
            tqdm.write(printable(sentence), file=sys.stderr)

    def advance(self, done: int, total: int, unit: str = "step") -> None:
        """Note progress: heartbeat and bar.

        Raises:
            StopAskedError: A stop was asked for.
        """
        if not self._aloud:
            return
        if self._bar is None or self._bar.total != total:
            self.close()
            self._bar = tqdm(total=total, unit=unit, file=sys.stderr, disable=not sys.stderr.isatty(), leave=False)
        self._bar.update(done - self._bar.n)
        if self._writer is not None:
            self._writer.heartbeat(done, total)
        if done < total and (self._interrupted() or (self._writer is not None and self._writer.stop_requested())):
            raise StopAskedError

    def log_metrics(self, step: int, values: Mapping[str, float], kind: str = "train") -> None:
        """One line of ``metrics.jsonl``."""
        if self._writer is not None:
            self._writer.log_metrics(step, values, kind=kind)

    def log_geometry(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Rows of ``geometry.jsonl``, all or none."""
        if self._writer is not None:
            self._writer.log_geometry(step, rows)

    def append(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Rows of a file ``<name>.jsonl`` of the probe's own, all or none."""
        if self._writer is not None:
            appender = LineAppender(self._writer.folder.path / f"{name}.jsonl")
            try:
                appender.append(rows)
            finally:
                appender.close()

    def recorded(self, name: str) -> list[dict[str, Any]]:
        """What earlier segments of this run had appended under a name."""
        return [] if self._writer is None else Cursor(self._writer.folder.path / f"{name}.jsonl").read()

    def recorded_geometry(self) -> list[dict[str, Any]]:
        """What earlier segments of this run had measured."""
        return [] if self._writer is None else reader.geometry(self._writer.folder.path)

    def recorded_metrics(self) -> list[dict[str, Any]]:
        """What earlier segments of this run had logged."""
        return [] if self._writer is None else reader.metrics(self._writer.folder.path)

    def close(self) -> None:
        """Take the bar off the terminal."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
