"""The layers × modules table: a digit and a colour per matrix, the exact figures below."""

from __future__ import annotations

from typing import Any, Literal

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.coordinate import Coordinate
from textual.widgets import DataTable, Static

from readwrite_edit.terminal import printable
from readwrite_edit.tui.geometry_grid import MEASURES, GeometryGrid, Measure, explain, grid

# Ten steps of blue to yellow that rise evenly in brightness, told apart in any kind of colour blindness.
_RAMP = ("#00204d", "#0b3069", "#31446b", "#4a576c", "#61696f", "#797c75", "#948f76", "#b0a473", "#cdba69", "#ead357")
_DARK_UP_TO = 4


class GeometryTable(Vertical):
    """The last snapshot of ``geometry.jsonl``."""

    def __init__(self) -> None:
        """Start empty."""
        super().__init__()
        self._grid = grid([])
        self._measure: int | None = None
        self._first = 0

    def compose(self) -> ComposeResult:
        """The caption, the table, the figures of the cell under the cursor."""
        yield Static("No snapshot yet.", id="caption", markup=False)
        # The cursor's own ink on its own ground: a cell's ground under another ink is hard to read.
        priority: Literal["css"] = "css"
        yield DataTable(
            id="grid", cursor_type="cell", cursor_foreground_priority=priority, cursor_background_priority=priority
        )
        yield Static(id="figures", markup=False)

    def show(self, snapshot: list[dict[str, Any]], *, against_null: bool = False) -> None:
        """Show a snapshot; the cursor stays where it is.

        Args:
            snapshot: Records of one step.
            against_null: Begin with the read fraction over its null: what a probe is about.
        """
        new = grid(snapshot)
        if new == self._grid:
            return
        self._first = int(against_null)
        same = (new.layers, new.modules) == (self._grid.layers, self._grid.modules)
        self._grid = new
        if not same:
            _rebuild(self.query_one("#grid", DataTable), new)
        self._draw()

    def next_measure(self) -> None:
        """Show the next figure in the cells."""
        self._measure = (self._shown + 1) % len(MEASURES)
        self._draw()

    @property
    def _shown(self) -> int:
        return self._first if self._measure is None else self._measure

    def _draw(self) -> None:
        measure = MEASURES[self._shown]
        table = self.query_one("#grid", DataTable)
        for row, cells in enumerate(_rows(self._grid, measure)):
            for column, cell in enumerate(cells):
                table.update_cell_at(Coordinate(row, column), cell)
        step = f"step {self._grid.step}  " if self._grid.step else ""
        caption = f"{step}{measure.title}" if self._grid.layers else "No snapshot yet."
        self.query_one("#caption", Static).update(caption)
        self._explain()

    def on_data_table_cell_highlighted(self) -> None:
        """The cursor moved."""
        self._explain()

    def _explain(self) -> None:
        row, column = self.query_one("#grid", DataTable).cursor_coordinate
        if row < len(self._grid.layers) and column < len(self._grid.modules):
            layer, module = self._grid.layers[row], self._grid.modules[column]
            text = explain(layer, module, self._grid.records.get((layer, module)))
            self.query_one("#figures", Static).update(printable(text))


def _rebuild(table: DataTable[Text], new: GeometryGrid) -> None:
    table.clear(columns=True)
    for module in new.modules:
        table.add_column(Text(printable(module)))
    for layer in new.layers:
        table.add_row(*(Text(" " * 5) for _ in new.modules), label=Text(f"{layer:>3}"))


def _rows(shown: GeometryGrid, measure: Measure) -> list[list[Text]]:
    return [[_cell(shown.value(layer, module, measure), measure) for module in shown.modules] for layer in shown.layers]


def _cell(value: float | None, measure: Measure) -> Text:
    text = measure.digit(value)
    if value is None:
        return Text(f"  {text}  ", style="dim")
    step = int(text)
    ink = "#ffffff" if step <= _DARK_UP_TO else "#000000"
    return Text(f"  {text}  ", style=f"{ink} on {_RAMP[step]}")
