"""The rows of the list of runs: read in a worker, plain text that is safe to show."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from readwrite_edit.runs.folder import RunFolder
from readwrite_edit.runs.notes import Note, read_notes
from readwrite_edit.runs.reader import RunView, read_run, run_names
from readwrite_edit.runs.state import ENDED
from readwrite_edit.runs.wording import GLYPHS
from readwrite_edit.terminal import printable
from readwrite_edit.tui.home.queue_view import QueueView, read_queue

if TYPE_CHECKING:
    from readwrite_edit.queue import Item

Signature = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """One row of the list. Its texts are safe to show; ``view`` and ``item`` are as read.

    Attributes:
        key: Stays the same from reading to reading.
        view: The run, or what is known of one that waits.
        item: Of the queue; None for a run.
        name: Of the folder.
        kind: Of the run.
        recipe: Of the run.
        tags: Of the user, with spaces between them.
        note: Of the user.
        reason: More on the status.
        words: What a filter looks in, in lower case.
    """

    key: str
    view: RunView
    item: Item | None = None
    name: str
    kind: str = ""
    recipe: str = ""
    tags: str = ""
    note: str = ""
    reason: str = ""
    words: str = ""


@dataclass(frozen=True)
class Reading:
    """A root folder at one moment: rows newest first, those that wait before all, and the queue."""

    rows: list[RunRow]
    queue: QueueView


class Listing:
    """Reads a root folder again and again; the state of a run that has ended only when it changed."""

    def __init__(self, root: Path, clock: Callable[[], float]) -> None:
        self.root = root
        self._clock = clock
        self._ended: dict[str, tuple[Signature, float, RunView]] = {}
        self._rows: dict[str, tuple[RunView, Note, RunRow]] = {}

    def read(self) -> Reading:
        """All runs under the root, and what waits in its queue.

        Raises:
            FolderError: The root can not be read.
        """
        now = self._clock()
        views = [self._view(name, now) for name in run_names(self.root)]
        views.sort(key=lambda view: (view.started_s or 0.0, view.name), reverse=True)
        notes, queue = read_notes(self.root), read_queue(self.root)
        self._rows = {view.name: self._remembered(view, notes.get(view.name, Note())) for view in views}
        waiting = [_queued_row(item) for item in queue.shown]
        return Reading([*waiting, *(row for _, _, row in self._rows.values())], queue)

    def _view(self, name: str, now: float) -> RunView:
        """A run's view; one that has ended changes no more unless its state file does."""
        path = self.root / name
        signature = _signature(RunFolder(path).state)
        known = self._ended.get(name)
        if signature and known and known[0] == signature:
            _, then, view = known
            return view.aged(now - then)
        view = read_run(path, now=now)
        if signature and view.status in ENDED:
            self._ended[name] = signature, now, view
        else:
            self._ended.pop(name, None)
        return view

    def _remembered(self, view: RunView, note: Note) -> tuple[RunView, Note, RunRow]:
        """The row of a run, made safe to show only once as long as it says the same."""
        known = self._rows.get(view.name)
        if known and known[1] == note and replace(known[0], age_s=view.age_s, ahead_s=view.ahead_s) == view:
            return view, note, replace(known[2], view=view)
        return view, note, _row(view, note)


def status_text(view: RunView) -> str:
    """Glyph and word: neither colour nor shape alone has to tell."""
    return f"{GLYPHS[view.status]} {view.status}"


def _row(view: RunView, note: Note) -> RunRow:
    row = RunRow(
        key=view.name,
        view=view,
        name=printable(view.name),
        kind=printable(view.kind),
        recipe=printable(view.recipe),
        tags=" ".join(map(printable, note.tags)),
        note=printable(note.text),
        reason=printable(view.reason),
    )
    return replace(row, words=_words(view.status, [row.name, row.kind, row.recipe, row.tags, row.note, row.reason]))


def _queued_row(item: Item) -> RunRow:
    """An item of the queue that has no run folder yet."""
    status = "failed" if item.state == "failed" else "queued"
    command = printable(shlex.join(_without_folder(item.argv)))
    reason = printable(item.reason) or ("begins" if item.state == "running" else command)
    view = RunView(path=item.run, status=status, kind=item.argv[0] if item.argv else "")
    name, kind = printable(item.name), printable(view.kind)
    words = _words(status, [name, kind, reason, command])
    return RunRow(key=f"queue/{item.id}", view=view, item=item, name=name, kind=kind, reason=reason, words=words)


def _without_folder(argv: Sequence[str]) -> list[str]:
    """A command without the run folder that the queue gave it: the row's name says which run it is."""
    at = argv.index("--run-dir") if "--run-dir" in argv else len(argv)
    return [*argv[:at], *argv[at + 2 :]]


def _words(status: str, texts: Iterable[str]) -> str:
    return " ".join([status, *texts]).lower()


def _signature(path: Path) -> Signature | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
