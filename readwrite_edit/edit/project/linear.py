"""Whether a linear classifier finds a concept in vectors that chose neither it nor the eraser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from readwrite_edit.geometry.erasure import Erasure, ErasureFitter

LEAST_PROMPTS = 4  # of each set: one half fits the eraser, each quarter trains a classifier for the other


@dataclass(frozen=True)
class Held:
    """The concept on held-out prompts, before and after an eraser that was fitted on the other half.

    Attributes:
        accuracy_before: Share of held-out vectors whose label a linear classifier names; 0.5 is chance.
        accuracy_after: The same after the eraser; the classifier is trained again.
        separation_before: Distance of the class means, in units of the spread within classes.
        separation_after: The same after the eraser.
    """

    accuracy_before: float | None = None
    accuracy_after: float | None = None
    separation_before: float | None = None
    separation_after: float | None = None


Shrinkage = Callable[[Tensor, int], float]


def fit(rows: Tensor, positive: Tensor, shrinkage: Shrinkage) -> Erasure:
    """LEACE of two classes.

    Args:
        rows: Vectors, shape (n, d).
        positive: Which are of the one class, shape (n,), bool.
        shrinkage: ρ from a covariance and the number of vectors.
    """
    fitter = ErasureFitter(rows.shape[1])
    fitter.update(rows, positive.long())
    return fitter.erasure(shrinkage=shrinkage(fitter.covariance, fitter.count))


def held_out(rows: Tensor, positive: Tensor, owners: Tensor, shrinkage: Shrinkage) -> Held:
    """Fit an eraser on half of the prompts, and look for the concept in the other half.

    There a classifier is trained on one half and tested on the other, both ways
    round. It is least squares for two classes, w = Σ̃⁻¹ (μ₁ − μ₀) with the
    threshold between the means, Σ̃ shrunk as the eraser's. Prompts, not tokens,
    are dealt out, so that no prompt is on both sides.

    Args:
        rows: Vectors, shape (n, d).
        positive: Label of each, shape (n,), bool.
        owners: Prompt of each, shape (n,); all of a prompt's vectors have one label.
        shrinkage: ρ from a covariance and the number of vectors.

    Returns:
        What was found; nothing with fewer than four prompts in a class.
    """
    dealt = torch.full((len(rows),), -1)
    for label in (True, False):
        prompts = owners[positive == label].unique()
        if len(prompts) < LEAST_PROMPTS:
            return Held()
        for number, prompt in enumerate(prompts):
            dealt[owners == prompt] = number % 4
    fitted = dealt < 2
    eraser = fit(rows[fitted], positive[fitted], shrinkage)
    found: list[float] = []
    for vectors in (rows, eraser(rows)):
        folds = [(vectors[dealt == part], positive[dealt == part]) for part in (2, 3)]
        accuracy = [_accuracy(*folds[0], *folds[1], shrinkage), _accuracy(*folds[1], *folds[0], shrinkage)]
        found += [sum(accuracy) / 2, _separation(vectors[~fitted], positive[~fitted])]
    return Held(found[0], found[2], found[1], found[3])


def _accuracy(rows: Tensor, labels: Tensor, tested: Tensor, wanted: Tensor, shrinkage: Shrinkage) -> float:
    """Balanced accuracy on the tested vectors of a classifier that was trained on others."""
    high, low = rows[labels].mean(dim=0), rows[~labels].mean(dim=0)
    centred = rows - rows.mean(dim=0)
    covariance = centred.T @ centred / len(rows)
    if not float(covariance.trace()) > 0:
        return 0.5  # all vectors are the same
    rho, mean = shrinkage(covariance, len(rows)), covariance.trace() / len(covariance)
    shrunk = (1 - rho) * covariance + rho * mean * torch.eye(len(covariance), dtype=rows.dtype)
    weights = torch.linalg.pinv(shrunk, hermitian=True) @ (high - low) if rho == 0 else _solved(shrunk, high - low)
    scores = tested @ weights - (high + low) @ weights / 2
    # a score of exactly 0 says nothing: half of it counts
    right = torch.where(wanted, scores, -scores).sign() / 2 + 0.5
    return float(right[wanted].mean() + right[~wanted].mean()) / 2


def _solved(matrix: Tensor, vector: Tensor) -> Tensor:
    return torch.cholesky_solve(vector.unsqueeze(1), torch.linalg.cholesky(matrix)).squeeze(1)


def _separation(rows: Tensor, labels: Tensor) -> float:
    """‖μ₁ − μ₀‖ over the root mean squared distance of vectors from their own class' mean."""
    high, low = rows[labels], rows[~labels]
    within = (high - high.mean(dim=0)).square().sum() + (low - low.mean(dim=0)).square().sum()
    return float((high.mean(dim=0) - low.mean(dim=0)).norm() / (within / len(rows)).sqrt().clamp_min(1e-300))
