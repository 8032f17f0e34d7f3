"""The plane of cost and gain as a drawing: a path an arm, its seeds behind it, and the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from readwrite_edit.compare.points import Place, mean_path, run_paths
from readwrite_edit.compare.result import Comparison
from readwrite_edit.report.svg import FAINT, INK, MANY, MARKS, drawing, number

_HEIGHT_IN = 4.6
_TICKS = 6
_LABEL_X = 1.03
_LABEL_GAP = 0.05
_LONGEST_LABEL = 34


def plane_of(comparison: Comparison, text: str, *, prefix: str) -> str:
    """The plane of one text as an ``<svg>`` element.

    Args:
        comparison: Of the arms.
        text: Whose cost is on the axis.
        prefix: Begins every id; never text from a file.
    """
    return drawing(lambda figure: _draw(figure.add_subplot(), comparison, text), height_in=_HEIGHT_IN, prefix=prefix)


def pens(comparison: Comparison) -> dict[str, tuple[str, str]]:
    """Colour and mark of each arm; the baseline has the ink of the page."""
    others = [facts.arm for facts in comparison.arms if facts.arm != comparison.baseline]
    chosen = {arm: (MANY[at % len(MANY)], MARKS[at % len(MARKS)]) for at, arm in enumerate(others)}
    return {comparison.baseline: (INK, "*"), **chosen}


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Heights in [0, 1], moved as little as it takes to keep them apart by a gap (or by what there is room for).

    Args:
        heights: Wanted, in any order.
        gap: Between neighbours.
    """
    gap = min(gap, 1 / max(1, len(heights) - 1))
    order = sorted(range(len(heights)), key=lambda at: heights[at])
    placed = [0.0] * len(heights)
    lowest = 0.0
    for at in order:
        placed[at] = lowest = max(heights[at], lowest)
        lowest += gap
    highest = 1.0
    for at in reversed(order):
        placed[at] = highest = min(placed[at], highest)
        highest -= gap
    return placed


def root_ticks(most: float) -> list[float]:
    """Round numbers from 0 to a cost, about evenly apart in their roots."""
    ticks = {0.0}
    for part in range(1, _TICKS + 1):
        value = most * (part / _TICKS) ** 2
        if value > 0:
            size = 10.0 ** math.floor(math.log10(value))
            ticks.add(float(f"{min((1, 2, 3, 5, 7, 10), key=lambda n: abs(n * size - value)) * size:.3g}"))
    return sorted(tick for tick in ticks if tick <= most)


def _draw(axes: Axes, comparison: Comparison, text: str) -> None:
    gain, pen_of = comparison.gain, pens(comparison)
    paths = {facts.arm: mean_path(comparison.points, facts.arm, text, gain) for facts in comparison.arms}
    _scale(axes, max((point.kl[text] for point in comparison.points), default=0.0))
    axes.set(xlabel=f"KL to the base on '{text}', nats a position (root scale)", ylabel=f"gain: {gain}")
    axes.axhline(0, color=FAINT, linewidth=0.8, alpha=0.6)
    axes.yaxis.set_major_formatter(number)
    for arm, path in paths.items():
        colour, mark = pen_of[arm]
        runs = run_paths(comparison.points, arm, text, gain)
        for own in runs.values() if len(runs) > 1 else ():
            axes.plot(*_columns(own), color=colour, linewidth=0.7, alpha=0.45, zorder=2)
        style = "--" if arm == comparison.baseline else "-"
        axes.plot(
            *_columns(path), color=colour, linestyle=style, marker=mark, markersize=5, markevery=_after_origin(path)
        )
    _draw_front(axes, comparison.front[text], paths)
    _name_ends(axes, paths, pen_of)


def _columns(path: Sequence[Place]) -> tuple[list[float], list[float]]:
    """Costs and gains, from the untrained model on."""
    return [0.0, *(place.cost for place in path)], [0.0, *(place.gain for place in path)]


def _after_origin(path: Sequence[Place]) -> list[int]:
    return list(range(1, len(path) + 1))


def _scale(axes: Axes, most: float) -> None:
    """Costs by their roots, as the interpolation takes them: what is straight there is straight here."""
    axes.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0.0)), np.square))
    axes.set_xlim(0, most * 1.04 or 1.0)
    axes.set_xticks(root_ticks(most * 1.04 or 1.0))
    axes.xaxis.set_major_formatter(number)
    axes.minorticks_off()


def _draw_front(axes: Axes, front: Sequence[tuple[str, int]], paths: Mapping[str, Sequence[Place]]) -> None:
    """Rings around the places that none dominates, and the border that they make."""
    there = set(front)
    places = sorted(
        (place.cost, place.gain) for arm, path in paths.items() for place in path if (arm, place.step) in there
    )
    if not places:
        return
    costs, gains = (list(column) for column in zip(*places, strict=True))
    axes.plot(costs, gains, "o", markersize=11, markerfacecolor="none", markeredgecolor=FAINT, markeredgewidth=0.9)
    axes.plot(costs, gains, color=FAINT, drawstyle="steps-post", linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)


def _name_ends(axes: Axes, paths: Mapping[str, Sequence[Place]], pen_of: Mapping[str, tuple[str, str]]) -> None:
    """Names beside the plot, at the heights of the ends as far as they do not overlap, with a line to each end."""
    ended = {arm: path[-1] for arm, path in paths.items() if path}
    low, high = axes.get_ylim()
    heights = spread([(place.gain - low) / (high - low) for place in ended.values()], _LABEL_GAP)
    for (arm, place), height in zip(ended.items(), heights, strict=True):
        colour, mark = pen_of[arm]
        label = arm if len(arm) <= _LONGEST_LABEL else arm[: _LONGEST_LABEL - 1] + "…"
        axes.annotate(
            label,
            xy=(place.cost, place.gain),
            xytext=(_LABEL_X, height),
            textcoords="axes fraction",
            color=colour,
            va="center",
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "alpha": 0.6, "shrinkA": 2, "shrinkB": 5},
        )
        axes.plot(
            [_LABEL_X - 0.012], [height], mark, color=colour, markersize=5, transform=axes.transAxes, clip_on=False
        )
