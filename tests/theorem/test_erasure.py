"""LEACE: nothing linear is left, nothing smaller does it, and streaming changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from readwrite_edit.errors import ShapeError
from readwrite_edit.geometry.erasure import Erasure, ErasureFitter

DIM = 12


def labelled(count: int = 400, classes: int = 2, *, seed: int = 0, dim: int = DIM) -> tuple[torch.Tensor, torch.Tensor]:
    """Correlated vectors far from the origin, whose mean depends on the label; the first class is the largest."""
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(count, generator=generator) * (classes + 0.6) - 0.6).clamp_min(0).long()
    mixing = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    means = 1.5 * torch.randn(classes, dim, generator=generator, dtype=torch.float64)
    noise = torch.randn(count, dim, generator=generator, dtype=torch.float64)
    return (noise + means[labels]) @ mixing.T + 5, labels


def fitted(x: torch.Tensor, labels: torch.Tensor, *, shrinkage: float = 0.0, batch: int | None = None) -> Erasure:
    fitter = ErasureFitter(x.shape[1], int(labels.max()) + 1)
    for rows in torch.arange(len(x)).split(batch or len(x)):
        fitter.update(x[rows], labels[rows])
    return fitter.erasure(shrinkage=shrinkage)


def slow_leace(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """r(x) by the paper's own formula, with square roots and pseudo-inverses of dense matrices."""
    z = np.eye(labels.max() + 1)[labels]
    mean, z_mean = x.mean(0), z.mean(0)
    sigma = (x - mean).T @ (x - mean) / len(x)
    cross = (x - mean).T @ (z - z_mean) / len(x)
    values, vectors = np.linalg.eigh(sigma)
    kept = values > 1e-9 * values.max()
    root = vectors[:, kept] * np.sqrt(values[kept]) @ vectors[:, kept].T
    W = vectors[:, kept] / np.sqrt(values[kept]) @ vectors[:, kept].T
    white = W @ cross
    P = white @ np.linalg.pinv(white, rcond=1e-9)
    return x - (x - mean) @ (root @ P @ W).T


def logistic(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Training accuracy and loss of an unregularised logistic regression."""
    design = np.c_[(x - x.mean(0)) / x.std(0).max(), np.ones(len(x))]

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        score = design @ w
        return np.logaddexp(0, score).mean() - (score * y).mean(), design.T @ (1 / (1 + np.exp(-score)) - y) / len(y)

    best = minimize(loss, np.zeros(design.shape[1]), jac=True, method="L-BFGS-B", options={"gtol": 1e-10})
    return float(((design @ best.x > 0) == y).mean()), float(best.fun)


def least_squares_accuracy(x: torch.Tensor, y: torch.Tensor) -> float:
    design = torch.cat([x - x.mean(0), torch.ones(len(x), 1, dtype=x.dtype)], dim=1)
    weights = torch.linalg.pinv(design, rtol=1e-9) @ (2 * y.double() - 1)
    return float(((design @ weights > 0) == y.bool()).double().mean())


def cross_covariance(x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    z = torch.nn.functional.one_hot(labels).double()
    return (x - x.mean(0)).T @ (z - z.mean(0)) / len(x)


@pytest.mark.parametrize("shrinkage", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("classes", [2, 4])
def test_nothing_of_the_labels_correlates_with_what_is_left(classes: int, shrinkage: float) -> None:
    x, labels = labelled(classes=classes)
    erasure = fitted(x, labels, shrinkage=shrinkage)
    assert erasure.rank == classes - 1
    assert cross_covariance(x, labels).abs().max() > 0.3
    assert cross_covariance(erasure(x), labels).abs().max() < 1e-10
    assert torch.allclose(erasure(erasure(x)), erasure(x), atol=1e-9)
    assert torch.allclose(erasure(x).mean(0), x.mean(0), atol=1e-9)


def test_no_classifier_beats_a_constant_after_it_though_one_learned_before() -> None:
    x, labels = labelled()
    left = fitted(x, labels)(x)
    share = float(labels.double().mean())
    majority, entropy = max(share, 1 - share), -share * np.log(share) - (1 - share) * np.log(1 - share)
    assert majority > 0.6
    assert least_squares_accuracy(x, labels) > 0.95
    assert least_squares_accuracy(left, labels) == pytest.approx(majority)
    learned, cost = logistic(x.numpy(), labels.numpy())
    assert learned > 0.95
    assert cost < 0.2 * entropy
    nothing, cost = logistic(left.numpy(), labels.numpy())
    assert nothing == pytest.approx(majority)
    assert cost == pytest.approx(entropy, abs=1e-6)


def test_vectors_that_fitted_nothing_lose_the_concept_too() -> None:
    x, labels = labelled(6000)
    erasure = fitted(x[:4000], labels[:4000])
    held = cross_covariance(erasure(x[4000:]), labels[4000:]).norm()
    assert held < 0.1 * cross_covariance(x[4000:], labels[4000:]).norm()


@pytest.mark.parametrize("classes", [2, 3])
def test_no_other_erasing_map_moves_the_vectors_less(classes: int) -> None:
    """P′ erases when (P′) D = 0; all of these are Q (I − D Dᵀ) for some Q."""
    x, labels = labelled(classes=classes)
    erasure = fitted(x, labels)
    moved = (erasure(x) - x).square().sum(1).mean()
    columns = torch.linalg.svd(cross_covariance(x, labels))[0][:, : classes - 1]
    beside = torch.eye(DIM, dtype=x.dtype) - columns @ columns.T
    keeping = torch.eye(DIM, dtype=x.dtype) - erasure.left @ erasure.right
    generator = torch.Generator().manual_seed(3)
    for scale in (0.0, 1e-3, 0.03, 1.0):
        nudge = scale * torch.randn(DIM, DIM, generator=generator, dtype=x.dtype)
        for other in (keeping + nudge @ beside, beside + nudge @ beside):
            left = (x - x.mean(0)) @ other.T + x.mean(0)
            assert cross_covariance(left, labels).abs().max() < 1e-9
            assert (left - x).square().sum(1).mean() >= moved * (1 - 1e-12)
    orthogonal = ((x - x.mean(0)) @ columns).square().sum(1).mean()
    assert orthogonal > 1.01 * moved  # taking out the difference of means at a right angle moves more


@pytest.mark.parametrize(("count", "classes"), [(400, 2), (400, 4), (9, 2)])
def test_it_is_what_the_papers_formula_gives(count: int, classes: int) -> None:
    """Nine vectors in twelve dimensions: Σ is singular and its pseudo-inverse is taken."""
    x, labels = labelled(count, classes, seed=1)
    expected = slow_leace(x.numpy(), labels.numpy())
    assert np.allclose(fitted(x, labels)(x).numpy(), expected, atol=1e-8)


def test_a_shrunk_covariance_is_the_one_that_the_change_is_smallest_in() -> None:
    """Two classes, written out: r(x) = x − δ δᵀ Σ̃⁻¹ (x − μ) / (δᵀ Σ̃⁻¹ δ) with Σ̃ = 0.7 Σ + 0.3 tr(Σ)/d I."""
    x, labels = (part.numpy() for part in labelled())
    centred, gap = x - x.mean(0), x[labels == 1].mean(0) - x[labels == 0].mean(0)
    sigma = centred.T @ centred / len(x)
    solved = np.linalg.solve(0.7 * sigma + 0.3 * np.trace(sigma) / DIM * np.eye(DIM), gap)
    expected = x - np.outer(centred @ solved, gap) / (gap @ solved)
    found = fitted(torch.tensor(x), torch.tensor(labels), shrinkage=0.3)(torch.tensor(x))
    assert np.allclose(found.numpy(), expected, atol=1e-9)


def test_streaming_in_batches_is_the_whole_at_once_even_far_from_the_origin() -> None:
    x, labels = labelled(classes=3)
    x = x + 1e6
    whole, streamed = fitted(x, labels), fitted(x, labels, batch=7)
    assert torch.allclose(streamed.mean, x.mean(0), rtol=1e-14)
    assert torch.allclose(streamed(x), whole(x), rtol=0, atol=1e-6)
    reference = slow_leace((x - 1e6).numpy(), labels.numpy())
    assert np.allclose((streamed(x) - 1e6).numpy(), reference, atol=1e-6)


def test_labels_that_show_nowhere_leave_the_vectors_alone() -> None:
    x = torch.randn(20, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    both = torch.cat([x, x])
    erasure = fitted(both, torch.arange(40) // 20)
    assert erasure.rank == 0
    assert torch.equal(erasure(both), both)


def test_what_can_not_be_fitted_is_refused() -> None:
    x, labels = labelled()
    with pytest.raises(ShapeError, match="vectors of each class: 400, 0; expected some of every class"):
        fitter = ErasureFitter(DIM, 2)
        fitter.update(x, torch.zeros_like(labels))
        fitter.erasure()
    with pytest.raises(ShapeError, match=r"expected \(n, 12\)"):
        ErasureFitter(DIM).update(x[:, :5], labels)
    with pytest.raises(ShapeError, match="shrinkage is 2"):
        fitted(x, labels, shrinkage=2)
