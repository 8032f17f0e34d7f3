"""What a chart shows: its lines, the part of them that is seen, the styles; and the title above them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len, set_cell_size
from rich.style import Style

from readwrite_edit.tui.charts.scales import short_number

Row = list[tuple[str, Style]]
Bounds = tuple[float, float, float, float]
SAMPLES = ("──", "╌╌", "┈┈", "─·")
MARKS = "●◆▲■"
_BEYOND = 1e300


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        label: Its name, written at its end; empty for none.
        x: Ascending.
        y: As many; where one is not finite the line is broken.
        pen: Number of its pen, of its sample in the title and of its mark: 0 to 3.
        ink: Number of its colour.
        segment_starts: Where an upright says that the run was resumed.
        faint: Whether it stands behind the others, such as the raw values behind smoothed ones.
        marks: Whether its points are marked; a lone point always is.
        joined: Whether its points are joined.
        value: What the title says of it; the last value by default, nothing where empty.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    pen: int = 0
    ink: int = 0
    segment_starts: Sequence[float] = ()
    faint: bool = False
    marks: bool = False
    joined: bool = True
    value: str | None = None

    @property
    def marked(self) -> bool:
        """Whether its points are drawn as marks."""
        return self.marks or not self.joined or len(self.x) == 1


@dataclass(frozen=True)
class View:
    """What part of the lines is shown, and how; see ``Chart.draw``."""

    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    log: bool = False
    cursor: float | None = None
    whole_x: bool = True
    x_power: bool = False
    x_root: bool = False


@dataclass(frozen=True)
class Inks:
    """The styles of a chart's parts."""

    lines: tuple[Style, ...] = (Style(),)
    faint: tuple[Style, ...] = (Style(dim=True),)
    axis: Style = field(default_factory=Style)
    title: Style = field(default_factory=Style)
    cursor: Style = field(default_factory=Style)

    def of(self, line: Line) -> Style:
        """The style of a line."""
        inks = self.faint if line.faint else self.lines
        return inks[line.ink % len(inks)]


def scaled(line: Line, view: View) -> Line:
    """A line in the units of the axis: logarithms where it has them."""
    if not view.log:
        return line
    value = line.value
    if value is None and len(line.y):
        value = short_number(line.y[len(line.y) - 1])
    logs = [math.log10(number) if number > 0 else math.nan for number in line.y]
    return Line(**{**vars(line), "y": logs, "value": value})


def drawable(value: float) -> bool:
    """Whether a value has a place on an axis: it is finite, and so is what lies between it and another."""
    return abs(value) < _BEYOND


def bounds(lines: Sequence[Line], view: View) -> Bounds | None:
    """Least and greatest x and y; None where nothing finite is to be seen."""
    xs = [x for line in lines if len(line.x) for x in (line.x[0], line.x[len(line.x) - 1])]
    low, high = view.x_range or (min(xs, default=0.0), max(xs, default=0.0))
    if view.y_range:
        return low, high, *view.y_range
    finite = [
        y for line in lines for x, y in zip(line.x, line.y, strict=True) if low <= x <= high and drawable(y)
    ]  # fmt: skip
    if not finite:
        return None
    return low, high, *_with_room(min(finite), max(finite))


def _with_room(low: float, high: float) -> tuple[float, float]:
    """Bounds that a line between them does not touch; of a constant line, a tenth around it."""
    room = 0.04 * (high - low) if high - low > 1e-12 * max(abs(low), abs(high)) else 0.1 * abs(high) or 1.0
    return low - room, high + room


def heading(title: str, lines: Sequence[Line], width: int, inks: Inks) -> Row:
    """The title, and right of it each line's sample and last value; where they do not fit, fewer or none of them."""
    title = set_cell_size(title, width) if cell_len(title) > width else title
    room = width - cell_len(title)
    for some in (lines, [line for line in lines if not line.marked], []):
        legend: Row = [(text, inks.of(line)) for line in some if (text := _legend(line))]
        used = sum(cell_len(text) for text, _ in legend)
        if used < room or not legend:
            return [(title, inks.title), (" " * max(0, room - used), inks.axis), *legend]
    return [(title, inks.title)]


def _legend(line: Line) -> str:
    value = short_number(line.y[len(line.y) - 1]) if line.value is None and len(line.y) else line.value
    return f"  {sample(line)} {value}" if value and not line.faint else ""


def sample(line: Line) -> str:
    """What a line looks like, in two cells at most."""
    if line.marked:
        return MARKS[line.pen % len(MARKS)]
    return SAMPLES[line.pen % len(SAMPLES)]
