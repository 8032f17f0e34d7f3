"""What a fraction would be by chance, so that no fraction stands alone."""

from __future__ import annotations

from dataclasses import dataclass

from scipy import stats
from torch import Tensor

from readwrite_edit.errors import ShapeError


@dataclass(frozen=True)
class IsotropicNull:
    """Distribution of a fraction for an update with no preferred direction.

    For a Gaussian ΔW with ``n`` vectors on the other side the fraction in a
    k-dimensional subspace of d dimensions is Beta(nk/2, n(d−k)/2).

    Attributes:
        k: Dimension of the subspace.
        d: Dimension of the space.
        n: Number of rows (read side) or columns (write side) of ΔW.
    """

    k: int
    d: int
    n: int

    @property
    def mean(self) -> float:
        """Expected fraction k/d."""
        return self.k / self.d

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Central interval that holds the fraction with probability ``level``."""
        if self.k == self.d:
            return 1.0, 1.0
        low, high = self._beta().interval(level)
        return float(low), float(high)

    def p_value(self, fraction: float) -> float:
        """Probability of a fraction at least as large."""
        if self.k == self.d:
            return 1.0
        return float(self._beta().sf(fraction))

    def _beta(self) -> stats.rv_continuous:
        return stats.beta(self.n * self.k / 2, self.n * (self.d - self.k) / 2)


def isotropic_null(shape: tuple[int, int], k: int, *, side: str) -> IsotropicNull:
    """The isotropic null of an update of a given shape.

    Args:
        shape: (d_out, d_in) of ΔW.
        k: Dimension of the subspace.
        side: ``"read"`` (subspace of the input) or ``"write"`` (of the output).

    Returns:
        The null distribution.

    Raises:
        ShapeError: There is no such side.
    """
    if side not in ("read", "write"):
        raise ShapeError(f"side is '{side}', expected 'read' or 'write'")
    d_out, d_in = shape
    return IsotropicNull(k, d_in, d_out) if side == "read" else IsotropicNull(k, d_out, d_in)


def energy_null(second_moment: Tensor, basis: Tensor) -> float:
    """Fraction that an update gets when it owes nothing to the objective.

    tr(UᵀCU)/tr(C): what a sum of δ aᵀ shows when δ is independent of a. A read
    fraction above k/d but not above this needs no alignment signal.

    Args:
        second_moment: C of the input, shape (d, d).
        basis: Orthonormal columns U, shape (d, k).

    Returns:
        Share in [0, 1].

    Raises:
        ShapeError: The basis has another dimension than C.
    """
    if basis.shape[0] != second_moment.shape[0]:
        raise ShapeError(f"a basis of shape {tuple(basis.shape)} does not fit C of shape {tuple(second_moment.shape)}")
    wide = basis.to(second_moment.dtype)
    return float((wide * (second_moment @ wide)).sum() / second_moment.trace())
