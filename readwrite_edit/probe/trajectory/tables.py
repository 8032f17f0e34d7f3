"""Geometry along a training as tables: one row a matrix, and means over layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from readwrite_edit.job.result import Result
from readwrite_edit.probe.delta.verdict import verdict_of
from readwrite_edit.probe.trajectory.checkpoints import Entry

MEANS = (
    *(f"{side}_{name}" for side in ("read", "write") for name in ("fraction", "relative_isotropic", "relative_energy")),
    "relative_norm",
    "cosine",
    "stable_rank",
    "effective_rank",
    "changed_fraction",
)
_KEYS = ["step", "checkpoint", "against", "module"]
_TEXT = (*_KEYS, "path", "spectrum", "step_dtype", "layer", "d_out", "d_in", "k")
ROLES = {"read": ("q_proj", "k_proj"), "write": ("o_proj", "down_proj")}


def trajectory_result(rows: Sequence[Mapping[str, Any]], notes: Sequence[str], entries: Sequence[Entry]) -> Result:
    """Tables, verdict on the whole training, and main numbers.

    Args:
        rows: Geometry rows with step, checkpoint and against.
        notes: What the reader must know.
        entries: The checkpoints.
    """
    geometry = _with_numbers(pd.DataFrame(rows))
    means = means_table(geometry)
    against = "first" if "first" in set(geometry["against"]) else "previous"
    last = geometry[(geometry["against"] == against) & (geometry["step"] == entries[-1].step)]
    verdict = verdict_of(last)
    opening = f"From {entries[0].name if against == 'first' else entries[-2].name} to {entries[-1].name}"
    return Result(
        main="trajectory",
        tables={"trajectory": means, "geometry": geometry},
        verdict=f"{opening}: {verdict.sentence[0].lower()}{verdict.sentence[1:]}",
        figures={"checkpoints": len(entries), **verdict.figures, **_ends(geometry)},
        notes=tuple(notes),
    )


def means_table(geometry: pd.DataFrame) -> pd.DataFrame:
    """Means over layers, a step, reference and module; the norm is that of the layers' deltas together."""
    groups = geometry.groupby(_KEYS, sort=False)
    means = groups[[name for name in MEANS if name in geometry]].mean()
    norms = groups["norm"].agg(lambda norm: float(np.sqrt(np.square(norm).sum())))
    return means.assign(norm=norms, layers=groups["layer"].nunique()).reset_index()


def _with_numbers(geometry: pd.DataFrame) -> pd.DataFrame:
    """Columns of numbers as floats, also where all of them are None."""
    return geometry.astype({name: float for name in geometry if name not in _TEXT})


def _ends(geometry: pd.DataFrame) -> dict[str, float]:
    """Relative fractions at the first and the last step, means over each side's matrices."""
    figures = {}
    for side, roles in ROLES.items():
        values = geometry[geometry["module"].isin(roles)].groupby(["against", "step"])[f"{side}_relative_isotropic"]
        for against, means in values.mean().groupby(level=0):
            figures[f"{side}_relative_isotropic_{against}_begin"] = float(means.iloc[0])
            figures[f"{side}_relative_isotropic_{against}_end"] = float(means.iloc[-1])
    return figures
