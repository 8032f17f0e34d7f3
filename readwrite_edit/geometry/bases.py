"""Orthonormal bases of read subspaces, one function an arm.

All take what they need as plain tensors and return float64 columns in the order
of their claim (strongest first), so that the first k columns of a basis of rank
r > k are the basis of rank k. That holds for every arm: it is what lets a
comparison over ranks share one computation. (``whitened`` makes no basis: it
scales one.)
"""

from __future__ import annotations

import torch
from torch import Tensor

from readwrite_edit.errors import ShapeError

_LEAST_ENERGY = 1e-6


def eigh_descending(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of a symmetric matrix, largest first.

    The sign of each vector is fixed (its largest entry in magnitude is
    positive): LAPACK leaves it open, and a saved basis must be reproducible.

    Args:
        matrix: Symmetric, shape (d, d).

    Returns:
        Eigenvalues (d,) and eigenvectors (d, d) as columns, float64.

    Raises:
        ShapeError: The matrix is not square.
    """
    _check_square(matrix)
    values, vectors = torch.linalg.eigh(matrix.double())
    return values.flip(0), _fix_signs(vectors.flip(1))


def principal_basis(second_moment: Tensor, rank: int) -> Tensor:
    """Top eigenvectors of the second moment C of an input.

    Args:
        second_moment: C = E[x xᵀ], shape (d_in, d_in).
        rank: Number of columns k, 1 ≤ k ≤ d_in.

    Returns:
        Orthonormal columns U_k, shape (d_in, k), float64.

    Raises:
        ShapeError: C is not square or k is out of range.

    Source: arXiv 2605.16600; centring and normalisation are this project's.
    """
    _check_rank(rank, second_moment.shape[0])
    return eigh_descending(second_moment)[1][:, :rank]


def minor_basis(second_moment: Tensor, rank: int) -> Tensor:
    """Bottom eigenvectors of C, weakest first: the control that reads what is hardly ever there.

    Args:
        second_moment: C, shape (d_in, d_in).
        rank: Number of columns.

    Returns:
        Orthonormal columns, shape (d_in, rank), float64.
    """
    _check_rank(rank, second_moment.shape[0])
    return eigh_descending(second_moment)[1].flip(1)[:, :rank]


def random_basis(d_in: int, rank: int, *, seed: int) -> Tensor:
    """Uniformly random subspace (Haar), seeded.

    Args:
        d_in: Dimension of the input.
        rank: Number of columns.
        seed: Of a CPU generator, so that every device gets the same basis.

    Returns:
        Orthonormal columns, shape (d_in, rank), float64.
    """
    _check_rank(rank, d_in)
    generator = torch.Generator().manual_seed(seed)
    # one draw a column: a single draw of another width would give other numbers
    columns = [torch.randn(d_in, generator=generator, dtype=torch.float64) for _ in range(rank)]
    return _orthonormal(torch.stack(columns, dim=1))


def singular_basis(matrix: Tensor, rank: int) -> Tensor:
    """Top right singular vectors, of a weight (arm ``weight``) or of a gradient (arm ``gradient``).

    Computed from the d_in × d_in Gram matrix, which costs less than an SVD and
    keeps the full relative accuracy of the leading directions in float64.

    Args:
        matrix: W or its gradient, shape (d_out, d_in).
        rank: Number of columns.

    Returns:
        Orthonormal columns, shape (d_in, rank), float64.
    """
    wide = matrix.double()
    return principal_basis(wide.T @ wide, rank)


def contrastive_basis(second_moment: Tensor, protected: Tensor, rank: int, *, epsilon: float) -> Tensor:
    """Directions that one text excites and a protected text does not.

    Top generalised eigenvectors of (C, C_protect + ε·tr(C_protect)/d·I),
    orthonormalised in their order.

    Args:
        second_moment: C of the alignment text, shape (d_in, d_in).
        protected: C_protect of the text to stay the same on, same shape.
        rank: Number of columns.
        epsilon: Floor of the protected energy, as a share of its mean eigenvalue; > 0.

    Returns:
        Orthonormal columns, shape (d_in, rank), float64.

    Raises:
        ShapeError: The two matrices differ in shape, or rank or ε is out of range.
    """
    _check_rank(rank, second_moment.shape[0])
    _check_pair(second_moment, protected)
    if not epsilon > 0:
        raise ShapeError(f"epsilon is {epsilon}, expected a number above 0: it keeps C_protect invertible")
    protected = protected.double()
    dim = protected.shape[0]
    floor = epsilon * protected.trace() / dim
    cholesky = torch.linalg.cholesky(protected + floor * torch.eye(dim, dtype=protected.dtype, device=protected.device))
    half = torch.linalg.solve_triangular(cholesky, second_moment.double(), upper=False)
    whitened = torch.linalg.solve_triangular(cholesky, half.T, upper=False)
    directions = eigh_descending((whitened + whitened.T) / 2)[1][:, :rank]
    return _orthonormal(torch.linalg.solve_triangular(cholesky.T, directions, upper=True))


def difference_basis(second_moment: Tensor, protected: Tensor, rank: int, *, beta: float) -> Tensor:
    """The milder contrast: top eigenvectors of C/tr(C) − β·C_protect/tr(C_protect).

    Args:
        second_moment: C of the alignment text, shape (d_in, d_in).
        protected: C_protect, same shape.
        rank: Number of columns.
        beta: Weight of the protected text.

    Returns:
        Orthonormal columns, shape (d_in, rank), float64.
    """
    _check_rank(rank, second_moment.shape[0])
    _check_pair(second_moment, protected)
    first, second = second_moment.double(), protected.double()
    return eigh_descending(first / first.trace() - beta * second / second.trace())[1][:, :rank]


def whitened(basis: Tensor, second_moment: Tensor) -> Tensor:
    """The same span, scaled so that the input has equal energy along every column.

    U S with S = √(tr(M)/k) · M^(−1/2) and M = Uᵀ C U. The factor keeps the columns' mean energy, so that a learning
    rate stays comparable. Energies below a millionth of the mean count as that.

    Args:
        basis: Orthonormal columns U, shape (d_in, k).
        second_moment: C of the input, shape (d_in, d_in).

    Returns:
        Columns, not orthonormal, shape (d_in, k), float64.

    Raises:
        ShapeError: C is not square, or the input has no energy in the span.
    """
    _check_square(second_moment)
    columns = basis.double()
    values, vectors = eigh_descending(columns.T @ second_moment.double() @ columns)
    mean = values.mean()
    if not mean > 0:
        raise ShapeError("the input has no energy along these directions: there is nothing to scale to equal energy")
    scale = (mean / values.clamp_min(_LEAST_ENERGY * mean)).sqrt()
    return columns @ (vectors * scale) @ vectors.T


def rank_for_energy(second_moment: Tensor, energy: float) -> int:
    """Smallest k whose principal directions hold a share of tr(C).

    Args:
        second_moment: C, shape (d_in, d_in).
        energy: Share in (0, 1].

    Returns:
        k, between 1 and d_in.
    """
    values = eigh_descending(second_moment)[0].clamp_min(0)
    share = values.cumsum(0) / values.sum()
    return min(int((share < energy).sum()) + 1, len(values))


def _orthonormal(columns: Tensor) -> Tensor:
    """Gram-Schmidt by QR: keeps the order and the span of every leading block."""
    return _fix_signs(torch.linalg.qr(columns)[0])


def _fix_signs(vectors: Tensor) -> Tensor:
    largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
    return vectors * torch.where(largest < 0, -1.0, 1.0).to(vectors.dtype)


def _check_square(matrix: Tensor) -> None:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ShapeError(f"expected a square matrix, got shape {tuple(matrix.shape)}")


def _check_pair(first: Tensor, second: Tensor) -> None:
    _check_square(first)
    if first.shape != second.shape:
        raise ShapeError(f"second moments of shapes {tuple(first.shape)} and {tuple(second.shape)} do not fit together")


def _check_rank(rank: int, dim: int) -> None:
    if not 1 <= rank <= dim:
        raise ShapeError(f"rank {rank} is out of range: a basis in {dim} dimensions has 1 to {dim} columns")
