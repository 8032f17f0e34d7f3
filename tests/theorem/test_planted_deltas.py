"""A planted delta is found and a delta of the null is not: error rates over 200 seeds.

Bounds are those within which a count of 200 tests at level 0.05 stays with
probability 0.998.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pandas as pd
import pytest
import torch
from scipy import stats
from torch import Tensor

from readwrite_edit.geometry import (
    EnergyNull,
    effective_count,
    exact_spectrum,
    isotropic_null,
    participation_ratio,
    principal_basis,
    random_basis,
    read_fraction,
    write_fraction,
)
from readwrite_edit.probe.delta.verdict import Verdict, verdict_of

SEEDS, ALPHA = 200, 0.05
FEWEST, MOST = (int(end) for end in stats.binom(SEEDS, ALPHA).interval(0.998))
D_OUT, D_IN, K, LAYERS = 20, 24, 4, 8
PLANTED = 1.5

Draw = Callable[[torch.Generator, tuple[int, int]], Tensor]


def gaussian(generator: torch.Generator, shape: tuple[int, int]) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def factors_of_rank_three(generator: torch.Generator, shape: tuple[int, int]) -> Tensor:
    return gaussian(generator, (shape[0], 3)) @ gaussian(generator, (3, shape[1]))


def generator_of(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def at_level(count: int) -> bool:
    return FEWEST <= count <= MOST


def rejections(p_value: Callable[[torch.Generator], float]) -> int:
    return sum(p_value(generator_of(seed)) < ALPHA for seed in range(SEEDS))


@pytest.mark.parametrize("side", ["read", "write"])
@pytest.mark.parametrize("planted", [False, True])
def test_the_isotropic_null_finds_a_planted_delta_and_no_isotropic_one(side: str, planted: bool) -> None:
    """Planted: entries along the subspace 1.5 times as large, a fraction of 0.31 or 0.36 instead of 1/6 or 1/5."""
    fraction = read_fraction if side == "read" else write_fraction
    basis = random_basis(D_IN if side == "read" else D_OUT, K, seed=7)
    grow = torch.eye(len(basis), dtype=torch.float64) + (PLANTED - 1) * basis @ basis.T

    def p_value(generator: torch.Generator) -> float:
        delta = gaussian(generator, (D_OUT, D_IN))
        if planted:
            delta = delta @ grow if side == "read" else grow @ delta
        return isotropic_null((D_OUT, D_IN), K, side=side).p_value(float(fraction(delta, basis)))

    count = rejections(p_value)
    assert count == SEEDS if planted else at_level(count)


def spiked_inputs(generator: torch.Generator, tokens: int = 50) -> Tensor:
    return gaussian(generator, (tokens, D_IN)) * torch.arange(1, D_IN + 1).double() ** -0.7


@pytest.mark.parametrize("planted", [False, True])
def test_the_energy_null_finds_a_signal_and_no_inherited_shape(planted: bool) -> None:
    """ΔW = Σ δ aᵀ: far above k/d in any case; above the energy null only where δ follows a's leading directions."""
    above_isotropic = 0

    def p_value(generator: torch.Generator) -> float:
        nonlocal above_isotropic
        inputs = spiked_inputs(generator)
        moment = inputs.T @ inputs / len(inputs)
        basis = principal_basis(moment, K)
        upstream = gaussian(generator, (len(inputs), D_OUT))
        if planted:
            upstream = upstream + inputs @ basis @ gaussian(generator, (K, D_OUT))
        fraction = float(read_fraction(upstream.T @ inputs, basis))
        above_isotropic += isotropic_null((D_OUT, D_IN), K, side="read").p_value(fraction) < ALPHA
        return EnergyNull(torch.linalg.eigvalsh(moment).flip(0), D_OUT).p_value(K, fraction)

    count = rejections(p_value)
    assert above_isotropic == SEEDS
    assert count > 0.9 * SEEDS if planted else at_level(count)


def test_a_low_rank_delta_needs_the_count_of_its_independent_rows() -> None:
    """Rank 3 in 20 rows: the rows' number rejects far too often, the effective count at its level."""
    basis = random_basis(D_IN, K, seed=7)

    def p_value(generator: torch.Generator, *, effective: bool) -> float:
        delta = factors_of_rank_three(generator, (D_OUT, D_IN))
        participation = exact_spectrum(delta).participation_ratio
        n = effective_count(participation, D_IN, D_OUT) if effective else D_OUT
        null = EnergyNull(torch.ones(D_IN), n)
        return null.p_value(K, float(read_fraction(delta, basis)))

    assert rejections(lambda generator: p_value(generator, effective=False)) > 2 * MOST
    assert at_level(rejections(lambda generator: p_value(generator, effective=True)))


def test_a_low_rank_delta_of_shaped_inputs_as_well() -> None:
    values = torch.arange(1, D_IN + 1).double() ** -0.7

    def p_value(generator: torch.Generator) -> float:
        delta = factors_of_rank_three(generator, (D_OUT, D_IN)) * values.sqrt()
        n = effective_count(exact_spectrum(delta).participation_ratio, participation_ratio(values), D_OUT)
        return EnergyNull(values, n).p_value(K, float(read_fraction(delta, torch.eye(D_IN).double()[:, :K])))

    assert rejections(p_value) <= MOST


SHAPES = {"q_proj": (20, 24), "k_proj": (10, 24), "o_proj": (24, 20), "down_proj": (24, 40)}


def geometry_of(seed: int, draw: Draw, grow_read: float = 1.0, grow_write: float = 1.0) -> pd.DataFrame:
    """A geometry table of a model whose residual stream has 24 dimensions; entries along the bases are grown."""
    generator, basis = generator_of(seed), random_basis(24, K, seed=seed)
    rows = []
    for layer in range(LAYERS):
        for module, shape in SHAPES.items():
            side, factor = ("read", grow_read) if shape[1] == 24 else ("write", grow_write)
            grow = torch.eye(24, dtype=torch.float64) + (factor - 1) * basis @ basis.T
            delta = draw(generator, shape)
            delta = delta @ grow if side == "read" else grow @ delta
            fraction = float((read_fraction if side == "read" else write_fraction)(delta, basis))
            null = isotropic_null(shape, K, side=side)
            found = {f"{side}_relative_isotropic": fraction / null.mean, f"{side}_isotropic_p": null.p_value(fraction)}
            rows.append({"layer": layer, "module": module, "norm": 1.0, **found})
    return pd.DataFrame(rows)


@cache
def verdicts(draw: Draw) -> tuple[Verdict, ...]:
    return tuple(verdict_of(geometry_of(seed, draw)) for seed in range(SEEDS))


@pytest.mark.parametrize("draw", [gaussian, factors_of_rank_three])
def test_the_verdict_on_isotropic_deltas_is_not_shown(draw: Draw) -> None:
    """Also on low-rank ones, whose p-values matrix by matrix are too small."""
    assert sum(verdict.shown for verdict in verdicts(draw)) <= MOST
    assert at_level(sum(float(verdict.figures["asymmetry_p"] or 0) < ALPHA for verdict in verdicts(draw)))
    covered = sum(
        float(verdict.figures["asymmetry_low"] or 0) <= 1 <= float(verdict.figures["asymmetry_high"] or 0)
        for verdict in verdicts(draw)
    )
    assert at_level(SEEDS - covered), "the 95 % interval of the ratio"


def test_the_layers_test_against_the_null_keeps_its_level() -> None:
    """Matrix by matrix, rank 3 is far above the null far too often; over layers it is not."""
    false = [verdict for verdict in verdicts(factors_of_rank_three) if verdict.figures["read_above_isotropic"]]
    assert len(false) > 2 * MOST
    assert (
        sum(float(v.figures["read_layers_p_isotropic"] or 0) < ALPHA for v in verdicts(factors_of_rank_three)) <= MOST
    )


@pytest.mark.parametrize("draw", [gaussian, factors_of_rank_three])
def test_the_verdict_finds_a_planted_asymmetry_and_no_concentration_of_both_sides(draw: Draw) -> None:
    seeds = range(20)
    assert all(verdict_of(geometry_of(seed, draw, grow_read=2.0)).shown for seed in seeds)
    assert not any(verdict_of(geometry_of(seed, draw, grow_write=2.0)).shown for seed in seeds)
    both = [verdict_of(geometry_of(seed, draw, grow_read=2.0, grow_write=2.0)).shown for seed in seeds]
    assert sum(both) <= stats.binom(len(seeds), ALPHA).ppf(0.999)
