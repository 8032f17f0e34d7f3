"""The geometry of several runs: means by module, and the grid of one run or of what it has more than the first."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from readwrite_edit.runs.comparison import geometry_rows
from readwrite_edit.runs.geometry_grid import MEASURES, GeometryGrid, Measure, difference, grid
from readwrite_edit.runs.geometry_scale import scale_of
from readwrite_edit.runs.geometry_snapshots import Snapshots
from readwrite_edit.terminal import printable
from readwrite_edit.tui.charts.scales import short_number
from readwrite_edit.tui.compare.lines import geometry_lines
from readwrite_edit.tui.geometry.lines import caption, legend
from readwrite_edit.tui.geometry.table import GridTable

_LEAST_GRID = 8  # rows; where the means would leave less, only the first of them are shown


class CompareGeometry(Vertical):
    """The newest snapshot of each run; the first difference is shown first.

    Args:
        letters: Of the runs.
    """

    def __init__(self, letters: str) -> None:
        super().__init__(id="compare-geometry")
        self._letters = letters
        self._grids: tuple[GeometryGrid, ...] = tuple(grid([]) for _ in letters)
        self._pair = len(letters)  # first the runs themselves, then each but the first against the first
        self._chosen: Measure | None = None

    def compose(self) -> ComposeResult:
        """Means, what the grid shows, the grid, what its digits mean, the figures under the cursor."""
        yield Static(id="compare-means", markup=False)
        yield Static(id="compare-caption", markup=False)
        yield GridTable(id="compare-grid")
        yield Static(id="compare-legend", markup=False)
        yield Static(id="compare-figures", markup=False)

    def show(self, snapshots: Sequence[Snapshots | None]) -> None:
        """Show the newest snapshot of each run."""
        newest = [(one, one.newest) if one else (None, None) for one in snapshots]
        grids = tuple(one.at(step) if one and step is not None else grid([]) for one, step in newest)
        if grids != self._grids:
            self._grids = grids
            self._draw()

    @property
    def _measures(self) -> list[Measure]:
        """What at least one run has."""
        found = {measure.name for one in self._grids for measure in one.measured()}
        return [measure for measure in MEASURES if measure.name in found] or [MEASURES[0]]

    @property
    def _measure(self) -> Measure:
        return self._chosen if self._chosen in self._measures and self._chosen else self._measures[0]

    @property
    def _pairs(self) -> list[tuple[str, GeometryGrid]]:
        """Name and grid of all that can be shown."""
        first, named = self._grids[0], list(zip(self._letters, self._grids, strict=True))
        return [*named, *((f"{letter} − {self._letters[0]}", difference(first, other)) for letter, other in named[1:])]

    def _draw(self) -> None:
        name, shown = self._pairs[self._pair]
        table, width = self.query_one(GridTable), max(20, self.size.width - 2)
        table.draw(shown, self._measure, scale=scale_of(shown, self._measure))
        head = Text(f"{name}   ", style="bold", no_wrap=True, overflow="ellipsis")
        head.append_text(caption(self._measure, table.scale, width - len(head)))
        if len({one.step for one in self._grids if one.step is not None}) > 1:
            steps = zip(self._letters, self._grids, strict=True)
            head.append(
                "\n" + ", ".join(f"{letter} at step {one.step}" for letter, one in steps if one.step is not None),
                style="dim",
            )
        self.query_one("#compare-caption", Static).update(head)
        self.query_one("#compare-legend", Static).update(Text("\n").join(legend(table.scale, width)))
        means = geometry_lines(list(geometry_rows(self._grids)), self._measure.name, len(self._letters))
        room = max(2, self.size.height - _LEAST_GRID - 5)
        lines = means[:room] or [Text("No run has a geometry.")]
        self.query_one("#compare-means", Static).update(Text("\n").join(lines))
        self._say()

    def _say(self) -> None:
        """The figures of each run under the cursor."""
        place = self.query_one(GridTable).place
        words = Text(no_wrap=True, overflow="ellipsis")
        if place is not None:
            layer, module = place
            values = [one.value(layer, module, self._measure) for one in self._grids]
            words.append(f"layer {layer} {printable(module)}: ", style="bold")
            for letter, value in zip(self._letters, values, strict=True):
                words.append(f"{letter} {'–' if value is None else short_number(value)}   ")
            for letter, value in zip(self._letters[1:], values[1:], strict=True):
                if value is not None and values[0] is not None:
                    words.append(f"{letter} − {self._letters[0]} {value - values[0]:+.4g}   ")
        self.query_one("#compare-figures", Static).update(words)

    def on_grid_table_moved(self) -> None:
        """The cursor stands elsewhere."""
        self._say()

    def on_resize(self, _: events.Resize) -> None:
        """Fit the lines to the width."""
        self._draw()

    def turn_quantity(self, way: int) -> None:
        """Show the next quantity, or the one before."""
        measures = self._measures
        self._chosen = measures[(measures.index(self._measure) + way) % len(measures)]
        self._draw()

    def turn_pair(self) -> None:
        """Show the next run or difference."""
        self._pair = (self._pair + 1) % len(self._pairs)
        self._draw()
