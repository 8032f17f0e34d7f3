"""A few directions of what a matrix reads or writes, and those of the residual stream carried there.

A norm's gain makes of one direction r of the residual stream two: the *step*
that a vector takes when the stream moves along r, and the *reading*, the
functional that tells how far along r it lies. They are r ⊙ g and r ⊘ g behind a
norm with gain g, r ⊘ g and r ⊙ g before one, and both r where there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from readwrite_edit.errors import EditError
from readwrite_edit.models.norms import input_norm, output_norm
from readwrite_edit.models.pathways import Pathways, Projection

Side = Literal["read", "write"]
_DEPENDENT = 1e-6  # share of a row that must lie outside the others' span
_DEAD = 1e-6  # share of the largest gain under which a feature is switched off


@dataclass(frozen=True, eq=False)
class Subspace:
    """k directions of what a matrix reads or writes.

    Attributes:
        steps: What a vector changes by along each, shape (k, d), float64.
        reads: What tells how far along each a vector lies, shape (k, d); ``reads @ steps.T`` is the identity. Equal
            to ``steps``, and orthonormal, for directions of the space's own.
        offset: What vectors are measured from, shape (d,): the norm's bias; None for zero.
    """

    steps: Tensor
    reads: Tensor
    offset: Tensor | None = None

    @property
    def is_own(self) -> bool:
        """Whether these are orthonormal directions of the space itself."""
        return self.steps is self.reads


def carried(model: nn.Module, pathways: Pathways, projection: Projection, rows: Tensor, *, side: Side) -> Subspace:
    """Directions of the residual stream, as directions of what a matrix reads or writes.

    Computes S = R ⊙ g and F = R ⊘ g on the read side, the reverse on the write
    side, with R orthonormal after a LayerNorm's mean is taken out and without
    the features that the gain switches off.

    Args:
        model: Bare model.
        pathways: Of the model.
        projection: The matrix.
        rows: Directions of the stream, shape (k, d_model).
        side: Of the matrix.

    Returns:
        S as ``steps`` and F as ``reads``: they hold up to the norm's denominator, which changes with its input.

    Raises:
        EditError: The norm leaves nothing of a direction.
        ModelError: The matrix does not read or write the residual stream.
    """
    norm = (input_norm if side == "read" else output_norm)(model, pathways, projection)
    if norm is None:
        basis = orthonormal(rows)
        return Subspace(basis, basis)
    live = norm.gain.abs() > _DEAD * norm.gain.abs().max()
    rows = rows - rows.mean(dim=1, keepdim=True) if norm.centres else rows
    basis = orthonormal(rows * live)
    multiplied, divided = basis * norm.gain, basis / torch.where(live, norm.gain, 1.0)
    if side == "write":
        return Subspace(divided, multiplied)
    return Subspace(multiplied, divided, norm.bias)


def orthonormal(rows: Tensor) -> Tensor:
    """An orthonormal basis of the rows' span, in their order, shape (k, d), float64.

    Raises:
        EditError: A row lies in the span of those before it.
    """
    unit = torch.nn.functional.normalize(rows.double(), dim=1)
    q, triangle = torch.linalg.qr(unit.T)
    if len(unit) > unit.shape[1] or not bool((triangle.diagonal().abs() > _DEPENDENT).all()):
        raise EditError(
            f"{len(rows)} directions in {rows.shape[1]} dimensions are zero or linearly dependent: expected each to "
            "point where those before it do not"
        )
    return (q * triangle.diagonal().sign()).T.contiguous()
