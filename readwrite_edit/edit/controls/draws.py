"""Other factors for a low-rank update: what controls read and write instead.

ΔW = B A. On the input side A = L V with V of orthonormal rows; V′ in place of V
keeps the Gram matrix A Aᵀ, and so the Frobenius norm of ΔW. On the output side
B = U R with U of orthonormal columns; U′ in place of U keeps Bᵀ B, and so both
the norm and, for any C, the output energy tr(ΔW C ΔWᵀ).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor


def generator_of(seed: int) -> Generator:
    """A CPU generator, so that draws do not depend on the device."""
    return torch.Generator().manual_seed(seed)


def haar_frame(count: int, dim: int, generator: Generator) -> Tensor:
    """Orthonormal rows, uniform over all frames (Haar), shape (count, dim), float64; count ≤ dim."""
    return _orthonormal(torch.randn(count, dim, generator=generator, dtype=torch.float64))


def frame_outside(taken: Tensor, count: int, generator: Generator) -> Tensor:
    """Orthonormal rows orthogonal to given ones, uniform over all such frames.

    Args:
        taken: Orthonormal rows, shape (k, dim).
        count: Number of rows, k + count ≤ dim.
        generator: Of the draw.

    Returns:
        Shape (count, dim), float64.
    """
    rows = torch.randn(count, taken.shape[1], generator=generator, dtype=torch.float64)
    for _ in range(2):  # the second time takes out what rounding left
        rows = _orthonormal(rows - (rows @ taken.T) @ taken)
    return rows


def row_factors(A: Tensor) -> tuple[Tensor, Tensor]:
    """L, (r, r), and V, (r, d_in), of orthonormal rows, with A = L V; float64. r ≤ d_in."""
    q, r = torch.linalg.qr(A.double().T)
    return r.T, q.T


def rotated_key_rows(A: Tensor, C: Tensor, solve: Callable[[Tensor], Tensor], generator: Generator) -> Tensor:
    """What the same keys would read under a covariance turned in space: A C · Q C⁻¹ Qᵀ, Q uniform (Haar).

    A closed form has A = M Kᵀ C⁻¹ for its keys K, so A C gives the keys back and
    the turned inverse gives the rows that the closed form makes of them under Q C
    Qᵀ: the same spectrum in other directions, the same keys. Only r vectors are
    turned: with Qᵀ Y = Z for Y = C Aᵀ, Q maps span(Z) to span(Y), and the rest
    of C⁻¹ Z to a uniform frame orthogonal to Y. No (d, d) rotation is drawn.

    Args:
        A: Shape (r, d_in), 2 r ≤ d_in.
        C: Shape (d_in, d_in), positive definite, float64.
        solve: C⁻¹ times columns.
        generator: Of Q.

    Returns:
        Shape (r, d_in), float64.
    """
    rank = len(A)
    keys, triangle = torch.linalg.qr(C @ A.to(C).T)
    frame = haar_frame(rank, len(C), generator).T.to(C)
    solved = solve(frame @ triangle)
    inside = frame.T @ solved
    rest = torch.linalg.qr(solved - frame @ inside)[1]
    elsewhere = frame_outside(keys.T, rank, generator).T.to(C)
    return (keys @ inside + elsewhere @ rest).T


def other_outputs(columns: Tensor, generator: Generator) -> Tensor:
    """Columns of the same Gram matrix in other directions, within the rows that are not all zero.

    Args:
        columns: B, with a constant as one more column where there is one, shape (d_out, r).
        generator: Of the draw.

    Returns:
        U′ R for B = U R, shape (d_out, r), float64; zero rows stay zero, so an edit of one head stays in that head.
    """
    wide = columns.double()
    used = (wide != 0).any(dim=1)
    R = torch.linalg.qr(wide[used])[1]
    out = torch.zeros_like(wide)
    out[used] = haar_frame(len(R), int(used.sum()), generator).T.to(wide) @ R
    return out


def _orthonormal(rows: Tensor) -> Tensor:
    q, r = torch.linalg.qr(rows.T)
    return (q * r.diagonal().sign()).T  # without the signs QR's choice of them would make the frame not uniform
