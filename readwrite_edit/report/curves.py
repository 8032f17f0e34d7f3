"""Plots of a run as inline SVG: training curves and the energy each layer's basis captures."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from readwrite_edit.report.record import is_number
from readwrite_edit.report.svg import FAINT, LINES, drawing, number

_COLUMNS = 3
_SPARSE = 30  # held-out points that still have room for large marks
_SMOOTH_PARTS = 40  # from twice as many steps on, a running mean over a 40th of the run is drawn over the values


@dataclass(frozen=True)
class Panel:
    """One small plot: which values of ``metrics.jsonl`` it shows, by name and label."""

    title: str
    series: tuple[tuple[str, str], ...]
    reference: float | None = None
    limits: tuple[float, float] | None = None
    unit: str = ""
    noisy: bool = True


PANELS = (
    Panel("Loss", (("loss", ""),)),
    Panel("Reward margin", (("rewards/margins", ""),), reference=0.0),
    Panel("Accuracy", (("rewards/accuracies", ""),), reference=0.5, limits=(-0.03, 1.03)),
    Panel("Rewards", (("rewards/chosen", "chosen"), ("rewards/rejected", "rejected")), reference=0.0),
    Panel("Log-probability", (("logps/chosen", "chosen"), ("logps/rejected", "rejected")), unit="nats"),
    Panel("Learning rate", (("learning_rate", ""),), noisy=False),
)


def training_curves(metrics: list[dict[str, Any]]) -> str:
    """Small multiples of loss, margin, accuracy, rewards, log-probabilities and learning rate.

    Args:
        metrics: Lines of ``metrics.jsonl``. Segments after a resume are drawn
            apart; held-out figures are marks, training figures lines.

    Returns:
        An ``<svg>`` element, or an empty text where no figure was logged.
    """
    shown = [panel for panel in PANELS if any(_points(metrics, kind, panel) for kind in ("train", "eval"))]
    if not shown:
        return ""
    rows = -(-len(shown) // _COLUMNS)

    def draw(figure: Figure) -> None:
        for index, panel in enumerate(shown):
            _draw_panel(figure.add_subplot(rows, _COLUMNS, index + 1), panel, metrics)

    return drawing(draw, height_in=2.15 * rows, prefix="curves")


def energy_by_layer(matrices: list[dict[str, Any]]) -> str:
    """Share of its input's energy that each layer's basis captures, one line per input.

    Args:
        matrices: One entry per adapted matrix. Projections that share their
            input share one line.

    Returns:
        An ``<svg>`` element, or an empty text where nothing was measured.
    """
    by_module: dict[str, dict[int, float]] = {}
    for matrix in matrices:
        if is_number(matrix.get("captured_energy")):
            by_module.setdefault(matrix["module"], {})[matrix["layer"]] = matrix["captured_energy"]
    lines: dict[tuple[tuple[int, float], ...], list[str]] = {}
    for module, values in by_module.items():
        lines.setdefault(tuple(sorted(values.items())), []).append(module)
    if not lines:
        return ""
    named = [(", ".join(modules), points) for points, modules in lines.items()]
    return drawing(lambda figure: _draw_energy(figure.add_subplot(), named), height_in=2.2, prefix="energy")


def _draw_energy(axes: Axes, lines: list[tuple[str, tuple[tuple[int, float], ...]]]) -> None:
    for index, (label, points) in enumerate(lines):
        colour, dash, mark = LINES[index % len(LINES)]
        layers, shares = zip(*points, strict=True)
        axes.plot(layers, shares, color=colour, linestyle=dash, marker=mark, markersize=3.5, label=label)
    axes.set(ylim=(0, 1), xlabel="layer", ylabel="share of energy")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="lower left", ncols=len(lines))


def _draw_panel(axes: Axes, panel: Panel, metrics: list[dict[str, Any]]) -> None:
    axes.set_title(panel.title)
    axes.set_ylabel(panel.unit)
    if panel.reference is not None:
        axes.axhline(panel.reference, color=FAINT, linewidth=0.8, alpha=0.6)
    for index, (name, label) in enumerate(panel.series):
        colour, dash, mark = LINES[index]
        segments = _by_segment(metrics, name)
        window = sum(map(len, segments)) // _SMOOTH_PARTS if panel.noisy else 1
        _draw_training(axes, segments, window, {"color": colour, "linestyle": dash}, label or "training")
        held_out = _values(metrics, "eval", f"eval_{name}")
        if held_out:
            text = None if label else "held out"
            width = 4.5 if len(held_out) <= _SPARSE else 2.5
            axes.plot(*zip(*held_out, strict=True), mark, color=colour, markersize=width, label=text, zorder=3)
    _mark_resumes(axes, metrics)
    if panel.limits:
        axes.set_ylim(panel.limits)
    axes.margins(y=0.12)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.yaxis.set_major_formatter(number)
    if len(axes.get_legend_handles_labels()[0]) > 1:  # beside the title: never over the data
        axes.legend(loc="lower right", bbox_to_anchor=(1.02, 0.96), ncols=2, columnspacing=1.2, borderpad=0.1)


def _draw_training(
    axes: Axes, segments: list[list[tuple[int, float]]], window: int, style: dict[str, Any], label: str
) -> None:
    for index, points in enumerate(segments):
        steps, values = zip(*points, strict=True)
        if window > 1:
            axes.plot(steps, values, color=style["color"], linewidth=0.6, alpha=0.3)
        name, single = None if index else label, "." if len(points) == 1 else ""
        axes.plot(steps, _running_mean(values, window), marker=single, label=name, **style)


def _running_mean(values: tuple[float, ...], window: int) -> list[float]:
    """Mean over the values of a centred window; the values themselves where the window is 1 or less."""
    reach = window // 2
    parts = (values[max(0, place - reach) : place + reach + 1] for place in range(len(values)))
    return [sum(part) / len(part) for part in parts]


def _mark_resumes(axes: Axes, metrics: list[dict[str, Any]]) -> None:
    starts: dict[int, int] = {}
    for line in metrics:
        starts[line["segment"]] = min(line["step"], starts.get(line["segment"], line["step"]))
    for step in sorted(starts.values())[1:]:
        axes.axvline(step - 0.5, color=FAINT, linewidth=0.9, linestyle=(0, (1, 2)))


def _points(metrics: list[dict[str, Any]], kind: str, panel: Panel) -> bool:
    prefix = "eval_" if kind == "eval" else ""
    return any(_values(metrics, kind, prefix + name) for name, _ in panel.series)


def _by_segment(metrics: list[dict[str, Any]], name: str) -> list[list[tuple[int, float]]]:
    segments = sorted({line["segment"] for line in metrics})
    parts = [_values([line for line in metrics if line["segment"] == one], "train", name) for one in segments]
    return [part for part in parts if part]


def _values(lines: Iterable[dict[str, Any]], kind: str, name: str) -> list[tuple[int, float]]:
    """Steps and values of one name; a non-finite value (null in the file) leaves a gap."""
    found = [(line["step"], line["values"][name]) for line in lines if line["kind"] == kind and name in line["values"]]
    gapped = [(step, float(value) if is_number(value) else math.nan) for step, value in found]
    return gapped if any(not math.isnan(value) for _, value in gapped) else []
