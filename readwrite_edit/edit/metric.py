"""The metric of an edit: C of what a matrix reads, made fit to be inverted.

Every closed form here minimises or weighs by tr(ΔW C ΔWᵀ). C comes from the
statistics of a text, never from an identity put in its place; where it is
singular or poorly known it is shrunk, and how far is kept for the report.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from readwrite_edit.errors import EditError
from readwrite_edit.geometry import LowRank

_WORST_CONDITION = 1e12


@dataclass(frozen=True, eq=False)
class Metric:
    """C of one input, positive definite.

    Attributes:
        second_moment: C as used, shape (d, d), float64.
        shrinkage: ρ in (1 − ρ) C + ρ tr(C)/d I; 0 where C is used as it is.
        condition: Largest over smallest eigenvalue of C as used.
        raw_condition: The same before shrinkage; infinite for a singular C.
        tokens: Number of inputs that C is the mean of.
    """

    second_moment: Tensor
    shrinkage: float
    condition: float
    raw_condition: float
    tokens: int

    @cached_property
    def cholesky(self) -> Tensor:
        """Lower triangle L with C = L Lᵀ, (d, d); computed once, however many edits use it."""
        return torch.linalg.cholesky(self.second_moment)

    def solve(self, keys: Tensor) -> Tensor:
        """C⁻¹ K for columns K, shape (d, m), float64."""
        return torch.cholesky_solve(keys.to(self.cholesky), self.cholesky)

    def energy(self, update: LowRank) -> float:
        """tr(ΔW C ΔWᵀ): the mean squared length of what an update adds to the output."""
        A, B = update.A.to(self.second_moment), update.B.to(self.second_moment)
        return float(((B.T @ B) * (A @ self.second_moment @ A.T)).sum())


def metric_of(second_moment: Tensor, tokens: int, shrinkage: float | Literal["auto"] = "auto", *, name: str) -> Metric:
    """Make a second moment fit to be inverted.

    Args:
        second_moment: C, shape (d, d).
        tokens: Number of inputs that it is the mean of.
        shrinkage: ρ, or ``auto`` for the oracle approximating estimate.
        name: What C is of, for messages.

    Returns:
        The metric.

    Raises:
        EditError: C is not finite, is zero, or is singular and may not be shrunk.
    """
    C = second_moment.double()
    if not bool(torch.isfinite(C).all()):
        raise EditError(f"C of {name} is not finite: collect its statistics again")
    values = torch.linalg.eigvalsh(C).flip(0)  # largest first; the eigenvectors would take three times as long
    if not float(values[0]) > 0:
        raise EditError(f"C of {name} is zero: this matrix reads nothing on the statistics' text; give another text")
    raw = _condition(values)
    rho = estimated_shrinkage(values, tokens) if shrinkage == "auto" else shrinkage
    mean = float(values.mean())
    condition = _condition((1 - rho) * values.clamp_min(0) + rho * mean)
    if not condition <= _WORST_CONDITION:
        raise EditError(
            f"C of {name} is singular ({tokens} tokens for {len(C)} dimensions, condition {raw:.1e}): give the "
            "statistics more text, or let them be shrunk (statistics.shrinkage: auto)"
        )
    eye = torch.eye(len(C), dtype=C.dtype, device=C.device)
    return Metric((1 - rho) * C + rho * mean * eye, rho, condition, raw, tokens)


def estimated_shrinkage(values: Tensor, tokens: int) -> float:
    """The oracle approximating shrinkage ρ for n Gaussian inputs with the eigenvalues of C.

    Computes ρ = ((1 − 2/d) tr(C²) + tr(C)²) / ((n + 1 − 2/d) (tr(C²) − tr(C)²/d)), at most 1.

    Args:
        values: Eigenvalues of C, shape (d,), or C itself, shape (d, d), which needs no decomposition.
        tokens: n; tokens of one text are not independent, so this is the least that is due.

    Source: Chen, Wiesel, Eldar and Hero, arXiv 0907.4698, eq. 23.
    """
    d = len(values)
    square, trace = float(values.square().sum()), float(values.trace() if values.ndim == 2 else values.sum())
    spread = (tokens + 1 - 2 / d) * (square - trace**2 / d)
    return 1.0 if spread <= 0 else min(1.0, ((1 - 2 / d) * square + trace**2) / spread)


def _condition(values: Tensor) -> float:
    smallest = float(values[-1])
    return float(values[0]) / smallest if smallest > 0 else float("inf")
