"""How much of an update acts on a read subspace or lands in a write subspace.

An update is either a dense ΔW or the factors of a low-rank one; for factors
nothing of size (d_out, d_in) is ever formed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from readwrite_edit.errors import ShapeError


@dataclass(frozen=True)
class LowRank:
    """An update ΔW = B A that is kept as its factors.

    Attributes:
        B: Shape (d_out, r).
        A: Shape (r, d_in).
    """

    B: Tensor
    A: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (d_out, d_in) of the update."""
        return self.B.shape[0], self.A.shape[1]

    def dense(self) -> Tensor:
        """ΔW itself, shape (d_out, d_in)."""
        return self.B @ self.A

    def squared_norm(self) -> Tensor:
        """‖B A‖²_F = ‖R A‖²_F with B = Q R: no cancellation, and nothing of size (d_out, d_in)."""
        triangle = torch.linalg.qr(self.B.float() if self.B.dtype.itemsize < 4 else self.B)[1]
        return torch.linalg.vector_norm(triangle @ self.A.to(triangle.dtype)).square()

    def read(self, basis: Tensor) -> LowRank:
        """ΔW U, as factors; U has shape (d_in, k)."""
        return LowRank(self.B, self.A @ basis)

    def write(self, basis: Tensor) -> LowRank:
        """Vᵀ ΔW, as factors; V has shape (d_out, k)."""
        return LowRank(basis.T @ self.B, self.A)


Update = Tensor | LowRank


def read_fraction(delta_w: Update, basis: Tensor) -> Tensor:
    """Share of an update's energy that acts on a read subspace.

    Computes ‖ΔW U‖²_F / ‖ΔW‖²_F.

    Args:
        delta_w: Update ΔW, shape (d_out, d_in), or its factors.
        basis: Orthonormal columns U, shape (d_in, k).

    Returns:
        Scalar in [0, 1]; NaN where ΔW is zero.

    Raises:
        ShapeError: d_in differs between the two.

    Source: arXiv 2605.16600; normalisation is this project's.
    """
    check_side("d_in", delta_w.shape[1], basis)
    projected = delta_w.read(basis) if isinstance(delta_w, LowRank) else delta_w @ basis
    return _squared_norm(projected) / _squared_norm(delta_w)


def write_fraction(delta_w: Update, basis: Tensor) -> Tensor:
    """Share of an update's energy that lands in a write subspace.

    Computes ‖Vᵀ ΔW‖²_F / ‖ΔW‖²_F.

    Args:
        delta_w: Update ΔW, shape (d_out, d_in), or its factors.
        basis: Orthonormal columns V, shape (d_out, k).

    Returns:
        Scalar in [0, 1]; NaN where ΔW is zero.

    Raises:
        ShapeError: d_out differs between the two.

    Source: arXiv 2605.16600; normalisation is this project's.
    """
    check_side("d_out", delta_w.shape[0], basis)
    projected = delta_w.write(basis) if isinstance(delta_w, LowRank) else basis.T @ delta_w
    return _squared_norm(projected) / _squared_norm(delta_w)


def cumulative_read_fraction(delta_w: Tensor, basis: Tensor) -> Tensor:
    """Read fractions for every k at once, with one product and no SVD.

    Args:
        delta_w: Update ΔW, shape (d_out, d_in).
        basis: Orthonormal columns U, shape (d_in, k_max).

    Returns:
        Shape (k_max,): entry k−1 is the read fraction of the first k columns.
    """
    check_side("d_in", delta_w.shape[1], basis)
    energy = (delta_w @ basis).square().sum(dim=0)
    return energy.cumsum(0) / _squared_norm(delta_w)


def subspace_overlap(first: Tensor, second: Tensor) -> float:
    """Mean squared cosine of the principal angles between two subspaces.

    Computes ‖U₁ᵀ U₂‖²_F / k.

    Args:
        first: Orthonormal columns, shape (d, k).
        second: Orthonormal columns, shape (d, k).

    Returns:
        1.0 for the same subspace, k/d expected for unrelated ones.

    Raises:
        ShapeError: The shapes differ.
    """
    if first.shape != second.shape:
        raise ShapeError(f"bases of shapes {tuple(first.shape)} and {tuple(second.shape)} can not be compared")
    return float((first.T @ second).square().sum() / first.shape[1])


def _squared_norm(update: Update) -> Tensor:
    return update.squared_norm() if isinstance(update, LowRank) else torch.linalg.vector_norm(update).square()


def check_side(name: str, dim: int, basis: Tensor) -> None:
    """Require that a basis fits a side of an update.

    Raises:
        ShapeError: It does not.
    """
    if basis.shape[0] != dim:
        raise ShapeError(f"the basis has shape {tuple(basis.shape)}, but the update's {name} is {dim}")
