"""How many directions a spectrum really has."""

from __future__ import annotations

from torch import Tensor


def effective_rank(eigenvalues: Tensor) -> float:
    """Exponential of the entropy of the normalised eigenvalues.

    Args:
        eigenvalues: Non-negative up to rounding, shape (d,).

    Returns:
        Between 1 (one direction) and d (flat); NaN for a zero spectrum.
    """
    share = eigenvalues.double().clamp_min(0)
    share = share / share.sum()
    return float((-(share * share.clamp_min(1e-300).log()).sum()).exp())


def participation_ratio(eigenvalues: Tensor) -> float:
    """(Σλ)² / Σλ²: between 1 and d.

    Args:
        eigenvalues: Non-negative up to rounding, shape (d,).

    Returns:
        The ratio; NaN for a zero spectrum.
    """
    values = eigenvalues.double().clamp_min(0)
    return float(values.sum().square() / values.square().sum())


def stable_rank(singular_values: Tensor) -> float:
    """‖W‖²_F / ‖W‖²₂ from singular values.

    Args:
        singular_values: Shape (r,).

    Returns:
        Between 1 and r; NaN for a zero matrix.
    """
    squared = singular_values.double().square()
    return float(squared.sum() / squared.max())
