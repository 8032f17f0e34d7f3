"""Linear concept erasure in closed form (LEACE): the smallest change after which no linear classifier finds a concept.

Source: Belrose et al., arXiv 2306.03819. With Σ_xx the covariance of the vectors
and Σ_xz their cross-covariance with the labels, r(x) = x − W⁺ P W (x − μ), where
W = Σ_xx^(−1/2) and P projects onto the columns of W Σ_xz.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from readwrite_edit.errors import ShapeError

_SMALLEST = 1e-10  # share of the largest singular value, or of the vectors' spread, that counts as none


@dataclass(frozen=True, eq=False)
class Erasure:
    """r(x) = x − L R (x − μ), as factors.

    Attributes:
        left: L, shape (d, rank); its columns span those of Σ_xz.
        right: R, shape (rank, d), with R L = I: L R is a projection, in general not orthogonal.
        mean: μ of the vectors that it was fitted on, shape (d,); r leaves it where it is.
        shrinkage: ρ of Σ_xx ← (1 − ρ) Σ_xx + ρ tr(Σ_xx)/d I; with 0 and many vectors this is the paper's.
        count: Number of vectors that it was fitted on.
    """

    left: Tensor
    right: Tensor
    mean: Tensor
    shrinkage: float
    count: int

    @property
    def rank(self) -> int:
        """Dimensions taken out: at most one less than there are classes, 0 where none shows linearly."""
        return self.left.shape[1]

    def __call__(self, x: Tensor) -> Tensor:
        """The vectors without the concept, shape (n, d)."""
        return x - ((x - self.mean) @ self.right.T) @ self.left.T


class ErasureFitter:
    """Collects what LEACE needs, batch after batch, in float64.

    Sums are kept about running means, so that a mean far from zero costs no digits.

    Args:
        dim: d, features of a vector.
        classes: Number of labels, from 0.
    """

    def __init__(self, dim: int, classes: int = 2) -> None:
        self.count = 0
        self.mean = torch.zeros(dim, dtype=torch.float64)
        self._scatter = torch.zeros(dim, dim, dtype=torch.float64)  # Σ (x − μ)(x − μ)ᵀ
        self._counts = torch.zeros(classes, dtype=torch.float64)
        self._means = torch.zeros(classes, dim, dtype=torch.float64)

    def update(self, x: Tensor, labels: Tensor) -> None:
        """Add vectors.

        Args:
            x: Shape (n, d).
            labels: Class of each, shape (n,), from 0.

        Raises:
            ShapeError: They do not fit together or the fitter.
        """
        if x.ndim != 2 or x.shape[1] != len(self.mean) or labels.shape != x.shape[:1]:
            raise ShapeError(
                f"vectors of shape {tuple(x.shape)} and labels of shape {tuple(labels.shape)}; expected "
                f"(n, {len(self.mean)}) and (n,)"
            )
        if not len(x):
            return
        x, own = x.double(), torch.nn.functional.one_hot(labels.long(), len(self._counts)).double()
        total, mean = self.count + len(x), x.mean(dim=0)
        shift, centred = mean - self.mean, x - mean
        self._scatter += centred.T @ centred + torch.outer(shift, shift) * (self.count * len(x) / total)
        self.mean = self.mean + shift * (len(x) / total)
        self.count = total
        self._counts = self._counts + own.sum(dim=0)
        gain = own.T @ x - own.sum(dim=0).unsqueeze(1) * self._means
        self._means = self._means + gain / self._counts.clamp_min(1).unsqueeze(1)

    @property
    def covariance(self) -> Tensor:
        """Σ_xx, shape (d, d)."""
        return self._scatter / max(1, self.count)

    @property
    def cross_covariance(self) -> Tensor:
        """Σ_xz with the labels' indicators z, shape (d, classes): column c is p_c (μ_c − μ)."""
        return ((self._means - self.mean) * (self._counts / max(1, self.count)).unsqueeze(1)).T

    def erasure(self, *, shrinkage: float = 0.0) -> Erasure:
        """The eraser of everything seen so far.

        Computes L = D and R = (Dᵀ Σ⁺ D)⁻¹ Dᵀ Σ⁺ with D an orthonormal basis of
        the columns of Σ_xz, which is W⁺ P W without a square root. Whatever ρ,
        L R Σ_xz = Σ_xz: no linear classifier is left on these vectors; ρ only
        decides in which metric the change is the smallest.

        Args:
            shrinkage: ρ in [0, 1].

        Raises:
            ShapeError: A class has no vectors, or ρ is out of range.
        """
        if not bool((self._counts > 0).all()):
            counts = ", ".join(f"{int(count)}" for count in self._counts)
            raise ShapeError(f"vectors of each class: {counts}; expected some of every class")
        if not 0 <= shrinkage <= 1:
            raise ShapeError(f"shrinkage is {shrinkage}, expected a number from 0 to 1")
        columns, values, _ = torch.linalg.svd(self.cross_covariance, full_matrices=False)
        floor = _SMALLEST * max(float(values[0]), float(self.covariance.trace().sqrt()))
        D = columns[:, values > floor]
        solved = _solve(self.covariance, D, shrinkage)
        right = torch.linalg.solve(D.T @ solved, solved.T)
        return Erasure(D, right, self.mean.clone(), shrinkage, self.count)


def _solve(covariance: Tensor, columns: Tensor, shrinkage: float) -> Tensor:
    """Σ⁻¹ D of the shrunk covariance; Σ⁺ D where it is not shrunk and may be singular."""
    if shrinkage > 0 and float(covariance.trace()) > 0:
        shrunk = (1 - shrinkage) * covariance
        shrunk.diagonal().add_(shrinkage * covariance.trace() / len(covariance))
        return torch.cholesky_solve(columns, torch.linalg.cholesky(shrunk))
    return torch.linalg.pinv(covariance, rtol=_SMALLEST, hermitian=True) @ columns
