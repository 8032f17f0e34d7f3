"""What an intervention does to a matrix: a low-rank update, and where it needs one a constant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from readwrite_edit.errors import ShapeError
from readwrite_edit.geometry import LowRank
from readwrite_edit.models.pathways import Projection


@dataclass(frozen=True, eq=False)
class Change:
    """y = W x becomes y = (W + B A) x + bias.

    Attributes:
        projection: The matrix.
        update: ΔW = B A; B has the role's own rows, shape (d_out, r), A has shape (r, d_in).
        bias: Constant added to the output, shape (d_out,); None for none.
    """

    projection: Projection
    update: LowRank
    bias: Tensor | None = None

    def __post_init__(self) -> None:
        expected = (self.projection.d_out, self.projection.d_in)
        if tuple(self.update.shape) != expected:
            raise ShapeError(
                f"an edit of shape {tuple(self.update.shape)} does not fit layer {self.projection.layer} "
                f"{self.projection.role} of shape {expected}"
            )
        if self.bias is not None and self.bias.shape != (self.projection.d_out,):
            raise ShapeError(f"a constant of shape {tuple(self.bias.shape)} for {self.projection.d_out} outputs")

    def scaled(self, factor: float) -> Change:
        """The same change times a factor."""
        bias = None if self.bias is None else factor * self.bias
        return Change(self.projection, LowRank(factor * self.update.B, self.update.A), bias)


Variant = Sequence[Change]
"""One whole edit: its changes of any number of matrices."""


@dataclass(frozen=True, eq=False)
class Edit:
    """ΔW = ε u vᵀ of one matrix.

    Attributes:
        projection: The matrix.
        epsilon: ε, the Frobenius norm of the edit; negative for the opposite sign.
        reads: Unit input direction v, shape (d_in,).
        writes: Unit output direction u, shape (d_out,), in the order of the role's own rows.
    """

    projection: Projection
    epsilon: float
    reads: Tensor
    writes: Tensor

    def __post_init__(self) -> None:
        _ = self.change  # which checks the shapes

    @property
    def change(self) -> Change:
        """The same as factors."""
        update = LowRank(self.epsilon * self.writes.unsqueeze(1), self.reads.unsqueeze(0))
        return Change(self.projection, update)

    def delta_w(self) -> Tensor:
        """The update itself, shape (d_out, d_in)."""
        return self.epsilon * torch.outer(self.writes, self.reads)
