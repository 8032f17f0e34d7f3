"""What an edit will cost, before anything is written: closed forms of its factors, W and C."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from readwrite_edit.edit.context import Context
from readwrite_edit.edit.overlaps import by_matrix, contradictions, overlaps_table
from readwrite_edit.edit.plan import Plan
from readwrite_edit.geometry import LowRank, output_energy
from readwrite_edit.interventions.changes import Change
from readwrite_edit.models.loading import load_config
from readwrite_edit.models.pathways import Projection, weight_of
from readwrite_edit.probe.delta.entries import EntrySums
from readwrite_edit.statistics import Moments

_BLOCK = 1024  # rows of ΔW that are formed at a time
_WARNED = 0.5  # share under the rounding step from which a merged copy would not hold the edit


@dataclass(frozen=True)
class Preflight:
    """The price of an edit.

    Attributes:
        tables: ``preflight``, one row a changed matrix; ``overlaps``, one row a matrix shared with an earlier edit,
            where there are earlier ones.
        figures: Name to number, over all matrices.
        notes: What the reader must know.
        contradictions: Sentences on earlier edits that answer the same inputs otherwise; they are among the notes too.
        predicted_damage: tr(ΔW C ΔWᵀ) summed over matrices; None where C was not at hand.
    """

    tables: Mapping[str, pd.DataFrame]
    figures: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    contradictions: tuple[str, ...] = ()
    predicted_damage: float | None = None

    @property
    def table(self) -> pd.DataFrame:
        """The main table."""
        return self.tables["preflight"]


def preflight(context: Context, plan: Plan, earlier: Mapping[str, Sequence[Change]]) -> Preflight:
    """Price an edit.

    Where an adapter is extracted without being certified (``measure.certify:
    false``) the model is not loaded, and only statistics that are at hand are used.

    Args:
        context: Of the edit.
        plan: The edit.
        earlier: Edits in force, by the name of their entry.

    Raises:
        DataError: There are no statistics of what the edit reads.
    """
    merged = list(by_matrix(plan.changes).values())
    light = context.without_weights
    moments = _moments(context, [projection for projection, _ in merged], light=light)
    step = None if light else _stored_dtype(context)
    rows = [_row(context, projection, update, moments.get(projection.site), step) for projection, update in merged]
    table = pd.DataFrame(rows)
    tables = {"preflight": table}
    found: tuple[str, ...] = ()
    overlaps = overlaps_table(plan.changes, earlier, {site: own.second_moment() for site, own in moments.items()})
    if len(overlaps):
        tables["overlaps"] = overlaps
        found = contradictions(overlaps)
    priced = len(moments) > 0 and not table["predicted_damage"].isna().any()
    damage = float(table["predicted_damage"].sum()) if priced else None
    return Preflight(tables, _figures(table, damage), (*_unmeasured(context), *_notes(table), *found), found, damage)


def _moments(context: Context, projections: Sequence[Projection], *, light: bool) -> dict[str, Moments]:
    """By site; without a model only those that are at hand."""
    wanted = [projection for projection in projections if not light or context.has_statistics(projection)]
    if not wanted:
        return {}
    statistics = context.statistics(wanted)
    for projection in wanted:
        statistics.second_moment(projection.site)  # refuses a site that a statistics file lacks
    return {projection.site: statistics.sites[projection.site] for projection in wanted}


def _row(
    context: Context, projection: Projection, update: LowRank, moments: Moments | None, step: torch.dtype | None
) -> dict[str, Any]:
    sums = None if step is None else _entries(weight_of(context.model, projection), update, step)
    norm = math.sqrt(float(update.squared_norm()))
    weight_norm = math.nan if sums is None else sums.base_norm
    return {
        "layer": projection.layer,
        "module": projection.role,
        "path": projection.module,
        "d_out": projection.d_out,
        "d_in": projection.d_in,
        "rank": len(update.A),
        "norm": norm,
        "weight_norm": weight_norm,
        "relative_norm": norm / weight_norm if weight_norm else math.nan,
        **_damage(context, projection, update, moments, loaded=step is not None),
        **_condition(context, projection),
        "tokens": math.nan if moments is None else moments.count,
        "under_step_fraction": math.nan if sums is None else sums.under_step_fraction,
        "step_dtype": None if step is None else str(step).removeprefix("torch."),
    }


def _damage(
    context: Context, projection: Projection, update: LowRank, moments: Moments | None, *, loaded: bool
) -> dict[str, float]:
    """Predicted damage, beside the energy of the matrix' own output."""
    if moments is None:
        names = ("predicted_damage", "predicted_damage_per_output", "output_energy", "relative_damage")
        return dict.fromkeys(names, math.nan)
    C = moments.second_moment()
    per_output = float(output_energy(LowRank(update.B.to(C), update.A.to(C)), C))
    damage = per_output * projection.d_out
    own = math.nan
    if loaded:
        W = weight_of(context.model, projection).float()
        own = float(output_energy(W, C.to(W))) * projection.d_out
    return {
        "predicted_damage": damage,
        "predicted_damage_per_output": per_output,
        "output_energy": own,
        "relative_damage": damage / own if own else math.nan,
    }


def _condition(context: Context, projection: Projection) -> dict[str, float]:
    """Of C as it was inverted; empty where this edit inverts none."""
    metric = context.known_metric(projection)
    names = ("condition", "raw_condition", "shrinkage")
    return {name: math.nan if metric is None else float(getattr(metric, name)) for name in names}


def _entries(weight: Tensor, update: LowRank, step: torch.dtype) -> EntrySums:
    """Entry by entry beside W, a block of rows at a time."""
    sums = EntrySums()
    A = update.A.to(weight.device, torch.float32)
    for start in range(0, len(weight), _BLOCK):
        rows = slice(start, start + _BLOCK)
        base = weight[rows].float().contiguous()
        sums.add(base, update.B[rows].to(base) @ A, step)
    return sums


def _stored_dtype(context: Context) -> torch.dtype:
    """Type of the weights in the model's files, in which a merged copy would be written."""
    stored = getattr(load_config(context.source), "dtype", None)
    return stored if isinstance(stored, torch.dtype) else context.model.dtype


def _figures(table: pd.DataFrame, damage: float | None) -> dict[str, float]:
    squared = table["norm"] ** 2
    figures = {
        "changed_matrices": float(len(table)),
        "norm": math.sqrt(float(squared.sum())),
        "relative_norm_max": float(table["relative_norm"].max()),
        "relative_damage_max": float(table["relative_damage"].max()),
        "under_step_fraction": float((squared * table["under_step_fraction"]).sum(skipna=False) / squared.sum()),
    }
    return figures if damage is None else {**figures, "predicted_damage": damage}


def _unmeasured(context: Context) -> tuple[str, ...]:
    """What does not happen where nothing is certified, said before it does not happen."""
    if context.recipe.measure.certify:
        return ()
    light = ", and the model is not loaded: norms and damage are not set beside its weights"
    return (
        "measure.certify is false: nothing is measured, the adapter is not certified, and the edit is neither looked "
        "up in the ledger for contradictions nor entered there" + (light if context.without_weights else ""),
    )


def _notes(table: pd.DataFrame) -> tuple[str, ...]:
    notes = []
    shrunk = table[table["shrinkage"] > 0]
    if len(shrunk):
        notes.append(
            f"C was shrunk before it was inverted: ρ up to {shrunk['shrinkage'].max():.2g}, condition "
            f"{shrunk['raw_condition'].max():.2g} before and {shrunk['condition'].max():.2g} after "
            f"({int(shrunk['tokens'].min())} tokens)"
        )
    lost = table[table["under_step_fraction"] > _WARNED]
    if len(lost):
        notes.append(
            f"{len(lost)} of {len(table)} matrices change by less than a rounding step of {lost['step_dtype'].iloc[0]} "
            "in most entries: keep the edit as an adapter, a merged copy in that type would lose it"
        )
    return tuple(notes)
