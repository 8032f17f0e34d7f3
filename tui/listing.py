"""The rows of the list of runs: read in a worker, plain text that is safe to show."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from readwrite_edit.runs.folder import RunFolder
from readwrite_edit.runs.reader import RunView, last_value, list_runs
from readwrite_edit.runs.wording import GLYPHS, age_text, number_text, step_text
from readwrite_edit.terminal import printable

COLUMNS = ("status", "kind", "recipe", "step", "loss", "age", "run")
_WIDEST_RECIPE = 18


@dataclass(frozen=True)
class RunRow:
    """One run of the list: its view, and a cell of text for each of ``COLUMNS``."""

    view: RunView
    cells: tuple[str, ...]


class Listing:
    """Reads a root folder again and again; the end of a metrics file only when it changed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._losses: dict[Path, tuple[tuple[int, int], str]] = {}

    def read(self) -> list[RunRow]:
        """All runs under the root, newest first.

        Raises:
            FolderError: The root can not be read.
        """
        views = list_runs(self.root)
        self._losses = {view.path: self._losses[view.path] for view in views if view.path in self._losses}
        return [RunRow(view, _cells(view, self._loss(view.path))) for view in views]

    def _loss(self, path: Path) -> str:
        try:
            status = os.stat(RunFolder(path).metrics)
        except OSError:
            return "–"
        signature = status.st_mtime_ns, status.st_size
        known = self._losses.get(path)
        if known is None or known[0] != signature:
            known = signature, number_text(last_value(path, "loss"))
            self._losses[path] = known
        return known[1]


def status_text(view: RunView) -> str:
    """Glyph and word: neither colour nor shape alone has to tell."""
    return f"{GLYPHS[view.status]} {view.status}"


def _cells(view: RunView, loss: str) -> tuple[str, ...]:
    name = printable(view.name) + (f" – {printable(view.reason)}" if view.reason else "")
    if view.status == "broken":
        return status_text(view), "", "", "", "", "", name
    recipe = printable(view.recipe)
    recipe = recipe if len(recipe) <= _WIDEST_RECIPE else recipe[: _WIDEST_RECIPE - 1] + "…"
    step = step_text(view.step, view.max_steps)
    return status_text(view), printable(view.kind)[:6], recipe, step, loss, age_text(view.age_s), name
