"""Nulls of fractions against exact laws and simulated updates; q-values against their definition."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from readwrite_edit.errors import ShapeError
from readwrite_edit.geometry import (
    EnergyNull,
    IsotropicNull,
    benjamini_hochberg,
    energy_null,
    isotropic_curve,
    isotropic_null,
    principal_basis,
    quadratic_p_value,
    random_basis,
)
from readwrite_edit.geometry.saddlepoint import signed_root

D, ROWS, TOKENS = 24, 40, 60


def gaussian(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def inputs() -> Tensor:
    """Tokens whose second moment is spiked, as those of attention inputs are."""
    spread = torch.linspace(1.0, D, D, dtype=torch.float64) ** -0.8
    return gaussian(TOKENS, D, seed=1) * spread @ random_basis(D, D, seed=2)


@pytest.fixture(scope="module")
def deltas(inputs: Tensor) -> Tensor:
    """2000 updates Σ_t δ_t a_tᵀ whose δ never looked at a."""
    return gaussian(2000, ROWS, TOKENS, seed=3) @ inputs


def fractions(deltas: Tensor, basis: Tensor) -> Tensor:
    return (deltas @ basis).square().sum(dim=(1, 2)) / deltas.square().sum(dim=(1, 2))


def null_of(second_moment: Tensor, n: float = ROWS) -> EnergyNull:
    return EnergyNull(torch.linalg.eigvalsh(second_moment).flip(0), n)


def check_against(simulated: Tensor, p_value: Callable[[float], float]) -> None:
    """The p-values of simulated fractions must be uniform."""
    p = [p_value(float(fraction)) for fraction in simulated[:1000]]
    assert stats.kstest(p, "uniform").pvalue > 0.01


@pytest.mark.parametrize("k", [1, 5, 20])
def test_energy_null_describes_simulated_outer_products(k: int, inputs: Tensor, deltas: Tensor) -> None:
    second_moment = inputs.T @ inputs / TOKENS
    null, simulated = null_of(second_moment), fractions(deltas, principal_basis(second_moment, k))
    low, high = null.interval(k, 0.9)
    assert float(simulated.mean()) == pytest.approx(null.mean(k), rel=0.02)
    assert abs(null.mean(k) - k / D) > 0.05, "a flat C would not tell the two nulls apart"
    assert float((simulated < low).double().mean()) == pytest.approx(0.05, abs=0.015)
    assert float((simulated > high).double().mean()) == pytest.approx(0.05, abs=0.015)
    check_against(simulated, lambda fraction: null.p_value(k, fraction))


def test_energy_null_in_another_basis_describes_simulated_outer_products(inputs: Tensor, deltas: Tensor) -> None:
    second_moment, basis = inputs.T @ inputs / TOKENS, random_basis(D, 5, seed=4)
    simulated = fractions(deltas, basis)
    assert float(simulated.mean()) == pytest.approx(energy_null(second_moment, basis), rel=0.02)
    check_against(simulated, lambda fraction: quadratic_p_value(second_moment, basis, ROWS, fraction))


def test_the_energy_null_in_its_own_basis_is_a_case_of_the_general_one(inputs: Tensor) -> None:
    second_moment = inputs.T @ inputs
    null, basis = null_of(second_moment), principal_basis(second_moment, 5)
    for fraction in (0.4, null.mean(5), 0.9):
        general = quadratic_p_value(second_moment.float(), basis.float(), ROWS, fraction)
        assert general == pytest.approx(null.p_value(5, fraction), rel=1e-3)


@pytest.mark.parametrize(
    ("d", "k", "n", "tolerance"), [(576, 16, 64, 1e-5), (64, 4, 4, 4e-3), (8, 2, 2, 0.04), (10, 9, 5, 0.03)]
)
def test_equal_eigenvalues_give_the_exact_beta_law(d: int, k: int, n: int, tolerance: float) -> None:
    """From p = 0.99 to 1e-12; the tolerance is that of the docstring."""
    energy, isotropic = EnergyNull(torch.full((d,), 3.0), n), IsotropicNull(k, d, n)
    beta = stats.beta(n * k / 2, n * (d - k) / 2)
    for p in (0.99, 0.5, 0.1, 1e-3, 1e-7, 1e-12):
        assert energy.p_value(k, float(beta.isf(p))) == pytest.approx(p, rel=tolerance)
    assert energy.mean(k) == pytest.approx(isotropic.mean)
    assert energy.p_value(k, k / d) == pytest.approx(isotropic.p_value(k / d), rel=max(tolerance, 1e-5))
    assert energy.interval(k, 0.9) == pytest.approx(isotropic.interval(0.9), rel=tolerance)


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.5])
def test_the_far_tail_is_right_as_well(fraction: float) -> None:
    """One direction of 576 and two rows: Beta(1, 575), whose tail (1 − f)^575 reaches 1e-173."""
    null = EnergyNull(torch.ones(576), 2)
    assert null.p_value(1, fraction) == pytest.approx((1 - fraction) ** 575, rel=0.1, abs=0)


def test_the_tail_is_smooth_across_its_singular_point() -> None:
    """At the mean the saddlepoint is 0 and the formula 0/0: its limit must join what lies beside it."""
    null = EnergyNull(torch.linspace(3.0, 0.1, 30) ** 2, 50)
    centre = null.mean(4)
    p = np.array([null.p_value(4, centre + shift) for shift in np.linspace(-1e-4, 1e-4, 81)])
    slopes = np.diff(p)
    assert (slopes < 0).all()
    assert slopes.min() / slopes.max() == pytest.approx(1.0, abs=0.02)


def test_the_order_of_the_eigenvalues_is_that_of_the_basis() -> None:
    """Weakest first is the null of the minor directions."""
    rising = EnergyNull(torch.tensor([1.0, 2.0, 7.0]), 6)
    assert rising.mean(2) == pytest.approx(0.3)
    assert rising.curve(3).tolist() == pytest.approx([0.1, 0.3, 1.0])
    assert rising.p_value(1, 0.9) < 1e-3 < EnergyNull(torch.tensor([7.0, 2.0, 1.0]), 6).p_value(1, 0.9)


@pytest.mark.parametrize("values", [[2.0, 1.0, 1.0], [2.0, 1.0, 0.0], [2.0, 1.0, -1e-9]])
def test_where_all_energy_is_inside_the_fraction_is_certain(values: list[float]) -> None:
    null, k = EnergyNull(torch.tensor(values), 4), 3 if values[2] > 0 else 2
    assert (null.mean(k), null.p_value(k, 1.0), null.interval(k)) == (1.0, 1.0, (1.0, 1.0))


def test_impossible_fractions_have_the_tails_of_their_side() -> None:
    null = EnergyNull(torch.tensor([2.0, 1.0, 1.0]), 4)
    assert null.p_value(1, 0.0) == 1.0 and null.p_value(1, 1.0) == 0.0
    assert null.p_value(1, 1e-14) == pytest.approx(1.0) and null.p_value(1, 1 - 1e-14) == pytest.approx(0.0, abs=1e-12)
    moment, basis = torch.diag(torch.tensor([2.0, 1.0, 1.0])), torch.eye(3)
    assert quadratic_p_value(moment, basis, 4, 1.0) == 1.0
    assert quadratic_p_value(moment, basis[:, :1], 4, 1.0) == 0.0


def test_rounding_beyond_the_ends_is_no_error() -> None:
    assert IsotropicNull(1, 3, 4).p_value(1 + 1e-7) == 0.0 and IsotropicNull(1, 3, 4).p_value(-1e-9) == 1.0
    assert EnergyNull(torch.ones(3), 4).p_value(1, 1 + 1e-7) == 0.0


def test_a_zero_update_or_a_zero_moment_has_no_p_value() -> None:
    null, nothing = EnergyNull(torch.tensor([2.0, 1.0]), 4), EnergyNull(torch.zeros(2), 4)
    assert math.isnan(null.p_value(1, math.nan)) and math.isnan(IsotropicNull(1, 2, 4).p_value(math.nan))
    assert math.isnan(nothing.p_value(1, 0.5)) and math.isnan(nothing.mean(1))
    assert all(math.isnan(end) for end in nothing.interval(1))
    assert math.isnan(quadratic_p_value(torch.zeros(2, 2), torch.eye(2)[:, :1], 4, 0.5))


def test_p_values_of_a_wide_matrix_are_small_but_not_zero() -> None:
    null = EnergyNull(torch.arange(1, 4097).double() ** -1, 1024)
    assert 0 < null.p_value(64, null.mean(64) + 0.05) < 1e-9
    low, high = null.interval(64)
    assert null.mean(64) * 0.97 < low < null.mean(64) < high < null.mean(64) * 1.03


def test_signed_root_without_two_signs_is_certain() -> None:
    assert signed_root(np.array([0.0, -1.0]), 3) == math.inf
    assert signed_root(np.array([0.0, 1.0]), 3) == -math.inf
    # a weight of 1e-30 is there, but 1 = −1·X₂ can not be told from it
    assert stats.norm.sf(signed_root(np.array([1e-30, -1.0]), 3)) == pytest.approx(0.0, abs=1e-10)


@pytest.mark.parametrize("side", ["read", "write"])
def test_the_isotropic_curve_holds_the_null_of_every_k(side: str) -> None:
    curve = isotropic_curve((5, 9), 5, side=side, level=0.8)
    for k in range(1, 6):
        null = isotropic_null((5, 9), k, side=side)
        assert curve.mean[k - 1] == pytest.approx(null.mean)
        assert (curve.low[k - 1], curve.high[k - 1]) == pytest.approx(null.interval(0.8))
    assert curve.low[4] == (1.0 if side == "write" else pytest.approx(curve.low[4]))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: EnergyNull(torch.eye(2), 3), "expected a vector"),
        (lambda: EnergyNull(torch.zeros(0), 3), "expected a vector"),
        (lambda: EnergyNull(torch.ones(3), 0), "n is 0"),
        (lambda: EnergyNull(torch.ones(3), 2).mean(4), "k is 4, expected 1 to 3"),
        (lambda: EnergyNull(torch.ones(3), 2).curve(0), "k is 0"),
        (lambda: isotropic_curve((4, 3), 4, side="read"), "k is 4, expected 1 to 3"),
        (lambda: isotropic_curve((4, 3), 2, side="up"), "'up'"),
        (lambda: quadratic_p_value(torch.eye(3), torch.eye(4)[:, :1], 2, 0.5), "does not fit"),
    ],
)
def test_what_does_not_fit_is_refused(call: Callable[[], object], words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        call()


def test_q_values_are_those_of_benjamini_and_hochberg() -> None:
    """Of 0.01, 0.02, 0.03, 0.5: min over j ≥ i of 4 p_j / j = 0.04, 0.04, 0.04, 0.5; NaN is no test."""
    q = benjamini_hochberg([0.5, 0.01, math.nan, 0.03, 0.02])
    assert q == pytest.approx([0.5, 0.04, math.nan, 0.04, 0.04], nan_ok=True)
    assert benjamini_hochberg([[0.02], [math.nan]]).shape == (2, 1)
    assert np.isnan(benjamini_hochberg([math.nan])).all() and benjamini_hochberg([]).shape == (0,)
