"""Fractions, nulls, spectra, prediction subspace and price against slow or simulated answers."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from readwrite_edit.errors import ShapeError
from readwrite_edit.geometry import (
    IsotropicNull,
    LowRank,
    contrastive_basis,
    cumulative_read_fraction,
    difference_basis,
    effective_rank,
    eigh_descending,
    energy_null,
    isotropic_null,
    minor_basis,
    output_energy,
    participation_ratio,
    prediction_basis,
    principal_basis,
    random_basis,
    read_fraction,
    singular_basis,
    stable_rank,
    subspace_overlap,
    unembedding_gram,
    write_fraction,
)
from readwrite_edit.geometry import prediction as prediction_module


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spiked(d: int, seed: int = 0) -> Tensor:
    """A second moment whose first direction holds most of the energy."""
    root = gaussian(d, d, seed=seed) * torch.linspace(3.0, 0.2, d, dtype=torch.float64)
    return root @ root.T / d


def test_read_and_write_fraction_of_a_known_update() -> None:
    """ΔW = 3 e₀e₀ᵀ + 4 e₁e₂ᵀ: 9/25 reads along e₀, 16/25 lands on e₁."""
    delta = torch.zeros(2, 3, dtype=torch.float64)
    delta[0, 0], delta[1, 2] = 3.0, 4.0
    assert read_fraction(delta, torch.eye(3, dtype=torch.float64)[:, :1]).item() == pytest.approx(9 / 25)
    assert write_fraction(delta, torch.eye(2, dtype=torch.float64)[:, 1:]).item() == pytest.approx(16 / 25)
    assert cumulative_read_fraction(delta, torch.eye(3, dtype=torch.float64)).tolist() == pytest.approx([0.36, 0.36, 1])


def test_orientation_is_not_decided_by_shape() -> None:
    """A square update that reads e₀ only and writes e₁ only."""
    delta = torch.zeros(4, 4, dtype=torch.float64)
    delta[1, 0] = 2.0
    first, second = torch.eye(4, dtype=torch.float64)[:, :1], torch.eye(4, dtype=torch.float64)[:, 1:2]
    assert (float(read_fraction(delta, first)), float(read_fraction(delta, second))) == (1.0, 0.0)
    assert (float(write_fraction(delta, first)), float(write_fraction(delta, second))) == (0.0, 1.0)


@pytest.mark.parametrize("update", [torch.zeros(3, 5), LowRank(torch.zeros(3, 2), torch.ones(2, 5))])
def test_a_zero_update_has_no_fraction(update: Tensor | LowRank) -> None:
    assert math.isnan(read_fraction(update, torch.eye(5)[:, :2]))
    assert math.isnan(write_fraction(update, torch.eye(3)[:, :2]))


def test_subspace_overlap_is_blind_to_the_basis_of_a_subspace() -> None:
    basis, turn = random_basis(9, 3, seed=1), random_basis(3, 3, seed=2)
    rest = torch.linalg.svd(basis)[0][:, 3:6]
    assert subspace_overlap(basis, basis @ turn) == pytest.approx(1.0)
    assert subspace_overlap(basis, rest) == pytest.approx(0.0, abs=1e-12)
    expected = [
        subspace_overlap(random_basis(30, 6, seed=2 * s), random_basis(30, 6, seed=2 * s + 1)) for s in range(60)
    ]
    assert sum(expected) / 60 == pytest.approx(6 / 30, rel=0.1)


def test_isotropic_null_describes_simulated_gaussian_updates() -> None:
    """500 Gaussian 3 × 10 updates: mean k/d, 90 % inside the interval, p-values uniform."""
    basis = random_basis(10, 4, seed=3)
    deltas = gaussian(500, 3, 10, seed=4)
    fractions = [float(read_fraction(delta, basis)) for delta in deltas]
    null = isotropic_null((3, 10), 4, side="read")
    low, high = null.interval(0.9)
    assert null == IsotropicNull(k=4, d=10, n=3)
    assert sum(fractions) / 500 == pytest.approx(null.mean, abs=0.01) and null.mean == 0.4
    assert sum(low <= fraction <= high for fraction in fractions) / 500 == pytest.approx(0.9, abs=0.04)
    assert stats.kstest([null.p_value(fraction) for fraction in fractions[:120]], "uniform").pvalue > 0.01


def test_isotropic_null_of_the_write_side_counts_columns() -> None:
    fractions = [float(write_fraction(delta, random_basis(10, 4, seed=3))) for delta in gaussian(120, 10, 3, seed=5)]
    null = isotropic_null((10, 3), 4, side="write")
    assert null == IsotropicNull(k=4, d=10, n=3)
    assert stats.kstest([null.p_value(fraction) for fraction in fractions[:120]], "uniform").pvalue > 0.01


def test_p_value_is_the_probability_of_at_least_as_much() -> None:
    null = IsotropicNull(k=2, d=8, n=5)
    assert null.p_value(0.0) == 1.0 and null.p_value(1.0) == 0.0
    assert null.p_value(0.6) < 1e-3 < null.p_value(0.3) < 0.5 < null.p_value(0.2)


def test_isotropic_null_of_the_whole_space_is_certain() -> None:
    null = IsotropicNull(k=4, d=4, n=3)
    assert null.mean == 1.0
    assert null.interval() == pytest.approx((1.0, 1.0))
    assert null.p_value(1.0) == 1.0


def test_energy_null_is_what_independent_deltas_show() -> None:
    """ΔW = Σ δ aᵀ with a ~ N(0, C) and δ drawn without looking at a."""
    second_moment, basis = spiked(8, seed=6), random_basis(8, 2, seed=7)
    inputs = gaussian(400, 50, 8, seed=8) @ torch.linalg.cholesky(second_moment).T
    deltas = gaussian(400, 50, 6, seed=9).transpose(1, 2) @ inputs
    captured = (deltas @ basis).square().sum()
    simulated = float(captured / deltas.square().sum())
    assert simulated == pytest.approx(energy_null(second_moment, basis), rel=0.02)
    assert abs(simulated - 2 / 8) > 0.05, "C must not be flat, or k/d would pass as well"


def test_energy_null_of_principal_directions_is_their_share() -> None:
    second_moment = torch.diag(torch.tensor([1.0, 6.0, 3.0], dtype=torch.float64))
    assert energy_null(second_moment, principal_basis(second_moment, 1).float()) == pytest.approx(0.6)
    assert energy_null(second_moment, principal_basis(second_moment, 2)) == pytest.approx(0.9)


def test_output_energy_is_the_mean_squared_change_of_the_output() -> None:
    inputs, delta = gaussian(70, 6, seed=10), gaussian(4, 6, seed=11)
    second_moment = inputs.T @ inputs / 70
    assert float(output_energy(delta, second_moment)) == pytest.approx(float((inputs @ delta.T).square().mean()))


@pytest.mark.parametrize("block", [7, 8192])
@pytest.mark.parametrize("centred", [True, False])
def test_prediction_subspace_is_that_of_the_scaled_centred_unembedding(
    block: int, centred: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streamed in blocks of 7 it must equal the dense computation on 40 tokens."""
    monkeypatch.setattr(prediction_module, "_BLOCK", block)
    unembedding, gain = gaussian(40, 6, seed=12) + 2.0, gaussian(6, seed=13)
    seen = unembedding * gain
    if centred:
        seen = seen - seen.mean(dim=0)
    torch.testing.assert_close(unembedding_gram(unembedding, gain, centred=centred), seen.T @ seen / 40)
    right = torch.linalg.svd(seen)[2].T[:, :3]
    basis = prediction_basis(unembedding, 3, gain, centred=centred)
    torch.testing.assert_close(basis @ basis.T, right @ right.T)


def test_prediction_subspace_ignores_a_shift_common_to_all_logits() -> None:
    unembedding, shift = gaussian(40, 6, seed=12), 50 * gaussian(6, seed=14)
    moved = unembedding_gram((unembedding + shift).float())
    torch.testing.assert_close(moved, unembedding_gram(unembedding), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("spectrum", "entropy_rank", "participation"),
    [
        ([1.0, 1.0, 1.0, 1.0], 4.0, 4.0),
        ([5.0, 0.0, 0.0], 1.0, 1.0),
        ([3.0, 1.0, -1e-18], math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)), 16 / 10),
    ],
)
def test_ranks_of_known_spectra(spectrum: list[float], entropy_rank: float, participation: float) -> None:
    assert effective_rank(torch.tensor(spectrum)) == pytest.approx(entropy_rank)
    assert participation_ratio(torch.tensor(spectrum)) == pytest.approx(participation)


def test_stable_rank_of_known_spectra() -> None:
    """(4 + 1 + 1)/4 = 1.5."""
    assert stable_rank(torch.tensor([2.0, 1.0, 1.0])) == pytest.approx(1.5)
    assert stable_rank(torch.tensor([1.0, 2.0, 1.0])) == pytest.approx(1.5)


def test_a_zero_spectrum_has_no_rank() -> None:
    zeros = torch.zeros(3)
    assert all(math.isnan(rank(zeros)) for rank in (effective_rank, participation_ratio, stable_rank))


def test_eigh_descending_returns_a_reproducible_decomposition() -> None:
    matrix = spiked(7, seed=15)
    values, vectors = eigh_descending(matrix.float())
    rebuilt = vectors @ torch.diag(values) @ vectors.T
    assert values.dtype == vectors.dtype == torch.float64 and bool((values.diff() <= 0).all())
    torch.testing.assert_close(rebuilt, matrix, rtol=1e-5, atol=1e-6)
    assert bool((vectors.gather(0, vectors.abs().argmax(0, keepdim=True)) > 0).all()), "signs are left open"


SQUARE = torch.eye(4, dtype=torch.float64)


@pytest.mark.parametrize(
    "call",
    [
        lambda: principal_basis(SQUARE, 5),
        lambda: principal_basis(SQUARE, 0),
        lambda: principal_basis(torch.ones(4, 3), 2),
        lambda: minor_basis(SQUARE, 5),
        lambda: random_basis(4, 5, seed=0),
        lambda: singular_basis(torch.ones(2, 4), 5),
        lambda: contrastive_basis(SQUARE, torch.eye(3), 2, epsilon=0.1),
        lambda: contrastive_basis(SQUARE, SQUARE, 2, epsilon=0.0),
        lambda: contrastive_basis(SQUARE, SQUARE, 2, epsilon=float("nan")),
        lambda: difference_basis(SQUARE, torch.eye(3), 2, beta=1.0),
        lambda: eigh_descending(torch.ones(4)),
        lambda: read_fraction(torch.ones(2, 4), torch.eye(3)),
        lambda: write_fraction(torch.ones(2, 4), torch.eye(4)),
        lambda: read_fraction(LowRank(torch.ones(2, 1), torch.ones(1, 4)), torch.eye(2)),
        lambda: cumulative_read_fraction(torch.ones(2, 4), torch.eye(2)),
        lambda: subspace_overlap(SQUARE[:, :2], SQUARE[:, :3]),
        lambda: energy_null(SQUARE, torch.eye(3, dtype=torch.float64)),
        lambda: output_energy(torch.ones(2, 4, dtype=torch.float64), torch.eye(3, dtype=torch.float64)),
    ],
)
def test_tensors_that_do_not_fit_are_refused_with_their_shapes(call) -> None:
    with pytest.raises(ShapeError, match=r"\d|nan"):
        call()


def test_a_side_that_is_neither_read_nor_write_is_refused() -> None:
    with pytest.raises((ShapeError, ValueError)):
        isotropic_null((3, 10), 4, side="raed")
