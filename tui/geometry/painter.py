"""The lines of a grid's picture: labels, cells, the bars and digits of the means."""

from __future__ import annotations

from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.style import Style

from readwrite_edit.runs.geometry_grid import GeometryGrid, Measure
from readwrite_edit.runs.geometry_scale import Scale
from readwrite_edit.terminal import printable
from readwrite_edit.tui.geometry.layout import Layout, tick_step
from readwrite_edit.tui.geometry.ramp import cell_style

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_LOWER_EDGE = "▁"
_COLUMN_MARK, _ROW_MARK = "▾", "▸"
Part = tuple[str, Style]


@dataclass(frozen=True)
class Painter:
    """The lines of one picture of a grid.

    Attributes:
        grid: What is drawn.
        measure: What its cells say.
        scale: What the digits mean.
        shape: Where everything stands.
        cursor: Column and row of the chosen matrix.
        first: First column and row that are seen.
        styles: Of labels, marks, bars and a cell under the cursor that has no room for brackets.
        ground: Of what is empty.
    """

    grid: GeometryGrid
    measure: Measure
    scale: Scale
    shape: Layout
    cursor: tuple[int, int]
    first: tuple[int, int]
    styles: dict[str, Style]
    ground: Style

    def lines(self) -> list[list[Part]]:
        """All lines: labels, cells, bars of the columns' means, the means."""
        body = [
            self._cell_line(row, line) for row in self._seen_rows() for line in range(self.shape.cell_height)
        ]  # fmt: skip
        blank: list[list[Part]] = [[] for _ in range(self.shape.gap - self.shape.profile)]
        return [self._head(), *body, *blank, *self._profile(), self._foot()]

    def _seen_columns(self) -> range:
        return range(self.first[0], self.first[0] + self.shape.seen_columns)

    def _seen_rows(self) -> range:
        return range(self.first[1], self.first[1] + self.shape.seen_rows)

    def _place(self, column: int, row: int) -> tuple[int, str]:
        layer, module = (column, row) if self.shape.across else (row, column)
        return self.grid.layers[layer], self.grid.modules[module]

    def _column_mean(self, column: int) -> float | None:
        layer, module = self._place(column, 0)
        shown, measure = self.grid, self.measure
        return shown.layer_mean(layer, measure) if self.shape.across else shown.module_mean(module, measure)

    def _row_mean(self, row: int) -> float | None:
        layer, module = self._place(0, row)
        shown, measure = self.grid, self.measure
        return shown.module_mean(module, measure) if self.shape.across else shown.layer_mean(layer, measure)

    # ---- labels

    def _head(self) -> list[Part]:
        """The labels of the columns; the cursor's always, with its mark over the digit."""
        if not self.shape.across:
            return self._module_head()
        before, mark, after = self._layer_labels()
        label, last = self.styles["label"], self.first[0] + self.shape.seen_columns
        earlier, later = "◂" if self.first[0] else " ", "▸" if last < self.shape.columns else " "
        head = f"{'layer':>{self.shape.left - 2}} {earlier}{before}"
        return [(head, label), (mark, self.styles["mark"]), (f"{after}{later} mean", label)]

    def _layer_labels(self) -> tuple[str, str, str]:
        """The numbers of the seen layers, thinned to what fits, as text before the cursor's, the cursor's, after it."""
        width = self.shape.seen_columns * self.shape.cell_width
        text = [" "] * width
        labels = {column: str(self.grid.layers[column]) for column in self._seen_columns()}
        step = tick_step(self.shape.columns, self.shape.cell_width, max(map(len, labels.values())))
        for column, label in labels.items():
            if column % step == 0:
                _write(text, label, self._digit_at(column - self.first[0]))
        at, number = self._digit_at(self.cursor[0] - self.first[0]), labels[self.cursor[0]]
        mark, start = f"{_COLUMN_MARK}{number}", at
        if at + len(mark) > width:
            mark, start = f"{number}{_COLUMN_MARK}", max(0, at - len(number))
        _clear(text, start - 1, start + len(mark))
        return "".join(text[:start]), mark[: width - start], "".join(text[start + len(mark) :])

    def _module_head(self) -> list[Part]:
        parts: list[Part] = [(f"{'layer':>{self.shape.left - 2}}  ", self.styles["label"])]
        for column in self._seen_columns():
            name = printable(self.grid.modules[column])
            here = column == self.cursor[0]
            text = (_COLUMN_MARK if here else "") + name
            parts.append((_centred(text, self.shape.cell_width), self.styles["mark" if here else "label"]))
        more = "▸" if self.first[0] + self.shape.seen_columns < self.shape.columns else " "
        return [*parts, (f" {more} mean", self.styles["label"])]

    def _digit_at(self, column: int) -> int:
        """Where the digit of a seen column stands, from the first cell."""
        return column * self.shape.cell_width + self._at

    def _row_label(self, row: int) -> Part:
        here = row == self.cursor[1]
        room = self.shape.left - 3
        name = printable(self.grid.modules[row]) if self.shape.across else str(self.grid.layers[row])
        more = ""
        if row == self.first[1] and row > 0:
            more = "▴"
        elif row == self._seen_rows()[-1] and row < self.shape.rows - 1:
            more = "▾"
        name = set_cell_size(name, room) if cell_len(name) > room else name.rjust(room)
        return f"{_ROW_MARK if here else more or ' '} {name} ", self.styles["mark" if here else "label"]

    # ---- cells

    def _cell_line(self, row: int, line: int) -> list[Part]:
        middle = line == (self.shape.cell_height - 1) // 2
        head = self._row_label(row) if middle else (" " * self.shape.left, self.ground)
        cells = [self._cell(column, row, line, middle) for column in self._seen_columns()]
        return [head, *cells, *(self._row_margin(row) if middle else [])]

    def _cell(self, column: int, row: int, line: int, middle: bool) -> Part:
        width, height = self.shape.cell_width, self.shape.cell_height
        value = self.grid.value(*self._place(column, row), self.measure)
        style = self._style(value)
        here = (column, row) == self.cursor
        if here:
            style = style + Style(bold=True) if self._bracketed else self.styles["cursor"]
        if middle:
            return _around(self.scale.text(value), width, self._at, brackets=here and self._bracketed), style
        if value is None or line < height - 1:
            return " " * width, style
        return _LOWER_EDGE * width, style + Style(color=self.ground.bgcolor)

    @property
    def _at(self) -> int:
        """Where the digit of a cell stands in it."""
        return self.shape.cell_width // 2 if self.scale.signed else (self.shape.cell_width - 1) // 2

    @property
    def _bracketed(self) -> bool:
        """Whether a cell has room for brackets around what it prints."""
        return self.shape.cell_width >= (4 if self.scale.signed else 3)

    def _style(self, value: float | None) -> Style:
        if value is None:
            return self.styles["label"]
        return cell_style(self.scale.tone(value), diverging=self.scale.centre is not None)

    # ---- margins

    def _row_margin(self, row: int) -> list[Part]:
        value = self._row_mean(row)
        number = "" if value is None else f"{value:.3g}"
        return [("  ", self.ground), (f" {self.scale.text(value)} ", self._style(value)), (f" {number}", self.ground)]

    def _foot(self) -> list[Part]:
        head: Part = f"{'mean':>{self.shape.left - 1}} ", self.styles["label"]
        means = [self._column_mean(column) for column in self._seen_columns()]
        cells = [(self._mean_text(mean), self._style(mean)) for mean in means]
        overall = self.grid.mean(self.measure)
        tail = "" if overall is None else f"{' ' * (6 + self.scale.signed)}{overall:.3g}"
        return [head, *cells, (tail, self.styles["mark"])]

    def _mean_text(self, mean: float | None) -> str:
        width = self.shape.cell_width
        if mean is not None and width >= 9:
            return _centred(f"{mean:.3g}", width)
        return _around(self.scale.text(mean), width, self._at, brackets=False)

    def _profile(self) -> list[list[Part]]:
        """Bars of the columns' means, from zero up to the largest."""
        means = [self._column_mean(column) for column in self._seen_columns()]
        largest = max((abs(mean) for mean in means if mean is not None), default=0.0)
        height, width = self.shape.profile, self.shape.cell_width
        lines: list[list[Part]] = []
        for line in range(height):
            parts: list[Part] = [(" " * self.shape.left, self.ground)]
            for mean in means:
                share = 0.0 if mean is None or not largest else abs(mean) / largest
                eighths = min(8, max(0, round(share * height * 8) - 8 * (height - 1 - line)))
                bar = self.styles["bar"]
                # A full block on a ground of its own colour: between two lines of it no hairline shows.
                style = bar + Style(bgcolor=bar.color) if eighths == 8 else bar
                parts.append((_EIGHTHS[eighths] * (width - (width > 2)), style))
                parts.append((" " * (width > 2), self.ground))
            lines.append(parts)
        return lines


def _clear(text: list[str], first: int, last: int) -> None:
    """Make room between two places, both included, and take away whole what is cut by that: half a number misleads."""
    while first > 0 and text[first] != " ":
        first -= 1
    while last < len(text) - 1 and text[last] != " ":
        last += 1
    for place in range(max(0, first), min(last + 1, len(text))):
        text[place] = " "


def _write(text: list[str], label: str, at: int) -> None:
    """Put a label so that its middle stands at a place, as far as there is room."""
    start = min(max(0, at - (len(label) - 1) // 2), max(0, len(text) - len(label)))
    text[start : start + len(label)] = label[: len(text) - start]


def _around(text: str, width: int, at: int, *, brackets: bool) -> str:
    """A digit, with or without its sign, at the place of digits in a cell."""
    start = max(0, at - (len(text) - 1)) if width >= len(text) else 0
    cell = [*" " * width]
    cell[start : start + len(text)] = text
    if brackets:
        cell[start - 1], cell[start + len(text)] = "[", "]"
    return "".join(cell)


def _centred(text: str, width: int) -> str:
    room = width - cell_len(text)
    return set_cell_size(text, width) if room < 0 else " " * (room // 2) + text + " " * (room - room // 2)
