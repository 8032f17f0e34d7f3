"""From lines to rows of styled text: where the parts of a chart stand, and what is drawn in them.

::

    loss                       ── 0.174  ◆ 0.185     title, and the last value of each line
    0.6┤⠑⢄                                           ticks
    0.4┤  ⠑⠢⡀                                        the lines
    0.2┤    ⠈⠒⠤⢄⣀⣀⣀ train                            the name of each line at its end
       0    5    10   15                             steps
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.style import Style

from readwrite_edit.tui.charts.braille import PENS, Canvas
from readwrite_edit.tui.charts.parts import MARKS, Bounds, Inks, Line, Row, View, bounds, drawable, heading, scaled
from readwrite_edit.tui.charts.scales import log_ticks, neat_ticks, short_number, tick_texts, whole_ticks
from readwrite_edit.tui.run.series import by_column

_CURSOR, _RESUMED = "│", "┆"
_SAME_RESUME = 2  # columns
_LEAST_WIDTH, _LEAST_HEIGHT = 16, 4
_WIDEST_NAME = 12
_ROWS_PER_TICK, _COLUMNS_PER_TICK, _COLUMNS_PER_POWER = 3, 7, 5


def plot(lines: Sequence[Line], title: str, view: View, width: int, height: int, inks: Inks) -> list[Row]:
    """Draw a chart.

    Args:
        lines: Later ones lie above.
        title: What it shows.
        view: What part of it.
        width: In cells.
        height: In rows.
        inks: Its styles.

    Returns:
        ``height`` rows of text and style, none wider than ``width``.
    """
    drawn = [scaled(line, view) for line in lines]
    title_row = heading(title, lines, width, inks)
    if width < _LEAST_WIDTH or height < _LEAST_HEIGHT:
        return [title_row]
    seen = bounds(drawn, view)
    if seen is None:
        return [title_row, [("no values", inks.axis)]]
    return [title_row, *_Frame(drawn, view, seen, width, height - 1, inks).rows()]


class _Frame:
    """The rows below the title: ticks, canvas, names, steps."""

    def __init__(self, lines: Sequence[Line], view: View, seen: Bounds, width: int, height: int, inks: Inks) -> None:
        self.lines, self.view, self.inks = lines, view, inks
        self.x0, self.x1, self.y0, self.y1 = seen
        self.height = height - 1
        most = max(2, self.height // _ROWS_PER_TICK + 1)
        self.ticks = (log_ticks if view.log else neat_ticks)(self.y0, self.y1, most)
        self.tick_texts = _powers(self.ticks) if view.log else tick_texts(self.ticks)
        self.left = max(map(len, self.tick_texts), default=0) + 1
        self.names = [line for line in lines if line.label and not line.faint and len(line.x)]
        widest = max((cell_len(line.label) for line in self.names), default=-1)
        self.right = min(_WIDEST_NAME, widest) + 1 if len(self.names) > 1 or widest > 0 else 0
        if width - self.left - self.right < _LEAST_WIDTH:
            self.right = 0
        self.width = max(1, width - self.left - self.right)

    def rows(self) -> list[Row]:
        """All rows below the title."""
        canvas = Canvas(self.width, self.height)
        for number, line in enumerate(self.lines, 1):
            if line.joined and len(line.x) > 1:
                rank = 0 if line.faint else 1
                for piece in self._pieces(line):
                    canvas.line(piece, owner=number, rank=rank, pen=PENS[line.pen % len(PENS)])
        marks, uprights, names = self._marks(), self._uprights(), self._placed_names()
        ticks = {self._row(tick): text for tick, text in zip(self.ticks, self.tick_texts, strict=True)}
        body = [self._body_row(number, canvas, marks, uprights, ticks, names) for number in range(self.height)]
        return [*body, self._steps()]

    def _body_row(
        self, number: int, canvas: Canvas, marks: dict[tuple[int, int], tuple[str, Style]],
        uprights: dict[int, tuple[str, Style]], ticks: dict[int, str], names: dict[int, Line],
    ) -> Row:  # fmt: skip
        text, owners = canvas.row(number)
        tick = ticks.get(number)
        row: Row = [(f"{tick or '':>{self.left - 1}}{'│' if tick is None else '┤'}", self.inks.axis)]
        styles = [self.inks.axis, *map(self.inks.of, self.lines)]
        for column, character in enumerate(text):
            cell = character, styles[owners[column]]
            if character == " " and column in uprights:
                cell = uprights[column]
            row.append(marks.get((column, number), cell))
        if number in names and self.right:
            row.append((" " + set_cell_size(names[number].label, self.right - 1), self.inks.of(names[number])))
        return row

    def _x(self, x: float) -> float:
        """Place of an x in dots; a lone x stands at the left."""
        return (x - self.x0) / (self.x1 - self.x0) * (2 * self.width - 1) if self.x1 > self.x0 else 0.0

    def _y(self, y: float) -> float:
        """Place of a y in dots from above; far beyond the canvas it is drawn nearer, which is not seen."""
        place = (self.y1 - y) / (self.y1 - self.y0) * (4 * self.height - 1)
        return min(8.0 * self.height, max(-4.0 * self.height, place))

    def _row(self, y: float) -> int:
        return round(self._y(y)) // 4

    def _pieces(self, line: Line) -> list[list[tuple[float, float]]]:
        """The unbroken pieces of a line in dots, cut at the first and last x shown."""
        pieces: list[list[tuple[float, float]]] = [[]]
        before: tuple[float, float] | None = None
        for x, y in zip(*by_column(line.x, line.y, self.x0, self.x1, 2 * self.width), strict=True):
            if not drawable(y):
                before = None
                pieces.append([])
                continue
            if before is not None:
                for edge in (self.x0, self.x1):
                    if before[0] < edge < x:
                        pieces[-1].append((self._x(edge), self._y(_between(before, (x, y), edge))))
            if self.x0 <= x <= self.x1:
                pieces[-1].append((self._x(x), self._y(y)))
            before = x, y
        return [piece for piece in pieces if piece]

    def _marks(self) -> dict[tuple[int, int], tuple[str, Style]]:
        """Cells of marked points."""
        marks = {}
        for line in self.lines:
            if line.marked:
                mark = MARKS[line.pen % len(MARKS)], self.inks.of(line)
                for x, y in zip(line.x, line.y, strict=True):
                    if drawable(y) and self.x0 <= x <= self.x1:
                        marks[round(self._x(x)) // 2, self._row(y)] = mark
        return marks

    def _uprights(self) -> dict[int, tuple[str, Style]]:
        """Columns of resumes and of the cursor; lines that first go on some steps apart tell of the same resume."""
        starts = sorted(start for line in self.lines for start in line.segment_starts if self.x0 < start <= self.x1)
        found: dict[int, tuple[str, Style]] = {}
        for column in map(self._column, starts):
            if all(column - other > _SAME_RESUME for other in found):
                found[column] = _RESUMED, self.inks.axis
        if self.view.cursor is not None and self.x0 <= self.view.cursor <= self.x1:
            found[self._column(self.view.cursor)] = _CURSOR, self.inks.cursor
        return found

    def _column(self, x: float) -> int:
        return round(self._x(x)) // 2

    def _placed_names(self) -> dict[int, Line]:
        """Rows of the names, in the order of the lines' ends, each as near to its own as the others leave room."""
        found = ((self._end(line), line) for line in self.names)
        ends = sorted(((end, line) for end, line in found if end is not None), key=lambda pair: pair[0])[: self.height]
        rows: list[int] = []
        for end, _ in ends:
            rows.append(max(round(end) // 4, rows[-1] + 1 if rows else 0))
        last = len(rows) - 1
        rows = [min(row, self.height - 1 - (last - place)) for place, row in enumerate(rows)]
        return {row: line for row, (_, line) in zip(rows, ends, strict=True)}

    def _end(self, line: Line) -> float | None:
        """Place in dots, from above, of the last point that is shown."""
        seen = [y for x, y in zip(line.x, line.y, strict=True) if x <= self.x1 and drawable(y)]
        return min(4.0 * self.height - 1, max(0.0, self._y(seen[-1]))) if seen else None

    def _steps(self) -> Row:
        """The ticks of x, and a sign where the run was resumed."""
        most = max(1, self.width // (_COLUMNS_PER_POWER if self.view.x_power else _COLUMNS_PER_TICK))
        ticks = (whole_ticks if self.view.whole_x else neat_ticks)(self.x0, self.x1, most) or [self.x0]
        text = [" "] * (self.left + self.width + self.right)
        labels = self._step_texts(ticks)
        for tick, label in zip(ticks, labels, strict=True):
            column = self.left + self._column(tick)
            start = min(max(0, column - (len(label) - 1) // 2), len(text) - len(label))
            if all(place == " " for place in text[max(0, start - 1) : start + len(label) + 1]):
                text[start : start + len(label)] = label
        for column, (sign, _) in self._uprights().items():
            if sign == _RESUMED and text[self.left + column] == " ":
                text[self.left + column] = "↻"
        return [("".join(text).rstrip(), self.inks.axis)]

    def _step_texts(self, ticks: Sequence[float]) -> list[str]:
        if self.view.x_power:
            return [f"{2**tick:.0f}" for tick in ticks]
        return [short_number(tick * abs(tick)) for tick in ticks] if self.view.x_root else tick_texts(ticks)


def _between(before: tuple[float, float], after: tuple[float, float], x: float) -> float:
    share = (x - before[0]) / (after[0] - before[0])
    return before[1] + share * (after[1] - before[1])


def _powers(ticks: Sequence[float]) -> list[str]:
    """Exponents of ten as the numbers they stand for."""
    return [f"1e{tick:.0f}" if abs(tick - round(tick)) < 1e-9 else f"{10.0**tick:.2g}" for tick in ticks]
