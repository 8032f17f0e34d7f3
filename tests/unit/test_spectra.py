"""Ranks of updates: exact ones against singular values, Lanczos against exact ones."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from readwrite_edit.errors import ShapeError
from readwrite_edit.geometry import (
    LowRank,
    Spectrum,
    effective_count,
    effective_rank,
    exact_spectrum,
    lanczos_spectrum,
    low_rank_spectrum,
    participation_ratio,
    spectra,
    stable_rank,
)

SHORT, LONG = 300, 500


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def with_singular_values(values: Tensor) -> Tensor:
    left = torch.linalg.qr(gaussian(SHORT, len(values), seed=1))[0]
    right = torch.linalg.qr(gaussian(LONG, len(values), seed=2))[0]
    return (left * values) @ right.T


def of_singular_values(delta: Tensor) -> tuple[float, float, float]:
    values = torch.linalg.svdvals(delta.double())
    return stable_rank(values), effective_rank(values.square()), participation_ratio(values.square())


def ranks(spectrum: Spectrum) -> tuple[float, float, float]:
    return spectrum.stable_rank, spectrum.effective_rank, spectrum.participation_ratio


def order(exponent: float) -> Tensor:
    return torch.arange(1, SHORT + 1).float() ** -exponent


UPDATES: dict[str, tuple[Callable[[], Tensor], float]] = {
    "gaussian": (lambda: gaussian(SHORT, LONG), 0.02),
    "tall": (lambda: gaussian(LONG, SHORT), 0.02),
    "spiked": (lambda: gaussian(SHORT, LONG) + torch.outer(gaussian(SHORT, seed=3), gaussian(LONG, seed=4)), 0.01),
    "spikes": (lambda: gaussian(SHORT, LONG) / 9 + with_singular_values(torch.tensor([40.0, 30, 20, 10])), 0.01),
    "power 0.5": (lambda: with_singular_values(order(0.5)), 0.02),
    "power 1": (lambda: with_singular_values(order(1.0)), 0.01),
    "power 2": (lambda: with_singular_values(order(2.0)), 0.01),
    "rank 1": (lambda: torch.outer(gaussian(SHORT, seed=3), gaussian(LONG, seed=4)), 1e-4),
    "rank 8": (lambda: gaussian(SHORT, 8, seed=3) @ gaussian(8, LONG, seed=4), 1e-4),
    "orthogonal": (lambda: with_singular_values(torch.ones(SHORT)), 1e-4),
    "six equal": (lambda: with_singular_values(torch.ones(6)), 1e-4),
    "tiny": (lambda: 1e-12 * gaussian(SHORT, LONG), 0.02),
}


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_lanczos_agrees_with_the_exact_spectrum(name: str, seed: int) -> None:
    build, tolerance = UPDATES[name]
    delta = build()
    estimate, exact = lanczos_spectrum(delta, seed=seed), exact_spectrum(delta)
    assert (estimate.method, exact.method) == ("lanczos", "exact")
    assert estimate.stable_rank == pytest.approx(exact.stable_rank, rel=2e-3)
    assert ranks(estimate) == pytest.approx(ranks(exact), rel=tolerance)


def test_lanczos_repeats_itself_and_follows_its_seed() -> None:
    delta = gaussian(SHORT, LONG)
    assert lanczos_spectrum(delta, seed=5) == lanczos_spectrum(delta, seed=5)
    assert lanczos_spectrum(delta, seed=5) != lanczos_spectrum(delta, seed=6)


def test_where_the_krylov_space_would_be_the_whole_space_the_spectrum_is_exact() -> None:
    delta = gaussian(12, 40)
    assert lanczos_spectrum(delta) == exact_spectrum(delta)


def test_lanczos_takes_half_precision() -> None:
    delta = gaussian(SHORT, LONG).bfloat16()
    assert ranks(lanczos_spectrum(delta)) == pytest.approx(ranks(exact_spectrum(delta)), rel=0.02)


@pytest.mark.parametrize("sizes", [{"probes": 1}, {"steps": 1}])
def test_too_few_probes_or_steps_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(ShapeError, match="at least 2"):
        lanczos_spectrum(gaussian(SHORT, LONG), **sizes)


@pytest.mark.parametrize("shape", [(30, 50), (50, 30), (7, 7)])
@pytest.mark.parametrize("block", [8, 1024])
def test_exact_ranks_are_those_of_the_singular_values(
    shape: tuple[int, int], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spectra, "_BLOCK", block)
    delta = gaussian(*shape)
    assert ranks(exact_spectrum(delta)) == pytest.approx(of_singular_values(delta), rel=1e-9)


@pytest.mark.parametrize("shape", [(3, 90), (90, 3)])
def test_the_gram_matrix_is_that_of_the_shorter_side(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    seen, eigenvalues_of = [], torch.linalg.eigvalsh
    monkeypatch.setattr(torch.linalg, "eigvalsh", lambda gram: seen.append(gram.shape) or eigenvalues_of(gram))
    exact_spectrum(gaussian(*shape))
    assert seen == [(3, 3)]


@pytest.mark.parametrize("rank", [1, 4, 60])
def test_ranks_of_factors_are_those_of_their_product(rank: int) -> None:
    """Also where there are more factors than rows."""
    update = LowRank(gaussian(30, rank, seed=3), gaussian(rank, 50, seed=4))
    expected = of_singular_values(update.B.double() @ update.A.double())
    assert low_rank_spectrum(update).method == "exact"
    assert ranks(low_rank_spectrum(update)) == pytest.approx(expected, rel=1e-9)


def test_ranks_of_a_known_update() -> None:
    """σ² = 4, 1, 1: 6/4, exp(ln 6 − (4 ln 4)/6), 36/18."""
    found = exact_spectrum(torch.diag(torch.tensor([2.0, 1.0, 1.0])))
    assert ranks(found) == pytest.approx((1.5, 6 / 4 ** (4 / 6), 2.0))


@pytest.mark.parametrize(
    "measure",
    [
        lambda: exact_spectrum(torch.zeros(4, 6)),
        lambda: lanczos_spectrum(torch.zeros(SHORT, LONG)),
        lambda: low_rank_spectrum(LowRank(torch.zeros(4, 2), torch.ones(2, 6))),
    ],
)
def test_a_zero_update_has_no_rank(measure: Callable[[], Spectrum]) -> None:
    assert all(math.isnan(rank) for rank in ranks(measure()))


def test_effective_count_finds_the_independent_rows() -> None:
    """A Gaussian update has all its rows, factors of rank r about r, whatever the covariance within a row."""
    rows, d = 96, 200
    scale = torch.linspace(1.0, 0.2, d)
    flat, shaped = d, participation_ratio(scale.square())
    for update, count in [(gaussian(rows, d), rows), (gaussian(rows, 8) @ gaussian(8, d, seed=1), 8)]:
        within = 0.15 * count
        assert effective_count(exact_spectrum(update).participation_ratio, flat, rows) == pytest.approx(
            count, abs=within
        )
        spectrum = exact_spectrum(update * scale)
        assert effective_count(spectrum.participation_ratio, shaped, rows) == pytest.approx(count, abs=within)


def test_effective_count_stays_between_one_and_all() -> None:
    assert effective_count(1.0, 50, 10) == pytest.approx(1.0, abs=0.05) and effective_count(1.0, 1.0, 10) == 10
    assert effective_count(60.0, 50, 10) == 10
    assert math.isnan(effective_count(math.nan, 50, 10))
