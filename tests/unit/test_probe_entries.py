"""Sums over entries against float64, and rounding steps against the bits of the numbers themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from readwrite_edit.probe.delta.entries import EntrySums, rounding_step

SEED = 0


def next_larger(weight: torch.Tensor) -> torch.Tensor:
    """The next number of the weight's own type away from zero, by its bits."""
    integers = {2: torch.int16, 4: torch.int32}[weight.element_size()]
    return (weight.abs().view(integers) + 1).view(weight.dtype)


def wide_range(dtype: torch.dtype) -> torch.Tensor:
    """Numbers of a type over many powers of two, powers themselves and their neighbours included."""
    generator = torch.Generator().manual_seed(SEED)
    lowest, highest = (-24, 14) if dtype == torch.float16 else (-100, 100)
    powers = 2.0 ** torch.arange(lowest, highest).double()
    sizes = powers[torch.randint(len(powers), (4000,), generator=generator)]
    random = torch.randn(4000, generator=generator).double() * sizes
    numbers = torch.cat([powers, random]).to(dtype)
    near = torch.cat([numbers, next_larger(numbers), -numbers])
    return near[(near != 0) & near.isfinite() & next_larger(near).isfinite()]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_step_is_the_distance_to_the_next_number_by_its_bits(dtype: torch.dtype) -> None:
    weight = wide_range(dtype)
    expected = next_larger(weight).double() - weight.abs().double()
    step = rounding_step(weight.float(), dtype)
    assert len(weight) > 5000 and torch.equal(step.double(), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_between_two_numbers_of_the_type_the_step_is_that_of_the_lower(dtype: torch.dtype) -> None:
    weight = wide_range(dtype)
    step = rounding_step(weight.float(), dtype)
    between = weight.float() + torch.sign(weight.float()) * step * 0.75
    normal = weight.abs().float() > 1e-4
    assert torch.equal(rounding_step(between, dtype)[normal], step[normal])


def test_the_weight_is_left_as_it_was_and_zero_has_the_smallest_step() -> None:
    weight = torch.tensor([0.0, 1.5, -3.0])
    assert rounding_step(weight, torch.bfloat16).tolist() == [0.0, 2.0**-7, 2.0**-6]
    assert rounding_step(weight, torch.float16)[0] == 2.0**-24
    assert weight.tolist() == [0.0, 1.5, -3.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_sums_over_blocks_are_those_of_the_whole_in_float64(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(SEED)
    base = torch.randn(300, 40, generator=generator).to(dtype).float()
    tuned = base.clone()
    tuned[::3] += 0.004 * torch.randn(100, 40, generator=generator)
    tuned[7] *= 1.5
    tuned = tuned.to(dtype).float()
    sums = EntrySums()
    for start in range(0, 200, 64):
        rows = slice(start, min(start + 64, 200))
        sums.add(base[rows], tuned[rows] - base[rows], dtype)
    sums.add(base[200:], tuned[200:] - base[200:], dtype)
    w, t = base.double().numpy(), tuned.double().numpy()
    delta = t - w
    small = np.abs(delta) <= (next_larger(base.to(dtype)).double() - base.abs().double()).numpy()
    assert sums.count == delta.size and sums.changed == (delta != 0).sum() and sums.not_finite == 0
    assert sums.changed_fraction == (delta != 0).mean()
    assert math.isclose(sums.norm, np.linalg.norm(delta), rel_tol=1e-6)
    assert math.isclose(sums.base_norm, np.linalg.norm(w), rel_tol=1e-6)
    assert math.isclose(sums.cosine, (w * t).sum() / np.linalg.norm(w) / np.linalg.norm(t), abs_tol=1e-7)
    assert math.isclose(sums.under_step_fraction, (delta[small] ** 2).sum() / (delta**2).sum(), abs_tol=1e-6)
    assert dtype == torch.float32 or 0 < sums.under_step_fraction < 1


def test_a_block_of_a_million_entries_is_summed_to_seven_digits() -> None:
    """One float32 sum over so many squares is off by 2e-5: far more than anything reported may be."""
    generator = torch.Generator().manual_seed(SEED)
    base, delta = (torch.randn(1024, 1024, generator=generator) for _ in range(2))
    changed, same = EntrySums(), EntrySums()
    changed.add(base, delta, torch.float32)
    same.add_same(base)
    assert math.isclose(changed.squared_norm, float(delta.double().square().sum()), rel_tol=2e-7)
    for sums in (changed, same):
        assert math.isclose(sums.base_squared, float(base.double().square().sum()), rel_tol=2e-7)


def test_equal_blocks_count_and_change_nothing() -> None:
    base = torch.randn(20, 10).bfloat16()
    sums = EntrySums()
    sums.add_same(base)
    assert (sums.count, sums.changed, sums.squared_norm, sums.changed_fraction) == (200, 0, 0.0, 0.0)
    assert math.isnan(sums.under_step_fraction) and sums.cosine == 1.0
    assert math.isclose(sums.base_norm, float(base.double().norm()), rel_tol=1e-6)
    assert math.isnan(EntrySums().changed_fraction) and math.isnan(EntrySums().cosine)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])
def test_numbers_that_spoil_the_sums_are_counted_wherever_they_stand(value: float) -> None:
    good = torch.ones(8, 4)
    bad = good.clone()
    bad[2, 1] = bad[5, 0] = value
    for base, tuned in ((bad, good), (good, bad), (bad, bad)):
        sums = EntrySums()
        sums.add(base, tuned - base, torch.float32)
        assert sums.not_finite == 2
    same = EntrySums()
    same.add_same(bad)
    assert same.not_finite == 2
