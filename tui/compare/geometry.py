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
from readwrite_edit.tui.compare.lines import change_text, geometry_lines
from readwrite_edit.tui.geometry.lines import caption, joined, legend
from readwrite_edit.tui.geometry.table import GridTable

_TALLEST_GRID = 9  # rows; where the means would leave less than it needs up to this, only the first are shown
_LOW = 14  # below, the caption alone says what digits mean
_AROUND = 5  # lines of caption, legend, figures, and a free one


class CompareGeometry(Vertical):
    """The newest snapshot of each run; shows first the first difference that there is, else the first run that has one.

    Args:
        letters: Of the runs.
    """

    def __init__(self, letters: str) -> None:
        super().__init__(id="compare-geometry")
        self._letters = letters
        self._grids: tuple[GeometryGrid, ...] = tuple(grid([]) for _ in letters)
        self._unread = letters
        self._turned_to: str | None = None
        self._chosen: Measure | None = None

    def compose(self) -> ComposeResult:
        """Means, what the grid shows, the grid, what its digits mean, the figures under the cursor."""
        yield Static(id="compare-means", markup=False)
        yield Static(id="compare-caption", markup=False)
        yield GridTable(id="compare-grid")
        yield Static(id="compare-legend", markup=False)
        yield Static(id="compare-figures", markup=False)

    def show(self, snapshots: Sequence[Snapshots | None]) -> None:
        """Show the newest snapshot of each run; None is one that was not read yet."""
        newest = [(one, one.newest) if one else (None, None) for one in snapshots]
        grids = tuple(one.at(step) if one and step is not None else grid([]) for one, step in newest)
        unread = "".join(letter for letter, one in zip(self._letters, snapshots, strict=True) if one is None)
        if (grids, unread) != (self._grids, self._unread):
            self._grids, self._unread = grids, unread
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
    def _pairs(self) -> dict[str, GeometryGrid]:
        """By name all that has figures of the quantity: runs, then each but the first against the first."""
        first, named = self._grids[0], list(zip(self._letters, self._grids, strict=True))
        against = [(f"{letter} − {self._letters[0]}", difference(first, other)) for letter, other in named[1:]]
        return {name: one for name, one in (*named, *against) if one.values(self._measure)}

    @property
    def _pair(self) -> str:
        """What is shown: what the user turned to where it has figures; empty where nothing has any."""
        pairs = self._pairs
        opened = next((name for name, one in pairs.items() if one.signed), next(iter(pairs), ""))
        return self._turned_to if self._turned_to in pairs else opened

    # ---- drawing

    def _draw(self) -> None:
        name, table = self._pair, self.query_one(GridTable)
        shown = self._pairs.get(name) or grid([])
        table.draw(shown, self._measure, scale=scale_of(shown, self._measure))
        self._write("means", self._means())
        self._write("caption", self._caption(name) if name else [])
        low = self.size.height < _LOW
        self.set_class(low, "-low")
        self._write("legend", legend(table.scale, self._width) if name and not low else [])
        self._say()

    def _write(self, part: str, lines: Sequence[Text]) -> None:
        widget = self.query_one(f"#compare-{part}", Static)
        widget.update(joined(lines))
        widget.display = bool(lines)

    @property
    def _width(self) -> int:
        return max(20, self.size.width - 2)

    def _means(self) -> list[Text]:
        """Who has no geometry, and the means of the others."""
        found = list(geometry_rows(self._grids))
        means = geometry_lines(found, self._measure.name, len(self._letters), self._width)
        without = self._without()
        needed = max((len(one.modules) + 2 for one in self._grids), default=0)
        room = max(2, self.size.height - min(needed, _TALLEST_GRID) - _AROUND - len(without))
        return [*without, *means[:room]]

    def _without(self) -> list[Text]:
        pairs = zip(self._letters, self._grids, strict=True)
        none = [letter for letter, one in pairs if not one.layers and letter not in self._unread]
        if self._unread and not any(one.layers for one in self._grids):
            return [Text("reading …", style="dim")]
        if not none:
            return []
        if len(none) == len(self._letters):
            return [Text("No run has a geometry.")]
        names = none[0] if len(none) == 1 else f"{', '.join(none[:-1])} and {none[-1]}"
        return [Text(f"{names} {'has' if len(none) == 1 else 'have'} no geometry.", style="bold yellow")]

    def _caption(self, name: str) -> list[Text]:
        scale, title = self.query_one(GridTable).scale, Text.assemble((f"{name}   ", "bold"))
        head = [title.copy().append_text(caption(self._measure, scale, self._width - len(title)))]
        if len(head[0]) > self._width:
            head = [title.append(self._measure.title, "bold"), Text(f"digits are {scale.caption}", style="dim")]
        steps = [(letter, one.step) for letter, one in zip(self._letters, self._grids, strict=True) if one.layers]
        if len({step for _, step in steps}) > 1:
            head.append(Text(", ".join(f"{letter} at step {step}" for letter, step in steps), style="dim"))
        return head

    def _say(self) -> None:
        """The figures of each run under the cursor; differences in a line of their own where one is too narrow."""
        place = self.query_one(GridTable).place
        if place is None:
            self._write("figures", [])
            return
        layer, module = place
        first, *others = (one.value(layer, module, self._measure) for one in self._grids)
        words = Text.assemble((f"layer {layer} {printable(module)}: ", "bold"))
        for letter, value in zip(self._letters, (first, *others), strict=True):
            words.append(f"{letter} {'–' if value is None else short_number(value)}   ")
        changes = Text()
        for letter, value in zip(self._letters[1:], others, strict=True):
            if value is not None and first is not None:
                changes.append(f"{letter} − {self._letters[0]} {change_text(first, value)}   ")
        fits = len(words) + len(changes) <= self._width
        self._write("figures", [words.append_text(changes)] if fits else [words, changes])

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
        """Show the next run or difference that has figures."""
        names = list(self._pairs)
        if names:
            self._turned_to = names[(names.index(self._pair) + 1) % len(names)]
            self._draw()
