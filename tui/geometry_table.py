"""The layers × modules table: a digit and a colour per matrix, the exact figures below."""

from __future__ import annotations

from typing import Any

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.coordinate import Coordinate
from textual.widgets import DataTable, Static

from readwrite_edit.terminal import printable
from readwrite_edit.tui.geometry_grid import GeometryGrid, digit, explain, grid

# Ten steps of blue to yellow that rise evenly in brightness, told apart in any kind of colour blindness.
_RAMP = ("#00204d", "#0b3069", "#31446b", "#4a576c", "#61696f", "#797c75", "#948f76", "#b0a473", "#cdba69", "#ead357")
_DARK_UP_TO = 4
_CAPTION = "read fraction in tenths: the update's share in the read subspace"


class GeometryTable(Vertical):
    """The last snapshot of ``geometry.jsonl``."""

    def __init__(self) -> None:
        """Start empty."""
        super().__init__()
        self._grid = grid([])

    def compose(self) -> ComposeResult:
        """The caption, the table, the figures of the cell under the cursor."""
        yield Static("No snapshot yet.", id="caption", markup=False)
        yield DataTable(id="grid", cursor_type="cell")
        yield Static(id="figures", markup=False)

    def show(self, snapshot: list[dict[str, Any]]) -> None:
        """Show a snapshot; the cursor stays where it is."""
        new = grid(snapshot)
        if new == self._grid:
            return
        table = self.query_one("#grid", DataTable)
        if (new.layers, new.modules) == (self._grid.layers, self._grid.modules):
            self._grid = new
            for row, cells in enumerate(_rows(new)):
                for column, cell in enumerate(cells):
                    table.update_cell_at(Coordinate(row, column), cell)
        else:
            self._grid = new
            _rebuild(table, new)
        self.query_one("#caption", Static).update(f"step {new.step}  {_CAPTION}")
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
    for layer, cells in zip(new.layers, _rows(new), strict=True):
        table.add_row(*cells, label=Text(f"{layer:>3}"))


def _rows(new: GeometryGrid) -> list[list[Text]]:
    return [[_cell(new.fraction(layer, module)) for module in new.modules] for layer in new.layers]


def _cell(fraction: float | None) -> Text:
    text = digit(fraction)
    if fraction is None:
        return Text(f"  {text}  ", style="dim")
    tenth = int(text)
    ink = "#ffffff" if tenth <= _DARK_UP_TO else "#000000"
    return Text(f"  {text}  ", style=f"{ink} on {_RAMP[tenth]}")
