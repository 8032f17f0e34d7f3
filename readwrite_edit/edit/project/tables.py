"""Tables of a projection: what it takes out of each matrix, and whether a classifier still finds a concept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import pandas as pd
import torch
from torch import Tensor

from readwrite_edit.edit.context import Context
from readwrite_edit.edit.project.erase import Erased
from readwrite_edit.edit.project.fold import Map, bias_of, side_of
from readwrite_edit.interventions.changes import Change
from readwrite_edit.models.pathways import Projection, weight_of
from readwrite_edit.statistics import Moments


@dataclass(frozen=True, eq=False)
class Projected:
    """One matrix of a projection.

    Attributes:
        change: Of the matrix.
        vectors: What it does to the vectors that the matrix writes or reads.
        directions: k.
    """

    change: Change
    vectors: Map
    directions: int


def projections_table(context: Context, projected: Sequence[Projected], action: str) -> pd.DataFrame:
    """One row a matrix: ``layer, module, side, action, k, rank, energy_removed_fraction, norm_fraction``.

    Args:
        context: Of the edit, for its statistics.
        projected: What was done.
        action: Its name.
    """
    statistics = context.statistics([one.change.projection for one in projected])
    rows = []
    for one in projected:
        projection, update = one.change.projection, one.change.update
        W = weight_of(context.model, projection).float().cpu()
        rows.append(
            {
                "layer": projection.layer,
                "module": projection.role,
                "side": side_of(projection),
                "action": action,
                "k": one.directions,
                "rank": len(update.A),
                "energy_removed_fraction": _energy_removed(context, one, W, statistics.sites[projection.site]),
                "norm_fraction": float(update.squared_norm().sqrt() / torch.linalg.matrix_norm(W)),
            }
        )
    return pd.DataFrame(rows)


def _energy_removed(context: Context, one: Projected, W: Tensor, moments: Moments) -> float:
    """E‖L R (v − o)‖² / E‖v‖² over the statistics' text, v what the matrix reads, or writes without its bias.

    The offset o counts where the change has its constant: that is what puts back
    the mean that LEACE leaves, or moves the module's bias.
    """
    projection, left, right = one.change.projection, one.vectors.left.float(), one.vectors.right.float()
    C, mean = moments.second_moment().float().cpu(), moments.mean.float().cpu()
    offset = torch.zeros(len(left)) if one.vectors.offset is None else one.vectors.offset.float()
    if side_of(projection) == "write":
        seen, whole = right @ W, ((W @ C) * W).sum()
        offset = offset - bias_of(context.model, projection).float()
    else:
        seen, whole = right, C.trace()
    inner, along, fixed = seen @ C @ seen.T, seen @ mean, right @ offset
    if one.change.bias is not None:
        inner = inner - torch.outer(along, fixed) - torch.outer(fixed, along) + torch.outer(fixed, fixed)
    return float(((left.T @ left) * inner).sum() / whole)


def concept_table(erased: Mapping[Projection, Erased]) -> pd.DataFrame:
    """One row a matrix: what its eraser was fitted on, and the concept on held-out prompts, before and after."""
    return pd.DataFrame(
        [
            {
                "layer": projection.layer,
                "module": projection.role,
                "side": side_of(projection),
                "vectors": one.erasure.count,
                "shrinkage": one.erasure.shrinkage,
                **asdict(one.held),
            }
            for projection, one in erased.items()
        ]
    )
