"""From a map of vectors to a change of the matrix that writes or reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from readwrite_edit.edit.subspace import Side, Subspace, orthonormal
from readwrite_edit.geometry import LowRank
from readwrite_edit.interventions.changes import Change
from readwrite_edit.models.architectures import WRITE_ROLES
from readwrite_edit.models.pathways import Projection, role_rows, weight_of

Action = Literal["remove", "keep", "scale"]


@dataclass(frozen=True, eq=False)
class Map:
    """A vector v becomes v + L R (v − offset).

    Attributes:
        left: L, shape (d, r).
        right: R, shape (r, d).
        offset: Shape (d,); None for zero.
    """

    left: Tensor
    right: Tensor
    offset: Tensor | None = None


def side_of(projection: Projection) -> Side:
    """The side on which a matrix is projected: what o_proj and down_proj write, what the others read."""
    return "write" if projection.role in WRITE_ROLES else "read"


def map_of(subspace: Subspace, action: Action, factor: float, *, side: Side) -> Map:
    """What an action does to the vectors of a side.

    With P = Sᵀ F for steps S and readings F: remove is I − P, scale is
    I + (factor − 1) P, keep is P. Before a norm with a gain P is orthogonal, so
    that the norm's denominator changes the least: along F for remove and scale
    (the normalised vector then has nothing along r, or ``factor`` times as much),
    along S for keep (it then has nothing beside r).

    Args:
        subspace: The directions.
        action: What to do with the part along them.
        factor: Of ``scale``.
        side: ``write`` or ``read``.

    Returns:
        The map; of rank k, or d − k for keep.
    """
    steps, reads = subspace.steps, subspace.reads
    if side == "write" and not subspace.is_own:
        steps = reads = orthonormal(steps if action == "keep" else reads)
    if action != "keep":
        return Map((-1.0 if action == "remove" else factor - 1.0) * steps.T, reads, subspace.offset)
    rest = torch.linalg.qr(reads.T, mode="complete")[0][:, len(reads) :]  # (d, d − k): I − P has its columns here
    return Map(-rest, rest.T - (rest.T @ steps.T) @ reads, subspace.offset)


def fold(model: PreTrainedModel, projection: Projection, vectors: Map, *, constant: bool) -> Change:
    """The change of a matrix that does to its output or input what a map does.

    Computes ΔW = L R W with the constant L R (b − offset) on the write side, b
    the module's own bias, and ΔW = W L R with −W L R offset on the read side.

    Args:
        model: Bare model.
        projection: The matrix.
        vectors: Map of what it writes (o_proj, down_proj) or reads (others).
        constant: Whether to keep the constant.

    Returns:
        The change, float32, on the CPU.
    """
    W = weight_of(model, projection).double().cpu()
    offset = torch.zeros(len(vectors.left), dtype=W.dtype) if vectors.offset is None else vectors.offset
    if side_of(projection) == "write":
        update = LowRank(vectors.left, vectors.right @ W)
        moved = bias_of(model, projection) - offset
        bias = vectors.left @ (vectors.right @ moved)
    else:
        update = LowRank(W @ vectors.left, vectors.right)
        bias = -update.B @ (vectors.right @ offset)
    update = _thin(update)
    wanted = constant and bool(bias.any())
    return Change(projection, LowRank(update.B.float(), update.A.float()), bias.float() if wanted else None)


def rank_of(projection: Projection, directions: int, action: Action) -> int:
    """Rank of the change that an action on so many directions makes of a matrix."""
    dim = projection.d_out if side_of(projection) == "write" else projection.d_in
    return min(dim - directions if action == "keep" else directions, projection.d_out, projection.d_in)


def bias_of(model: PreTrainedModel, projection: Projection) -> Tensor:
    """The module's own bias in the role's rows, zeros where it has none; shape (d_out,), float64, on the CPU."""
    bias: Any = getattr(model.get_submodule(projection.module), "bias", None)
    if bias is None:
        return torch.zeros(projection.d_out, dtype=torch.float64)
    found: Tensor = bias.detach().double().cpu()[role_rows(projection)]
    return found


def _thin(update: LowRank) -> LowRank:
    """The same update with no more inner dimensions than the matrix has rows or columns."""
    (d_out, d_in), inner = update.shape, update.A.shape[0]
    if inner <= min(d_out, d_in):
        return update
    dense = update.dense()
    eye = torch.eye(min(d_out, d_in), dtype=dense.dtype)
    return LowRank(eye, dense) if d_out <= d_in else LowRank(dense, eye)
