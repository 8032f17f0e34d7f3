"""Where the cells of a grid stand: layers across or down, how large a cell is, what is seen of a grid too large.

A grid with its layers across::

               0  1  2 ▾3  4     mean      labels of the columns
       q_proj  7  7  6  6  5   6 0.62
     ▸ k_proj  5  5  4  4  4   4 0.44
         mean  6  6  5  5  4               means of the columns
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len

_WIDEST_CELL, _TALLEST_CELL = 9, 4
_MEAN_WIDTH = 12
_HEAD, _FOOT = 1, 1
_WIDEST_LABEL = 16
_LEAST_PROFILE, _TALLEST_PROFILE = 3, 8


@dataclass(frozen=True)
class Layout:
    """Sizes in cells of the terminal.

    Attributes:
        across: Whether layers run across (else down).
        columns: How many columns the grid has.
        rows: How many rows.
        cell_width: Of one matrix.
        cell_height: Of one matrix.
        left: Width of the labels of the rows.
        seen_columns: How many columns there is room for.
        seen_rows: How many rows there is room for.
        profile: Height of the bars of the columns' means; 0 where there is no room.
        gap: Rows between the cells and the means of the columns.
    """

    across: bool
    columns: int
    rows: int
    cell_width: int
    cell_height: int
    left: int
    seen_columns: int
    seen_rows: int
    profile: int
    gap: int

    @property
    def cells(self) -> int:
        """How many matrices are seen at once."""
        return self.seen_columns * self.seen_rows

    @property
    def right(self) -> int:
        """Where the means of the rows begin."""
        return self.left + self.seen_columns * self.cell_width

    @property
    def top(self) -> int:
        """The first line of cells."""
        return _HEAD

    @property
    def foot(self) -> int:
        """The line of the means of the columns."""
        return self.top + self.seen_rows * self.cell_height + self.gap


def layout(layers: Sequence[int], modules: Sequence[str], width: int, height: int, *, signed: bool) -> Layout:
    """The orientation that shows more matrices, and of two that show as many the one that fills more of the room.

    Args:
        layers: Of the grid.
        modules: Of the grid.
        width: Room in columns.
        height: Room in lines.
        signed: Whether a cell holds a sign beside its digit.
    """
    names = min(_WIDEST_LABEL, max(map(cell_len, modules), default=0))
    layer_digits = max((len(str(layer)) for layer in layers), default=1)
    least = 2 if signed else 1
    across = _fitted(True, len(layers), len(modules), names + 3, least, width, height)
    # A column of a module is as wide as its name, where names are read across.
    down = _fitted(False, len(modules), len(layers), layer_digits + 9, names + 2, width, height)
    return max(across, down, key=lambda one: (one.cells, one.cells * one.cell_width * one.cell_height, one.across))


def _fitted(across: bool, columns: int, rows: int, left: int, least: int, width: int, height: int) -> Layout:
    """One orientation: cells as large as there is room for, within bounds."""
    room = max(least, width - left - _MEAN_WIDTH), max(1, height - _HEAD - _FOOT)
    widest = max(_WIDEST_CELL, least)
    cell_width = min(widest, max(least, room[0] // max(1, columns)))
    cell_height = min(_TALLEST_CELL, max(1, room[1] // max(1, rows)))
    seen_columns, seen_rows = min(columns, room[0] // cell_width), min(rows, room[1] // cell_height)
    spare = room[1] - seen_rows * cell_height
    profile = min(_TALLEST_PROFILE, spare - 1) if across and spare - 1 >= _LEAST_PROFILE else 0
    return Layout(
        across=across,
        columns=columns,
        rows=rows,
        cell_width=cell_width,
        cell_height=cell_height,
        left=left,
        seen_columns=max(1, seen_columns),
        seen_rows=max(1, seen_rows),
        profile=profile,
        gap=profile + (profile > 0 and spare - profile > 0),
    )


def first_seen(cursor: int, first: int, seen: int, count: int) -> int:
    """The first column or row that is seen, moved as little as keeps the cursor among those seen."""
    first = min(max(first, cursor - seen + 1), cursor)
    return max(0, min(first, count - seen))


def tick_step(count: int, cell_width: int, widest: int) -> int:
    """How far apart the labels of columns stand, so that none touches the next: 1, 2, 5, 10 and so on."""
    size = 1
    while True:
        for step in (size, 2 * size, 5 * size):
            if step * cell_width > widest or step >= count:
                return step
        size *= 10
