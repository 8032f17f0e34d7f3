"""A grid of matrices on the screen: a digit and a colour each, means at the margins, a cursor.

Nothing rests on colour: a cell prints its digit, the cursor stands in brackets
where a cell has room for them, and always at a mark beside its row and column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.binding import BindingType
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from readwrite_edit.runs.geometry_grid import MEASURES, GeometryGrid, Measure, grid
from readwrite_edit.runs.geometry_scale import Scale, scale_of
from readwrite_edit.tui.actions import bindings_of
from readwrite_edit.tui.frame import Performing
from readwrite_edit.tui.geometry.layout import Layout, first_seen, layout
from readwrite_edit.tui.geometry.painter import Painter


class GridTable(Performing, Widget, can_focus=True, inherit_bindings=False):
    """Draws any grid; arrow keys and clicks move its cursor."""

    NAME = "table"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("table")]
    COMPONENT_CLASSES: ClassVar[set[str]] = {"grid--label", "grid--mark", "grid--cursor", "grid--bar"}
    DEFAULT_CSS = """
    GridTable { height: 1fr; width: 1fr; }
    GridTable > .grid--label { color: $text-muted; }
    GridTable > .grid--mark { color: $foreground; text-style: bold; }
    GridTable > .grid--bar { color: $foreground 45%; }
    GridTable > .grid--cursor { color: $background; background: $foreground; text-style: bold; }
    """

    @dataclass
    class Moved(Message):
        """The cursor stands on another matrix, or other figures stand under it."""

        table: GridTable

    def __init__(self, *, id: str | None = None) -> None:
        """Begin with an empty grid."""
        super().__init__(id=id)
        self._grid, self._measure = grid([]), MEASURES[0]
        self._scale = scale_of(self._grid, self._measure)
        self._layer = self._module = 0
        self._first_column = self._first_row = 0
        self._painted: list[Strip] | None = None

    def draw(self, shown: GeometryGrid, measure: Measure, *, scale: Scale | None = None) -> None:
        """Show a grid; the cursor stays on its matrix where there is one.

        Args:
            shown: The grid.
            measure: What its cells say.
            scale: What the digits mean; by default what suits the grid.
        """
        place, before = self.place, (self._grid, self._measure, self._scale)
        self._grid, self._measure = shown, measure
        self._scale = scale_of(shown, measure) if scale is None else scale
        if before != (shown, measure, self._scale):
            self.move_to(*(place or (0, "")))

    @property
    def scale(self) -> Scale:
        """What the digits mean."""
        return self._scale

    @property
    def place(self) -> tuple[int, str] | None:
        """Layer and module under the cursor; None in an empty grid."""
        layers, modules = self._grid.layers, self._grid.modules
        return (layers[self._layer], modules[self._module]) if layers and modules else None

    def move_to(self, layer: int, module: str) -> None:
        """Put the cursor on a matrix, or as near as there is one."""
        layers, modules = self._grid.layers, self._grid.modules
        self._layer = layers.index(layer) if layer in layers else min(self._layer, max(0, len(layers) - 1))
        self._module = modules.index(module) if module in modules else min(self._module, max(0, len(modules) - 1))
        self._repaint()

    # ---- moving

    def _step(self, columns: int, rows: int) -> None:
        across = self._layout().across
        layers, modules = (columns, rows) if across else (rows, columns)
        before = self._layer, self._module
        self._layer = min(max(0, self._layer + layers), max(0, len(self._grid.layers) - 1))
        self._module = min(max(0, self._module + modules), max(0, len(self._grid.modules) - 1))
        if before != (self._layer, self._module):
            self._repaint()

    def do_up(self) -> None:
        """Move up."""
        self._step(0, -1)

    def do_down(self) -> None:
        """Move down."""
        self._step(0, 1)

    def do_left(self) -> None:
        """Move to the left."""
        self._step(-1, 0)

    def do_right(self) -> None:
        """Move to the right."""
        self._step(1, 0)

    def do_page_up(self) -> None:
        """Move back by the layers that are seen."""
        self._page(-1)

    def do_page_down(self) -> None:
        """Move on by the layers that are seen."""
        self._page(1)

    def _page(self, direction: int) -> None:
        shape = self._layout()
        if shape.across:
            self._step(direction * shape.seen_columns, 0)
        else:
            self._step(0, direction * shape.seen_rows)

    def do_first(self) -> None:
        """Move to the first layer."""
        self._layer = 0
        self._repaint()

    def do_last(self) -> None:
        """Move to the last layer."""
        self._layer = max(0, len(self._grid.layers) - 1)
        self._repaint()

    def on_click(self, event: events.Click) -> None:
        """Put the cursor where the pointer is."""
        shape = self._layout()
        offset = event.get_content_offset(self)
        if offset is None:
            return
        column = (offset.x - shape.left) // shape.cell_width
        row = (offset.y - shape.top) // shape.cell_height
        if 0 <= column < shape.seen_columns and 0 <= row < shape.seen_rows:
            at = self._first_column + column, self._first_row + row
            self._layer, self._module = at if shape.across else at[::-1]
            self._repaint()

    # ---- drawing

    def _layout(self) -> Layout:
        width, height = self.size
        shown = self._grid
        return layout(shown.layers, shown.modules, width, height, signed=self._scale.signed)

    def _repaint(self) -> None:
        self._painted = None
        self.refresh()
        self.post_message(self.Moved(self))

    def on_resize(self, _: events.Resize) -> None:
        """Draw for the new size."""
        self._painted = None

    def notify_style_update(self) -> None:
        """Draw with the colours of another theme."""
        self._painted = None
        super().notify_style_update()

    def render_line(self, y: int) -> Strip:
        """One line; all of them are made anew where something has changed."""
        if self._painted is None:
            self._painted = self._paint()
        ground = self.rich_style
        return self._painted[y] if y < len(self._painted) else Strip.blank(self.size.width, ground)

    def _paint(self) -> list[Strip]:
        if self.place is None:
            return []
        shape = self._layout()
        column, row = (self._layer, self._module) if shape.across else (self._module, self._layer)
        self._first_column = first_seen(column, self._first_column, shape.seen_columns, shape.columns)
        self._first_row = first_seen(row, self._first_row, shape.seen_rows, shape.rows)
        styles = {name: self.get_component_rich_style(f"grid--{name}") for name in ("label", "mark", "cursor", "bar")}
        painter = Painter(
            self._grid, self._measure, self._scale, shape, (column, row), (self._first_column, self._first_row),
            styles, self.rich_style,
        )  # fmt: skip
        width, ground = self.size.width, self.rich_style
        lines = [Strip(Segment(text, style) for text, style in line) for line in painter.lines()]
        return [line.adjust_cell_length(width, ground) for line in lines]
