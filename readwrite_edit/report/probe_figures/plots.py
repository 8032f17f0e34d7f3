"""Pieces that the probes' drawings are put together from."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from readwrite_edit.report.heatmap import MODULE_ORDER, in_order
from readwrite_edit.report.svg import FAINT, INK, LINES, drawing, number

_ROW_IN = 2.3
_LONGEST_NAME = 40
_MARKS_UP_TO = 40
_LEGEND_CHARACTERS, _HANDLE_CHARACTERS = 165, 8  # that fit beside each other


def small_multiples(
    names: Sequence[Hashable],
    draw: Callable[[Axes, Hashable], None],
    *,
    prefix: str,
    columns: int | None = None,
    row_in: float = _ROW_IN,
) -> str:
    """One panel per name, titled by it, with one legend for all above them.

    Args:
        names: What each panel shows.
        draw: Draws a panel.
        prefix: Begins every id of the drawing.
        columns: Panels beside each other; two or three, as they fill the rows, by default.
        row_in: Height of a row.
    """
    across = columns or (2 if len(names) in (1, 2, 4) else 3)
    rows = -(-len(names) // across)

    def draw_all(figure: Figure) -> None:
        for place, name in enumerate(names):
            axes = figure.add_subplot(rows, across, place + 1)
            axes.set_title(short(name))
            draw(axes, name)
        legend_above(figure)

    return drawing(draw_all, height_in=row_in * rows + 0.3, prefix=prefix) if names else ""


def legend_above(figure: Figure) -> None:
    """One legend for what the panels share; each label once."""
    found: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        fitting = _LEGEND_CHARACTERS // (_HANDLE_CHARACTERS + max(map(len, found)))
        columns = min(len(found), max(1, fitting))
        figure.legend(list(found.values()), list(found), loc="outside upper left", ncols=columns)


def thin_lines(axes: Axes, table: pd.DataFrame, x: str, y: str, by: str, label: str | None = None) -> None:
    """A faint line of the mean for each value of ``by``."""
    for place, (_, part) in enumerate(table.groupby(by, sort=True)):
        points, named = mean_over(part, x, y), label if place == 0 else None
        axes.plot(points.index, points, color=FAINT, linewidth=0.6, alpha=0.55, label=named)


def styles(names: Iterable[str]) -> dict[str, tuple[str, Any, str]]:
    """Colour, dash and mark of each name, the same in every panel: roles in the order of a layer, others as they come.

    Args:
        names: Of everything that the panels of one figure show.
    """
    found = list(dict.fromkeys(names))
    ordered = in_order(found) if set(found) & set(MODULE_ORDER) else found
    return {name: LINES[place % len(LINES)] for place, name in enumerate(ordered)}


def named_lines(axes: Axes, table: pd.DataFrame, x: str, y: str, by: str, of: Mapping[str, Any]) -> None:
    """One marked line of the mean for each value of ``by``, in the styles ``of`` the figure."""
    for name, (colour, dash, mark) in of.items():
        points = table[table[by] == name].groupby(x)[y].mean().dropna()
        size = 3.2 if len(points) <= _MARKS_UP_TO else 0
        if len(points):
            axes.plot(
                points.index, points, color=colour, linestyle=dash, marker=mark, markersize=size, label=short(name)
            )


def mean_over(table: pd.DataFrame, x: str, y: str) -> pd.Series:
    """Mean of y at each x, in the order of x."""
    return table.groupby(x)[y].mean().dropna().sort_index()


def logarithmic(axes: Axes, *, x: bool = True, y: bool = True) -> None:
    """Logarithmic scales, where there is something positive, with plain numbers at their ticks."""
    for wanted, set_scale, axis in ((x, axes.set_xscale, axes.xaxis), (y, axes.set_yscale, axes.yaxis)):
        if wanted and np.isfinite(axis.get_minpos()):  # without a positive value there is no such scale
            set_scale("log")
            low, high = axis.get_view_interval()
            wide = low <= 0 or high / max(low, 1e-300) > 30
            axis.set_major_locator(LogLocator(10, subs=(1.0,) if wide else (1.0, 2.0, 5.0), numticks=7))
            axis.set_minor_formatter(NullFormatter())
            axis.set_major_formatter(number)


def short(name: Hashable) -> str:
    """A name that leaves room for the drawing beside it."""
    text = str(name)
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 1]}…"


def whole_steps(axes: Axes, label: str) -> None:
    """Whole numbers along the x axis."""
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def at_null(axes: Axes) -> None:
    """A line where a ratio to its null is 1."""
    axes.axhline(1.0, color=FAINT, linewidth=0.9, linestyle=(0, (4, 3)))


def at_null_upright(axes: Axes) -> None:
    """The same where the ratio runs along the x axis."""
    axes.axvline(1.0, color=FAINT, linewidth=0.9, linestyle=(0, (4, 3)))


def strips(
    axes: Axes, table: pd.DataFrame, value: str, lines: Sequence[tuple[str, str, Any, str]], *, label: str
) -> None:
    """Controls as strips of dots, a row a name; what they are compared with as lines through all rows.

    Args:
        axes: To draw on.
        table: With ``family``, ``name`` and the value.
        value: Column that runs along the x axis.
        lines: Family, colour, dash and label of what is drawn as a line and not as a strip.
        label: Of the x axis.
    """
    controls = table[~table["family"].isin([family for family, *_ in lines])]
    names = list(dict.fromkeys(controls["name"]))
    for place, name in enumerate(names):
        values = np.sort(controls.loc[controls["name"] == name, value].to_numpy())
        aside = place + 0.28 * np.sin(2.4 * np.arange(len(values)))  # spread evenly, and the same each time
        axes.plot(values, aside, ".", color=INK, alpha=0.45, markersize=3.5, label="controls" if place == 0 else None)
        axes.plot([np.median(values)] * 2, [place - 0.36, place + 0.36], color=INK, linewidth=1.6)
    for family, colour, dash, named in lines:
        for own in table.loc[table["family"] == family, value]:
            axes.axvline(own, color=colour, linestyle=dash, label=named)
    axes.set_yticks(range(len(names)), [short(name) for name in names])
    axes.set(xlabel=label, ylim=(len(names) - 0.4, -0.6))


def spaced(values: Iterable[float], count: int = 48) -> list[float]:
    """At most ``count`` of the distinct values, evenly spaced by their logarithm; the first and last among them."""
    distinct = np.unique(np.asarray([value for value in values if value > 0], dtype=float))
    if len(distinct) <= count:
        return [float(value) for value in distinct]
    wanted = np.geomspace(distinct[0], distinct[-1], count)
    places = np.unique(np.abs(distinct[None, :] - wanted[:, None]).argmin(axis=1))
    return [float(value) for value in distinct[places]]
