"""The columns of the list of runs: what stands in each, how wide each is, what a row sorts by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite

from rich.cells import cell_len, set_cell_size

from readwrite_edit.runs.wording import age_text, number_text, step_text
from readwrite_edit.tui.home.listing import RunRow, status_text
from readwrite_edit.tui.home.sparkline import Trace, sparkline

ELLIPSIS = "…"
GAP = 1
_SPARK = "trend"
_NO_TRACE = Trace()
_LOSS_WIDTH = 6
_AHEAD = "ahead"  # of a clock in the future, see the lines below the list


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: Its title.
        text: The cell of a row; a trend, which needs a trace and a width, is drawn elsewhere.
        least: Width that it needs, its title included.
        most: Width that it gets at most.
        right: Whether its cells end at its right edge.
        order: What rows sort by, the least first; None where they are not sorted by it.
    """

    name: str
    text: Callable[[RunRow, Trace], str]
    least: int
    most: int
    right: bool = False
    order: Callable[[RunRow, Trace], object] | None = None


STATUSES = ("running", "stopping", "queued", "silent", "failed", "stopped", "finished", "broken")


def _rank(row: RunRow) -> int:
    return STATUSES.index(row.view.status)


def _loss_order(row: RunRow, trace: Trace) -> float:
    """Rows without a finite loss come last."""
    return trace.last if trace.last is not None and isfinite(trace.last) else inf


COLUMNS = (
    Column("status", lambda row, _: status_text(row.view), 10, 10, order=lambda row, _: _rank(row)),
    Column("kind", lambda row, _: row.kind, 5, 8, order=lambda row, _: _letters(row.kind)),
    Column("recipe", lambda row, _: row.recipe, 12, 18, order=lambda row, _: _letters(row.recipe)),
    Column("step", lambda row, _: _step(row), 5, 11, right=True, order=lambda row, _: -row.view.step),
    Column(_SPARK, lambda row, trace: "", 8, 16),
    Column("loss", lambda row, trace: _loss(trace), _LOSS_WIDTH, 8, right=True, order=_loss_order),
    Column("age", lambda row, _: _age(row), 6, 6, right=True, order=lambda row, _: _age_s(row)),
    Column("tags", lambda row, _: row.tags, 5, 16, order=lambda row, _: _letters(row.tags)),
    Column("run", lambda row, _: row.name, 15, 48, order=lambda row, _: _letters(row.name)),
)
SORTABLE = (None, *(column.name for column in COLUMNS if column.order))
_FIXED = ("status", _SPARK, "age")
_CUT = ("recipe", "tags", "run")  # grow in this order
_DROPPED = ("run", "tags", _SPARK)
_WIDEST_TREND, _SHORTEST_RECIPE = 16, 7


def widths(rows: Sequence[RunRow], traces: Mapping[str, Trace], room: int) -> dict[str, int]:
    """The width of each column that is shown.

    Columns are as wide as their cells ask for. Where there is room to spare the
    trend grows. Where there is too little, names of runs, tags and recipes are
    cut; where even that does not do, the runs' names go (the recipe says more than
    the date that they begin with), then tags, then the trend.

    Args:
        rows: All rows.
        traces: By the key of their row.
        room: Cells from the first column to the right edge.
    """
    wanted = {column.name: _wanted(column, rows, traces) for column in COLUMNS}
    if not any(row.tags for row in rows):
        del wanted["tags"]
    given = {column.name: _fewest(column, wanted[column.name]) for column in COLUMNS if column.name in wanted}
    for name in _DROPPED:
        if _spare(given, room) < 0:
            given.pop(name, None)
    given["recipe"] = max(_SHORTEST_RECIPE, given["recipe"] + min(0, _spare(given, room)))
    for name in (*_CUT, _SPARK):
        if name in given:
            most = _WIDEST_TREND if name == _SPARK else wanted[name]
            given[name] += max(0, min(most - given[name], _spare(given, room)))
    return given


def _fewest(column: Column, wanted: int) -> int:
    return min(column.least, wanted) if column.name in _CUT else wanted


def _spare(given: Mapping[str, int], room: int) -> int:
    """Cells left over; negative where there are too few."""
    return room - sum(given.values()) - GAP * (len(given) - 1)


def _wanted(column: Column, rows: Sequence[RunRow], traces: Mapping[str, Trace]) -> int:
    if column.name in _FIXED:
        return column.least
    texts = {column.text(row, traces.get(row.key, _NO_TRACE)) for row in rows}  # many rows say the same
    longest = max(map(cell_len, texts), default=0)
    return min(column.most, max(column.least, longest))


def cells(row: RunRow, trace: Trace, wide: Mapping[str, int]) -> list[tuple[str, str]]:
    """The cells of a row with the name of their column, each exactly as wide as its column and the gap after it."""
    shown = []
    for column in COLUMNS:
        if column.name in wide:
            width = wide[column.name]
            text = sparkline(trace.samples, width) if column.name == _SPARK else column.text(row, trace)
            shown.append((column.name, fitted(text, width, right=column.right) + " " * GAP))
    return shown


def header(wide: Mapping[str, int], sorted_by: str | None, reverse: bool) -> str:
    """The titles of the columns; an arrow marks the one that rows are sorted by."""
    texts = []
    for column in COLUMNS:
        if column.name in wide:
            arrow = ("↑" if reverse else "↓") if column.name == sorted_by else ""
            texts.append(fitted(column.name + arrow, wide[column.name], right=column.right))
    return (" " * GAP).join(texts)


def in_order(rows: Sequence[RunRow], traces: Mapping[str, Trace], name: str | None, reverse: bool) -> list[RunRow]:
    """Rows sorted by a column, or left as they are; what waits in the queue stays first, in its order."""
    waiting = [row for row in rows if row.item is not None]
    runs = [row for row in rows if row.item is None]
    order = next((column.order for column in COLUMNS if column.name == name), None)
    if order is not None:
        runs.sort(key=lambda row: order(row, traces.get(row.key, _NO_TRACE)))  # type: ignore[arg-type,return-value]
    return [*waiting, *(reversed(runs) if reverse else runs)]


def fitted(text: str, width: int, *, right: bool = False) -> str:
    """A text in exactly so many cells; one that is too long ends with an ellipsis."""
    if cell_len(text) > width:
        return set_cell_size(text, width - 1) + ELLIPSIS
    padding = " " * (width - cell_len(text))
    return padding + text if right else text + padding


def _letters(text: str) -> tuple[bool, str]:
    """Sorts texts from a to z, empty ones last."""
    return not text, text.lower()


def _step(row: RunRow) -> str:
    return "" if row.item else step_text(row.view.step, row.view.max_steps)


def _loss(trace: Trace) -> str:
    if trace.last is None:
        return ""
    forms = (number_text(trace.last), *(f"{trace.last:.{digits}g}" for digits in (3, 2, 1)))
    # Fewer digits, never a cut: the exponent is what matters.
    return next((text for text in forms if len(text) <= _LOSS_WIDTH), f"{trace.last:.0e}")


def _age_s(row: RunRow) -> float:
    return inf if row.view.age_s is None else row.view.age_s - row.view.ahead_s


def _age(row: RunRow) -> str:
    view = row.view
    return "" if view.age_s is None else _AHEAD if view.ahead_s else age_text(view.age_s)
