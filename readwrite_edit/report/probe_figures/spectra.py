"""Figures of second moments: spectra, effective rank by layer, convergence; of activations and of gradients."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from readwrite_edit.report.heatmap import Heatmap, Quantity, heatmaps, in_order, plain
from readwrite_edit.report.probe_figures.plan import Plan
from readwrite_edit.report.probe_figures.plots import (
    logarithmic,
    mean_over,
    named_lines,
    short,
    small_multiples,
    spaced,
    styles,
    thin_lines,
    whole_steps,
)
from readwrite_edit.report.svg import LINES

_SPECTRUM = "Share of each eigenvalue in the trace, largest first, both axes logarithmic. Faint: each layer."
_OVERLAPS = ("overlap_1", "overlap_4", "overlap_16", "overlap_64")


def spectra(table: pd.DataFrame, panel: str, by: str | None, prefix: str) -> str:
    """Eigenvalue curves, a panel per value of ``panel``.

    Args:
        table: Columns index, eigenvalue, cumulative, layer and those named.
        panel: Column whose values have a panel each.
        by: Column whose values have a line each (means over layers); None draws three single layers.
        prefix: Begins every id of the drawing.
    """
    of = styles(table[by]) if by else {}
    shares = _shares(table, [name for name in (panel, by, "layer") if name])

    def draw(axes: Axes, name: Hashable) -> None:
        part = shares[shares[panel] == name]
        _mean_lines(axes, part, by, of) if by else _layer_lines(axes, part)
        axes.set_xlabel("eigenvalue")
        logarithmic(axes)

    return small_multiples(in_order(table[panel]), draw, prefix=prefix)


def _shares(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Rows to draw, with each eigenvalue over its trace (its cumulative share at the first gives the trace)."""
    first = table[table["index"] == table["index"].min()].set_index(keys)
    trace = (first["eigenvalue"] / first["cumulative"]).rename("trace")
    joined = table[table["index"].isin(spaced(table["index"]))].join(trace[~trace.index.duplicated()], on=keys)
    shares = joined.assign(share=joined["eigenvalue"] / joined["trace"])
    return shares[shares["share"] > 0]


def _layer_lines(axes: Axes, table: pd.DataFrame) -> None:
    thin_lines(axes, table, "index", "share", "layer", label="each layer")
    layers = sorted(table["layer"].unique())
    chosen = dict.fromkeys(layers[place] for place in (0, len(layers) // 2, -1)) if layers else {}
    for (colour, dash, _), layer in zip(LINES, chosen, strict=False):
        points = mean_over(table[table["layer"] == layer], "index", "share")
        axes.plot(points.index, points, color=colour, linestyle=dash, label=f"layer {layer}")


def _mean_lines(axes: Axes, table: pd.DataFrame, by: str, of: Mapping[str, Any]) -> None:
    for name, (colour, dash, _) in of.items():
        part = table[table[by] == name]
        for _, layer in part.groupby("layer"):
            axes.plot(layer["index"], layer["share"], color=colour, linewidth=0.5, alpha=0.25)
        points = mean_over(part, "index", "share")
        axes.plot(points.index, points, color=colour, linestyle=dash, label=short(name))


def _by_layer(table: pd.DataFrame, names: dict[str, str], by: str, prefix: str) -> str:
    of = styles(table[by])
    panels = [title for title, column in names.items() if table[column].notna().any()]

    def draw(axes: Axes, title: Hashable) -> None:
        named_lines(axes, table, "layer", names[str(title)], by, of)
        whole_steps(axes, "layer")
        axes.set_ylim(bottom=0)

    return small_multiples(panels, draw, prefix=prefix)


_LAYER_PANELS = {
    "Effective rank": "effective_rank",
    "Participation ratio": "participation_ratio",
    "Share of the first direction": "energy_top_1",
    "Share of the first 16": "energy_top_16",
    "Share of the mean direction": "mean_share",
    "Share of the first position": "first_position_share",
}
_SITE_QUANTITIES = (
    Quantity("Effective rank", "exp of the entropy of the normalised eigenvalues", plain("effective_rank")),
    Quantity("Participation ratio", "(Σλ)² / Σλ²", plain("participation_ratio")),
    Quantity("First 16 directions", "share of the trace", plain("energy_top_16")),
    Quantity("Mean direction", "share of ‖E x‖² in the trace", plain("mean_share")),
    Quantity("First position", "share of the trace that first positions bring in", plain("first_position_share")),
)


def _site_maps(table: pd.DataFrame) -> list[Heatmap]:
    return heatmaps(table.to_dict("records"), _SITE_QUANTITIES, column="site")


def _convergence(table: pd.DataFrame) -> str:
    """Overlap with the last basis over tokens, a panel per site and k."""
    long = table.melt(["site", "layer", "tokens"], list(_OVERLAPS), "k", "overlap").dropna(subset=["overlap"])
    panels = list(dict.fromkeys(zip(long["site"], long["k"], strict=True)))
    titles = {f"{site}, k = {k.removeprefix('overlap_')}": (site, k) for site, k in panels}

    def draw(axes: Axes, title: Hashable) -> None:
        site, k = titles[str(title)]
        part = long[(long["site"] == site) & (long["k"] == k)]
        thin_lines(axes, part, "tokens", "overlap", "layer", label="each layer")
        points = mean_over(part, "tokens", "overlap")
        colour, dash, mark = LINES[0]
        axes.plot(
            points.index, points, color=colour, linestyle=dash, marker=mark, markersize=4, label="mean over layers"
        )
        axes.set(xlabel="tokens", ylim=(0, 1.03))

    return small_multiples(list(titles), draw, prefix="convergence")


ACTIVATIONS = (
    Plan(
        "Concentration by layer",
        "How few directions hold the energy of each layer's input, a line per site.",
        "layers",
        lambda table: _by_layer(table, _LAYER_PANELS, "site", "ranks"),
        labels=("site",),
        numbers=("layer",),
        optional=tuple(_LAYER_PANELS.values()),
    ),
    Plan(
        "Spectra",
        f"{_SPECTRUM} The first, a middle and the last layer are drawn strong.",
        "spectra",
        lambda table: spectra(table, "site", None, "spectra"),
        labels=("site",),
        numbers=("layer", "index", "eigenvalue", "cumulative"),
    ),
    Plan(
        "Convergence with tokens",
        "Overlap of the first k directions after so many tokens with those after all of them: 1 is the same subspace.",
        "convergence",
        _convergence,
        labels=("site",),
        numbers=("layer", "tokens"),
        optional=_OVERLAPS,
    ),
    Plan(
        "In numbers",
        "One row per layer, one column per site.",
        "layers",
        _site_maps,
        labels=("site",),
        numbers=("layer",),
        optional=tuple(_LAYER_PANELS.values()),
    ),
)
