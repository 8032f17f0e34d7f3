"""Laws of nulls, spectra and q-values that hold for every second moment, subspace and update."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from readwrite_edit.geometry import (
    EnergyNull,
    IsotropicNull,
    LowRank,
    Spectrum,
    benjamini_hochberg,
    energy_null,
    exact_spectrum,
    low_rank_spectrum,
    quadratic_p_value,
)

LAW = settings(max_examples=25, deadline=None, derandomize=True, database=None)
SEEDS = st.integers(0, 2**31)
SCALES = st.sampled_from([1e-9, 1.0, 1e6])


def gaussian(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(d: int, seed: int) -> Tensor:
    return torch.linalg.qr(gaussian(seed, d, d))[0]


@st.composite
def spectra(draw: st.DrawFn) -> tuple[Tensor, int, int]:
    """Eigenvalues of a second moment, from flat to spiked, a rank below d and a number of rows."""
    d = draw(st.integers(2, 12))
    steepness = draw(st.sampled_from([0.0, 0.7, 2.0]))
    values = torch.arange(1, d + 1).double() ** -steepness
    return values, draw(st.integers(1, d - 1)), draw(st.sampled_from([4, 30, 500]))


@LAW
@given(spectra(), st.lists(st.floats(0.001, 0.999), min_size=2, max_size=5))
def test_more_is_never_less_surprising(case: tuple[Tensor, int, int], fractions: list[float]) -> None:
    values, k, n = case
    p = [EnergyNull(values, n).p_value(k, fraction) for fraction in sorted(fractions)]
    assert all(0 <= later <= earlier + 1e-12 for earlier, later in pairwise(p))
    assert p[0] <= 1


@LAW
@given(spectra(), st.floats(0.01, 0.99))
def test_a_subspace_and_its_complement_share_one_law(case: tuple[Tensor, int, int], fraction: float) -> None:
    """What is not inside is outside: P(inside > f) + P(outside > 1 − f) = 1, and the means sum to 1."""
    values, k, n = case
    inside, outside = EnergyNull(values, n), EnergyNull(values.flip(0), n)
    assert inside.mean(k) + outside.mean(len(values) - k) == pytest.approx(1.0)
    tails = inside.p_value(k, fraction) + outside.p_value(len(values) - k, 1 - fraction)
    assert tails == pytest.approx(1.0, abs=1e-7)


@LAW
@given(spectra(), st.floats(0.01, 0.99), SCALES)
def test_the_null_does_not_change_with_the_scale(case: tuple[Tensor, int, int], fraction: float, scale: float) -> None:
    values, k, n = case
    once, scaled = EnergyNull(values, n), EnergyNull(scale * values, n)
    assert scaled.p_value(k, fraction) == pytest.approx(once.p_value(k, fraction), rel=1e-6, abs=1e-12)
    assert scaled.mean(k) == pytest.approx(once.mean(k))


@LAW
@given(spectra(), st.sampled_from([0.5, 0.95, 0.999]))
def test_the_ends_of_an_interval_have_its_tails(case: tuple[Tensor, int, int], level: float) -> None:
    values, k, n = case
    null = EnergyNull(values, n)
    low, high = null.interval(k, level)
    assert 0 < low < high < 1
    assert null.p_value(k, low) == pytest.approx((1 + level) / 2, abs=1e-6)
    assert null.p_value(k, high) == pytest.approx((1 - level) / 2, abs=1e-6)


@LAW
@given(spectra())
def test_the_curve_rises_to_one_and_lies_above_that_of_flat_energy(case: tuple[Tensor, int, int]) -> None:
    values, _, n = case
    curve = EnergyNull(values, n).curve(len(values))
    means = [IsotropicNull(k, len(values), n).mean for k in range(1, len(values) + 1)]
    assert bool((curve.diff() > 0).all()) and float(curve[-1]) == pytest.approx(1.0)
    assert bool((curve >= torch.tensor(means, dtype=torch.float64) - 1e-12).all())


@LAW
@given(spectra(), st.floats(0.05, 0.95), SEEDS)
def test_the_energy_null_does_not_change_when_the_space_is_rotated(
    case: tuple[Tensor, int, int], fraction: float, seed: int
) -> None:
    values, k, n = case
    d = len(values)
    moment, basis, turn = torch.diag(values), rotation(d, seed)[:, :k], rotation(d, seed + 1)
    turned = turn @ moment @ turn.T
    assert energy_null(turned, turn @ basis) == pytest.approx(energy_null(moment, basis), abs=1e-9)
    expected = quadratic_p_value(moment, basis, n, fraction)
    assert quadratic_p_value(turned, turn @ basis, n, fraction) == pytest.approx(expected, rel=1e-5, abs=1e-9)
    own = EnergyNull(values, n).p_value(k, fraction)
    assert quadratic_p_value(turned, turn[:, :k], n, fraction) == pytest.approx(own, rel=1e-5, abs=1e-9)


@LAW
@given(spectra(), SEEDS)
def test_energy_nulls_of_a_subspace_and_its_complement_sum_to_one(case: tuple[Tensor, int, int], seed: int) -> None:
    values, k, _ = case
    space = rotation(len(values), seed)
    moment = torch.diag(values)
    assert energy_null(moment, space[:, :k]) + energy_null(moment, space[:, k:]) == pytest.approx(1.0)


def ranks(spectrum: Spectrum) -> tuple[float, float, float]:
    return spectrum.stable_rank, spectrum.participation_ratio, spectrum.effective_rank


@LAW
@given(st.integers(2, 9), st.integers(2, 9), st.integers(1, 5), SEEDS, SCALES)
def test_ranks_are_ordered_and_do_not_change_with_rotation_or_scale(
    d_out: int, d_in: int, rank: int, seed: int, scale: float
) -> None:
    update = LowRank(gaussian(seed, d_out, rank), gaussian(seed + 1, rank, d_in))
    found = ranks(exact_spectrum(update.dense()))
    assert 1 - 1e-9 <= found[0] <= found[1] + 1e-9 and found[1] <= found[2] + 1e-9
    assert found[2] <= min(d_out, d_in, rank) + 1e-6
    turned = LowRank(scale * rotation(d_out, seed + 2) @ update.B, update.A @ rotation(d_in, seed + 3))
    assert ranks(exact_spectrum(turned.dense())) == pytest.approx(found, rel=1e-6)
    assert ranks(low_rank_spectrum(turned)) == pytest.approx(found, rel=1e-6)


@LAW
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_q_values_keep_the_order_of_p_and_never_fall_below_it(p_values: list[float]) -> None:
    p = np.array(p_values)
    q = benjamini_hochberg(p)
    assert (q >= p - 1e-15).all() and (q <= 1).all()
    assert (np.diff(q[np.argsort(p)]) >= -1e-15).all()
    assert q.max() == pytest.approx(p.max())
