"""The figures of docs/evidence.md, from the CSV files that ``evidence.py figures`` leaves: a panel a text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import matplotlib
import numpy as np
from evidence_tables import BASELINE, Line, arms, kl_columns, read
from matplotlib.axes import Axes
from matplotlib.figure import Figure

MARKS = "osD^vPXp<>h*d8H"
_ROOM = 2.0
_INCHES = (11.5, 4.4)
_STYLE = {"svg.hashsalt": "readwrite-edit", "svg.fonttype": "none", "font.size": 8.5, "axes.spines.top": False}


def plot(folder: Path, picture: Path) -> None:
    """Draw mean paths, from (0, 0) through each evaluation, against the root of KL on each text.

    Paths that go on past twice plain LoRA's largest gain or cost leave the picture.

    Args:
        folder: With ``points.csv``.
        picture: An SVG file.
    """
    points = read(folder / "points.csv")
    texts = kl_columns(points)
    with matplotlib.rc_context({**_STYLE, "axes.spines.right": False}):
        figure = Figure(figsize=_INCHES, layout="constrained")
        panels = figure.subplots(1, len(texts), sharey=True, squeeze=False)[0]
        for axes, text in zip(panels, texts, strict=True):
            _panel(axes, points, text)
        panels[0].set_ylabel("margin on held-out rows")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False)
        figure.savefig(picture, metadata={"Date": None})


def _panel(axes: Axes, points: Sequence[Line], text: str) -> None:
    colours = matplotlib.colormaps["tab20"].colors  # type: ignore[attr-defined]
    axes.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0.0)), np.square))
    paths = {arm: _mean_path([point for point in points if point["arm"] == arm], text) for arm in arms(points)}
    costs, gains = zip(*paths[BASELINE], strict=True)
    for place, (arm, path) in enumerate(paths.items()):
        colour = colours[(2 * (place - 1) + (place > 10)) % 20]  # the ten strong ones first
        pen = {"color": "black", "linestyle": "--"} if arm == BASELINE else {"color": colour}
        axes.plot(*zip(*path, strict=True), marker=MARKS[place % len(MARKS)], markersize=4, label=arm, **pen)
    axes.set(xlabel=f"KL to the base on {text[3:]}, nats (root scale)", xlim=(0, _ROOM * max(costs)))
    axes.set_ylim(-0.1 * max(gains), _ROOM * max(gains))
    axes.axhline(0, color="0.8", linewidth=0.6, zorder=0)
    axes.tick_params(axis="x", labelrotation=45)


def _mean_path(points: Sequence[Line], text: str) -> list[tuple[float, float]]:
    """Mean cost and margin over the seeds at each step, from the untrained model on."""
    at: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for point in points:
        at[int(point["step"])].append((float(point[text]), float(point["margin"])))
    means = [(fmean(cost for cost, _ in at[step]), fmean(gain for _, gain in at[step])) for step in sorted(at)]
    return means if 0 in at else [(0.0, 0.0), *means]
