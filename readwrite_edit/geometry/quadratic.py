"""The energy null where the basis is not the covariance's own."""

from __future__ import annotations

import math

import torch
from scipy import stats
from torch import Tensor

from readwrite_edit.errors import ShapeError
from readwrite_edit.geometry.saddlepoint import signed_root


def quadratic_p_value(moment: Tensor, basis: Tensor, n: int, fraction: float) -> float:
    """Probability that an update with white other side has at least a fraction of its energy in a subspace.

    Each of the n columns (write side) or rows (read side) of ΔW is N(0, D). The
    fraction in span(V) exceeds f where Σ c_i X_i > 0, c the eigenvalues of
    D^½ (V Vᵀ − f I) D^½ and X_i independent χ² of n degrees of freedom.

    Args:
        moment: D, shape (d, d), positive semi-definite up to rounding.
        basis: Orthonormal columns V, shape (d, k).
        n: Number of columns or rows.
        fraction: f; NaN gives NaN.

    Returns:
        The upper tail, by ``saddlepoint.signed_root``.

    Raises:
        ShapeError: V and D have different dimensions.
    """
    if basis.shape[0] != moment.shape[0]:
        raise ShapeError(f"a basis of shape {tuple(basis.shape)} does not fit D of shape {tuple(moment.shape)}")
    if math.isnan(fraction):
        return math.nan
    values, vectors = torch.linalg.eigh(moment.double())
    root = vectors * values.clamp_min(0).sqrt()
    seen = basis.double().T @ root
    weights = torch.linalg.eigvalsh(seen.T @ seen - fraction * (root.T @ root))
    return float(stats.norm.sf(signed_root(weights.numpy(), n)))
