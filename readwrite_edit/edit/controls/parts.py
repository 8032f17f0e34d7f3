"""The tested edit's matrices with what their controls are made and matched with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from readwrite_edit.edit.context import Context
from readwrite_edit.edit.metric import Metric
from readwrite_edit.edit.plan import Plan
from readwrite_edit.geometry import LowRank, eigh_descending
from readwrite_edit.interventions.changes import Change
from readwrite_edit.interventions.controls import nearest_first
from readwrite_edit.models.pathways import Pathways, Projection


@dataclass(frozen=True, eq=False)
class Part:
    """One change of the tested edit.

    Attributes:
        change: On the CPU, float64.
        second_moment: C of its input, unshrunk, (d_in, d_in), float64.
        metric: C as the closed form inverted it; None where it inverted none.
        name: Tells it from the edit's other changes.
    """

    change: Change
    second_moment: Tensor
    metric: Metric | None
    name: str

    @property
    def rank(self) -> int:
        """Rank r of the factors."""
        return len(self.change.update.A)

    @property
    def d_in(self) -> int:
        """Input features."""
        return self.change.projection.d_in

    @cached_property
    def squared_norm(self) -> float:
        """‖ΔW‖²."""
        return float(self.change.update.squared_norm())

    @cached_property
    def energy(self) -> float:
        """tr(ΔW C ΔWᵀ)."""
        return float(energies_of(self.change.update.B, self.change.update.A.unsqueeze(0), self.second_moment)[0])

    @cached_property
    def spectrum(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues of C, largest first, and eigenvectors as columns."""
        values, vectors = eigh_descending(self.second_moment)
        return values.clamp_min(0), vectors


def parts_of(context: Context, plan: Plan) -> tuple[Part, ...]:
    """The changes of a plan with the statistics of what they read."""
    statistics = context.statistics([change.projection for change in plan.changes])
    return tuple(
        Part(
            change=_wide(change),
            second_moment=statistics.second_moment(change.projection.site).double().cpu(),
            metric=context.known_metric(change.projection),
            name=f"{index} {change.projection.layer} {change.projection.role}",
        )
        for index, change in enumerate(plan.changes)
    )


def energies_of(B: Tensor, rows: Tensor, second_moment: Tensor) -> Tensor:
    """tr(B A C Aᵀ Bᵀ) for many A, by factors.

    Args:
        B: Shape (d_out, r).
        rows: Shape (n, r, d_in).
        second_moment: C, shape (d_in, d_in).

    Returns:
        Shape (n,), float64.
    """
    inner = (rows.flatten(0, 1) @ second_moment).view_as(rows) @ rows.transpose(1, 2)
    return ((B.T @ B) * inner).sum(dim=(1, 2))


def squared_norms_of(B: Tensor, rows: Tensor) -> Tensor:
    """‖B A‖² for many A, (n, r, d_in) → (n,), float64."""
    triangle = torch.linalg.qr(B)[1]
    return (triangle @ rows).square().sum(dim=(1, 2))


def shifted(changes: Sequence[Part], pathways: Pathways, count: int) -> list[tuple[int, list[Projection]]]:
    """Where the same edit fits elsewhere: every matrix moved by the same number of layers, nearest first.

    Args:
        changes: Of the edit.
        pathways: Of the model.
        count: How many places at most.

    Returns:
        Pairs of offset and projections, one a change; none where the edit spans the model.
    """
    known = {(p.layer, p.role): p for p in pathways.projections}
    own = {(one.change.projection.layer, one.change.projection.role) for one in changes}
    found: list[tuple[int, list[Projection]]] = []
    for offset in nearest_first(pathways.n_layers - 1):
        moved = [known.get((one.change.projection.layer + offset, one.change.projection.role)) for one in changes]
        fits = [
            new
            for one, new in zip(changes, moved, strict=True)
            if new is not None
            and (new.d_out, new.d_in) == (one.change.projection.d_out, one.change.projection.d_in)
            and (new.layer, new.role) not in own
        ]
        if len(fits) == len(changes):
            found.append((offset, fits))
    return found[:count]


def ratio_root(energy: float, energies: Tensor) -> Tensor:
    """√(E / E′), by which a control's strength changes to put out the energy E; NaN where it puts out none."""
    return torch.where(energies > 0, energy / energies, math.nan).sqrt()


def _wide(change: Change) -> Change:
    update = LowRank(change.update.B.detach().double().cpu(), change.update.A.detach().double().cpu())
    bias = None if change.bias is None else change.bias.detach().double().cpu()
    return Change(change.projection, update, bias)
