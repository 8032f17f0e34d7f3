"""Closed forms that make a matrix answer keys with values: ΔW K = R, or nearly, at the least price.

The price of an update is tr(ΔW C ΔWᵀ), C the second moment of what the matrix
reads. Keys are columns K, shape (d_in, m), and residuals R = V − W K, shape
(d_out, m): what the matrix is to add to its output where it reads a key. C
comes in as C⁻¹K, so that one Cholesky factor serves every edit of a matrix.
Everything is computed in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from readwrite_edit.errors import ShapeError
from readwrite_edit.geometry.bases import eigh_descending, rank_for_energy
from readwrite_edit.geometry.fractions import LowRank

_WORST_CONDITION = 1e12


def key_gain(keys: Tensor, solved: Tensor) -> Tensor:
    """kᵀC⁻¹k of each key: how far it stands out of what the matrix usually reads.

    Args:
        keys: K, shape (d_in, m).
        solved: C⁻¹K, same shape.

    Returns:
        Shape (m,), float64.
    """
    _check_same(keys, solved)
    return (keys.double() * solved.double()).sum(dim=0)


def hard_update(residual: Tensor, key: Tensor, solved: Tensor) -> LowRank:
    """ΔW = r (C⁻¹k)ᵀ/(kᵀC⁻¹k): the cheapest update with ΔW k = r.

    Its price is ‖r‖²/(kᵀC⁻¹k).

    Args:
        residual: r, shape (d_out,).
        key: k, shape (d_in,).
        solved: C⁻¹k, shape (d_in,).

    Returns:
        Factors of rank 1, float64.

    Raises:
        ShapeError: The shapes do not fit, or the key is zero.

    Source: Bau et al., arXiv 2007.15646; Meng et al., arXiv 2202.05262, eq. 2.
    """
    gain = key_gain(key.unsqueeze(1), solved.unsqueeze(1))
    if not float(gain) > 0:
        raise ShapeError("the key is zero: no update can answer it")
    return LowRank(residual.double().unsqueeze(1), (solved.double() / gain).unsqueeze(0))


def ridge_update(residuals: Tensor, keys: Tensor, solved: Tensor, ridge: float) -> LowRank:
    """ΔW = R (λI + KᵀC⁻¹K)⁻¹ KᵀC⁻¹: the least ‖ΔW K − R‖² + λ tr(ΔW C ΔWᵀ).

    Equal to MEMIT's R Kᵀ (λC + K Kᵀ)⁻¹ and cheaper where there are fewer keys
    than inputs: one m × m solve. λ = 0 gives the cheapest update with ΔW K = R.

    Args:
        residuals: R, shape (d_out, m).
        keys: K, shape (d_in, m).
        solved: C⁻¹K, shape (d_in, m).
        ridge: λ ≥ 0.

    Returns:
        Factors of rank min(m, d_out, d_in), float64.

    Raises:
        ShapeError: The shapes do not fit, λ is negative, or λ is 0 and the keys are not independent.

    Source: Meng et al., arXiv 2210.07229, eq. 14.
    """
    _check_same(keys, solved)
    solved = solved.double()
    return _regressed(residuals, keys.double().T @ solved, solved.T, ridge)


def null_space_update(residuals: Tensor, keys: Tensor, basis: Tensor, ridge: float) -> LowRank:
    """ΔW = R K_nᵀ (K_n K_nᵀ + λI)⁻¹ Nᵀ with K_n = NᵀK: an update that reads nothing outside N.

    Computed as R (λI + K_nᵀK_n)⁻¹ K_nᵀ Nᵀ, the same by the push-through identity.

    Args:
        residuals: R, shape (d_out, m).
        keys: K, shape (d_in, m).
        basis: Orthonormal columns N, shape (d_in, n).
        ridge: λ ≥ 0; with 0, ΔW K = R holds exactly.

    Returns:
        Factors of rank min(m, d_out, d_in), float64.

    Raises:
        ShapeError: The shapes do not fit, λ is negative, or λ is 0 and the keys are not independent within N.

    Source: Fang et al., arXiv 2410.02355; the cut by a share of energy is this project's.
    """
    if basis.ndim != 2 or len(basis) != len(keys):
        raise ShapeError(f"a basis of shape {tuple(basis.shape)} for keys of shape {tuple(keys.shape)}")
    N = basis.double()
    K_n = N.T @ keys.double()
    return _regressed(residuals, K_n.T @ K_n, (N @ K_n).T, ridge)


def null_space_basis(second_moment: Tensor, energy: float) -> Tensor:
    """The directions N that are left when the strongest, which hold a share of tr(C), are taken out.

    Args:
        second_moment: C of what is to be preserved, shape (d, d).
        energy: Share in (0, 1).

    Returns:
        Orthonormal columns, shape (d, d − k), float64.

    Raises:
        ShapeError: C is not square, or nothing is left.
    """
    k = rank_for_energy(second_moment, energy)
    if k >= len(second_moment):
        raise ShapeError(f"{k} of {len(second_moment)} directions hold {energy:.6g} of the energy: none is left to use")
    return eigh_descending(second_moment)[1][:, k:]


def _regressed(residuals: Tensor, gram: Tensor, reads: Tensor, ridge: float) -> LowRank:
    """R (λI + G)⁻¹ A for A of shape (m, d_in), in factors of the least rank that needs no decomposition."""
    if residuals.ndim != 2 or residuals.shape[1] != len(gram):
        raise ShapeError(f"residuals of shape {tuple(residuals.shape)} for {len(gram)} keys")
    if not ridge >= 0:
        raise ShapeError(f"ridge is {ridge}, expected a number of at least 0")
    system = gram + ridge * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    B, A = residuals.double(), torch.cholesky_solve(reads, _factor(system, ridge))
    d_out, d_in = len(B), A.shape[1]
    if len(A) <= min(d_out, d_in):
        return LowRank(B, A)
    eye = torch.eye(min(d_out, d_in), dtype=B.dtype, device=B.device)
    return LowRank(eye, B @ A) if d_out <= d_in else LowRank(B @ A, eye)


def _factor(system: Tensor, ridge: float) -> Tensor:
    """Cholesky factor of λI + G; refuses keys that only rounding tells apart."""
    factor, failed = torch.linalg.cholesky_ex(system)
    diagonal = factor.diagonal()
    if bool(failed) or not float(diagonal.max() / diagonal.min()) ** 2 < _WORST_CONDITION:
        raise ShapeError(
            f"{len(system)} keys are not independent of each other (ridge {ridge:g}): leave some out, or raise ridge"
        )
    return factor


def _check_same(keys: Tensor, solved: Tensor) -> None:
    if keys.shape != solved.shape or keys.ndim != 2:
        raise ShapeError(f"keys of shape {tuple(keys.shape)} and C⁻¹K of shape {tuple(solved.shape)} do not fit")
