"""A sum of low-rank updates brought to a lower rank: the best one of each matrix, with its error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from readwrite_edit.edit.assembly import Assembled, assembled
from readwrite_edit.geometry import LowRank
from readwrite_edit.interventions.changes import Change
from readwrite_edit.models.pathways import role_rows


@dataclass(frozen=True, eq=False)
class Recompressed:
    """Changes of at most a given rank.

    Attributes:
        changes: What is left.
        matrices: One row a module: ``layer``, ``matrix`` (its roles), ``rank_before``, ``rank``, ``error``.
        error: ‖ΔW − ΔW_r‖_F/‖ΔW‖_F over all matrices.
    """

    changes: tuple[Change, ...]
    matrices: pd.DataFrame
    error: float


def recompressed(model: nn.Module, changes: Sequence[Change], rank: int | None) -> Recompressed:
    """The best approximation of each module's whole update by a rank.

    With B = Q_B R_B and Aᵀ = Q_A R_A, ΔW = Q_B (R_B R_Aᵀ) Q_Aᵀ: the singular values
    of the small core are those of ΔW, and nothing of its size is ever formed.
    Modules within the rank are left as they are, bit for bit.

    Args:
        model: Bare model, with or without weights.
        changes: Any number a module.
        rank: Largest rank a module may have; None cuts nothing.
    """
    kept: list[Change] = []
    rows: list[dict[str, Any]] = []
    lost = total = 0.0
    for part in assembled(model, changes):
        singular = singular_values(part)
        left = len(part.A) if rank is None else min(rank, len(part.A))
        cut = float(singular[left:].square().sum()) if left < len(part.A) else 0.0
        whole = float(singular.square().sum())
        lost, total = lost + cut, total + whole
        kept += _truncated(part, left) if left < len(part.A) else _members(changes, part)
        rows.append(_row(part, left, _ratio(cut, whole)))
    return Recompressed(tuple(kept), pd.DataFrame(rows), _ratio(lost, total))


def singular_values(part: Assembled) -> Tensor:
    """Singular values of a module's update, descending, (min(rank, width, d_in),), float64."""
    return torch.linalg.svdvals(_core(part)[1])


def _truncated(part: Assembled, rank: int) -> Iterator[Change]:
    """The update of the given rank, as one change a projection; all of a module's read by the same A."""
    left, core, right = _core(part)
    U, S, Vh = torch.linalg.svd(core, full_matrices=False)
    B = torch.zeros(part.B.shape[0], min(rank, len(S)), dtype=part.B.dtype)
    B[_rows(part)] = left @ (U[:, :rank] * S[:rank])
    A = Vh[:rank] @ right.T
    for projection in part.target.projections:
        own = role_rows(projection)
        bias = None if part.bias is None else part.bias[own]
        yield Change(projection, LowRank(B[own], A), bias)


def _core(part: Assembled) -> tuple[Tensor, Tensor, Tensor]:
    """Q_B, R_B R_Aᵀ and Q_A of the rows that change."""
    left, lower = torch.linalg.qr(part.B[_rows(part)])
    right, upper = torch.linalg.qr(part.A.T)
    return left, lower @ upper.T, right


def _rows(part: Assembled) -> Tensor:
    """Rows of the module that may change; others stay exactly zero."""
    return torch.cat([role_rows(projection) for projection in part.target.projections])


def _members(changes: Sequence[Change], part: Assembled) -> list[Change]:
    return [change for change in changes if change.projection.module == part.target.module]


def _row(part: Assembled, rank: int, error: float) -> dict[str, Any]:
    first = part.target.projections[0]
    matrix = "+".join(projection.role for projection in part.target.projections)
    return {"layer": first.layer, "matrix": matrix, "rank_before": len(part.A), "rank": rank, "error": error}


def _ratio(part: float, whole: float) -> float:
    return (part / whole) ** 0.5 if whole > 0 else 0.0
