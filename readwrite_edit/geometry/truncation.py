"""The part of an update that lies in a subspace, and the best approximation of it by one of lower rank.

Everything is exact to float64's rounding of the largest singular value. A
randomised decomposition would be quicker for large matrices and is off by
several per cent where the spectrum is flat, as that of a fine-tune is.
"""

from __future__ import annotations

from dataclasses import dataclass

import scipy.linalg
import torch
from torch import Tensor

from readwrite_edit.errors import ShapeError
from readwrite_edit.geometry.fractions import LowRank, Update, check_side
from readwrite_edit.geometry.spectra import gram_of_columns

_BLOCK = 1024
_ZERO = 1e-7  # of the largest singular value: below it is what float32 factors can not hold
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Truncated:
    """The leading part of a singular value decomposition M = U S Vᵀ.

    Attributes:
        update: As factors B = U S, (d_out, r), and A = Vᵀ, (r, d_in), whose rows are orthonormal; strongest first,
            so that the first columns and rows are the best approximation of a lower rank.
        singular_values: Of these, (r,), float64, all above zero.
        squared_norm: ‖M‖²_F of the whole of M.
    """

    update: LowRank
    singular_values: Tensor
    squared_norm: float

    @property
    def rank(self) -> int:
        """How many singular values are kept."""
        return len(self.singular_values)

    @property
    def retained(self) -> float:
        """‖M_r‖²_F, at most ``squared_norm``."""
        return float(self.singular_values.square().sum())

    def cut(self, rank: int) -> Truncated:
        """The best approximation of a rank no higher."""
        update = LowRank(self.update.B[:, :rank], self.update.A[:rank])
        return Truncated(update, self.singular_values[:rank], self.squared_norm)

    def holding(self, share: float) -> Truncated:
        """The lowest rank that keeps a share of ‖M‖²_F; all that is there where nothing reaches it."""
        held = self.singular_values.square().cumsum(0)
        return self.cut(int((held < share * self.squared_norm * (1 - _ROUNDING)).sum()) + 1)


def read_part(delta_w: Update, basis: Tensor) -> LowRank:
    """ΔW U Uᵀ: what of an update acts on a read subspace; nothing nearer to ΔW reads only there.

    Args:
        delta_w: Update ΔW, shape (d_out, d_in), or its factors.
        basis: Orthonormal columns U, shape (d_in, k), float64.

    Returns:
        Factors of rank k, or of the update's own where that was given as factors.

    Raises:
        ShapeError: d_in differs between the two.
    """
    check_side("d_in", delta_w.shape[1], basis)
    if isinstance(delta_w, LowRank):
        return LowRank(delta_w.B, (delta_w.A @ basis) @ basis.T)
    return LowRank(_times(delta_w, basis), basis.T)


def write_part(delta_w: Update, basis: Tensor) -> LowRank:
    """V Vᵀ ΔW: what of an update lands in a write subspace.

    Args:
        delta_w: Update ΔW, shape (d_out, d_in), or its factors.
        basis: Orthonormal columns V, shape (d_out, k), float64.

    Returns:
        Factors of rank k, or of the update's own where that was given as factors.

    Raises:
        ShapeError: d_out differs between the two.
    """
    check_side("d_out", delta_w.shape[0], basis)
    if isinstance(delta_w, LowRank):
        return LowRank(basis @ (basis.T @ delta_w.B), delta_w.A)
    return LowRank(basis, _from_left(basis, delta_w))


def truncated_svd(matrix: Tensor, rank: int) -> Truncated:
    """The best approximation of a dense matrix by one of rank r (Eckart-Young).

    The leading eigenvectors of the Gram matrix of the shorter side in float64
    span the subspace, of which one product with M, a QR and the SVD of what is
    left give the singular values themselves: squaring loses only directions
    below 1e-8 of the largest. The matrix is never copied whole in float64.

    Args:
        matrix: M, shape (m, n), any floating dtype.
        rank: r, 1 ≤ r; more than min(m, n) gives all.

    Returns:
        At most r singular values: zeros are left out.

    Raises:
        ShapeError: The rank is below 1.
    """
    if rank < 1:
        raise ShapeError(f"rank {rank}: expected at least 1")
    wide = matrix.shape[0] < matrix.shape[1]
    tall = matrix.T if wide else matrix
    right = _leading_eigenvectors(gram_of_columns(tall), min(rank, tall.shape[1]))
    left = torch.linalg.qr(_times(tall, right))[0]  # (long, r)
    core = _from_left(left, tall)  # (r, short)
    U, S, Vh = torch.linalg.svd(core, full_matrices=False)
    B, A = (Vh.T, (left @ U).T) if wide else (left @ U, Vh)
    return _without_zeros(B, S, A, squared_norm(matrix))


def recompressed(update: LowRank, rank: int | None = None) -> Truncated:
    """The same for an update in factors, through a QR of each: nothing of size (d_out, d_in) is formed.

    With B = Q R and Aᵀ = P T the singular values of B A are those of R Tᵀ.

    Args:
        update: B A, any floating dtype.
        rank: Highest rank of the result; None keeps what there is.

    Returns:
        The same update, or the best approximation of it, with orthonormal rows of A.
    """
    left, R = torch.linalg.qr(update.B.double())
    right, T = torch.linalg.qr(update.A.double().T)
    U, S, Vh = torch.linalg.svd(R @ T.T, full_matrices=False)
    whole = _without_zeros(left @ U, S, Vh @ right.T, float(S.square().sum()))
    return whole if rank is None else whole.cut(rank)


def squared_norm(matrix: Tensor) -> float:
    """‖M‖²_F, summed in float64, block of rows by block of rows."""
    return sum(float(rows.double().square().sum()) for rows in matrix.split(_BLOCK))


def _without_zeros(left: Tensor, singular_values: Tensor, right: Tensor, norm: float) -> Truncated:
    """Factors without the directions of singular values that are zero up to rounding."""
    count = int((singular_values > _ZERO * singular_values.max()).sum()) if len(singular_values) else 0
    S = singular_values[:count]
    return Truncated(LowRank(left[:, :count] * S, right[:count]), S, norm)


def _leading_eigenvectors(gram: Tensor, count: int) -> Tensor:
    """Eigenvectors of the largest eigenvalues as columns, (d, count); less than half the time of all of them."""
    last = len(gram) - 1
    # the transpose of a symmetric matrix in rows is itself in columns, as LAPACK wants it: no copy
    _, vectors = scipy.linalg.eigh(
        gram.cpu().numpy().T, subset_by_index=[last - count + 1, last], overwrite_a=True, check_finite=False
    )
    return torch.from_numpy(vectors).to(gram.device)


def _times(matrix: Tensor, right: Tensor) -> Tensor:
    """M R in float64, shape (m, k)."""
    return torch.cat([rows.double() @ right for rows in matrix.split(_BLOCK)])


def _from_left(left: Tensor, matrix: Tensor) -> Tensor:
    """Lᵀ M in float64, shape (k, n)."""
    product = torch.zeros(left.shape[1], matrix.shape[1], dtype=torch.float64, device=matrix.device)
    for some, rows in zip(left.split(_BLOCK), matrix.split(_BLOCK), strict=True):
        product.addmm_(some.T, rows.double())
    return product
