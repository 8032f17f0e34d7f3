"""Laws that hold for every update, basis and second moment."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from readwrite_edit.geometry import (
    LowRank,
    contrastive_basis,
    cumulative_read_fraction,
    difference_basis,
    minor_basis,
    output_energy,
    principal_basis,
    random_basis,
    read_fraction,
    singular_basis,
    subspace_overlap,
    write_fraction,
)

LAW = settings(max_examples=20, deadline=None, derandomize=True, database=None)
SEEDS = st.integers(0, 2**31)
DIMS = st.integers(2, 8)
SCALES = st.sampled_from([1e-6, 1e-3, 1.0, 1e4])


def gaussian(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(d: int, seed: int) -> Tensor:
    return torch.linalg.qr(gaussian(seed, d, d))[0]


@st.composite
def updates(draw: st.DrawFn) -> tuple[LowRank, Tensor, int]:
    """Factors of an update, a basis of its input space and a seed for the rest."""
    d_out, d_in, seed = draw(DIMS), draw(DIMS), draw(SEEDS)
    rank, k = draw(st.integers(1, 6)), draw(st.integers(1, d_in))
    scale = draw(SCALES)
    factors = LowRank(scale * gaussian(seed, d_out, rank), gaussian(seed + 1, rank, d_in))
    return factors, rotation(d_in, seed + 2)[:, :k], seed


@LAW
@given(updates())
def test_a_fraction_and_that_of_the_complement_sum_to_one(case: tuple[LowRank, Tensor, int]) -> None:
    delta, basis, _ = case
    inside = float(read_fraction(delta.dense(), basis))
    assert -1e-12 <= inside <= 1 + 1e-12
    complement = torch.linalg.qr(basis, mode="complete")[0][:, basis.shape[1] :]
    outside = float(read_fraction(delta.dense(), complement)) if complement.shape[1] else 0.0
    assert inside + outside == pytest.approx(1.0, abs=1e-10)


@LAW
@given(updates())
def test_the_write_side_is_the_read_side_of_the_transpose(case: tuple[LowRank, Tensor, int]) -> None:
    delta, basis, _ = case
    dense = delta.dense()
    assert float(write_fraction(dense.T, basis)) == pytest.approx(float(read_fraction(dense, basis)), abs=1e-12)


@LAW
@given(updates())
def test_fractions_do_not_change_when_the_space_is_rotated(case: tuple[LowRank, Tensor, int]) -> None:
    delta, basis, seed = case
    dense = delta.dense()
    turned_in, turned_out = rotation(dense.shape[1], seed + 3), rotation(dense.shape[0], seed + 4)
    expected = float(read_fraction(dense, basis))
    assert float(read_fraction(turned_out @ dense @ turned_in, turned_in.T @ basis)) == pytest.approx(
        expected, abs=1e-9
    )
    mixed = basis @ rotation(basis.shape[1], seed + 5)
    assert float(read_fraction(dense, mixed)) == pytest.approx(expected, abs=1e-9), "only the subspace counts"


@LAW
@given(updates(), st.sampled_from([-3.0, 1e-5, 1e5]))
def test_fractions_do_not_change_with_the_scale(case: tuple[LowRank, Tensor, int], factor: float) -> None:
    delta, basis, _ = case
    expected = float(read_fraction(delta.dense(), basis))
    assert float(read_fraction(factor * delta.dense(), basis)) == pytest.approx(expected, abs=1e-9)


@LAW
@given(updates())
def test_factors_answer_as_the_dense_update_does(case: tuple[LowRank, Tensor, int]) -> None:
    delta, basis, seed = case
    dense = delta.B @ delta.A
    second_moment = gaussian(seed + 6, 12, dense.shape[1])
    second_moment = second_moment.T @ second_moment
    output = rotation(dense.shape[0], seed + 7)[:, :1]
    assert delta.shape == tuple(dense.shape)
    close = {"rtol": 1e-8, "atol": 1e-9 * float(dense.square().sum() + 1e-30)}
    torch.testing.assert_close(delta.dense(), dense)
    torch.testing.assert_close(delta.squared_norm(), dense.square().sum(), **close)
    torch.testing.assert_close(delta.read(basis).dense(), dense @ basis, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(delta.write(output).dense(), output.T @ dense, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(read_fraction(delta, basis), read_fraction(dense, basis), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(write_fraction(delta, output), write_fraction(dense, output), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(output_energy(delta, second_moment), output_energy(dense, second_moment), **close)


@LAW
@given(updates())
def test_the_cumulative_curve_holds_every_single_fraction(case: tuple[LowRank, Tensor, int]) -> None:
    delta, basis, _ = case
    curve = cumulative_read_fraction(delta.dense(), basis)
    singles = torch.stack([read_fraction(delta.dense(), basis[:, : k + 1]) for k in range(basis.shape[1])])
    torch.testing.assert_close(curve, singles, rtol=1e-9, atol=1e-12)


def _moments(d: int, seed: int) -> tuple[Tensor, Tensor]:
    first, second = gaussian(seed, 3 * d, d), gaussian(seed + 1, 3 * d, d)
    return first.T @ first / (3 * d), second.T @ second / (3 * d)


ARMS: dict[str, Callable[[int, int, int], Tensor]] = {
    "principal": lambda d, k, seed: principal_basis(_moments(d, seed)[0], k),
    "minor": lambda d, k, seed: minor_basis(_moments(d, seed)[0], k),
    "random": lambda d, k, seed: random_basis(d, k, seed=seed),
    "weight": lambda d, k, seed: singular_basis(gaussian(seed, d + 2, d), k),
    "contrastive": lambda d, k, seed: contrastive_basis(*_moments(d, seed), k, epsilon=1e-2),
    "difference": lambda d, k, seed: difference_basis(*_moments(d, seed), k, beta=0.7),
}


@pytest.mark.parametrize("arm", ARMS)
@LAW
@given(DIMS, SEEDS, st.data())
def test_every_arm_is_orthonormal_and_repeatable(arm: str, d: int, seed: int, data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, d))
    basis = ARMS[arm](d, rank, seed)
    assert basis.shape == (d, rank) and basis.dtype == torch.float64
    torch.testing.assert_close(basis.T @ basis, torch.eye(rank, dtype=torch.float64), rtol=0, atol=1e-10)
    assert torch.equal(basis, ARMS[arm](d, rank, seed))


@pytest.mark.parametrize("arm", ARMS)
@LAW
@given(DIMS, SEEDS, st.data())
def test_the_first_columns_of_every_arm_are_its_smaller_basis(arm: str, d: int, seed: int, data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, d))
    k = data.draw(st.integers(1, rank))
    larger, smaller = ARMS[arm](d, rank, seed), ARMS[arm](d, k, seed)
    assert subspace_overlap(larger[:, :k], smaller) == pytest.approx(1.0, abs=1e-6)
    torch.testing.assert_close(larger[:, :k], smaller, rtol=0, atol=1e-6)


@LAW
@given(DIMS, SEEDS, st.sampled_from([1e-8, 1.0, 1e8]))
def test_a_contrast_does_not_depend_on_the_units_of_either_text(d: int, seed: int, factor: float) -> None:
    first, second = _moments(d, seed)
    k = max(1, d // 2)
    for basis in (
        lambda a, b: contrastive_basis(a, b, k, epsilon=1e-2),
        lambda a, b: difference_basis(a, b, k, beta=0.7),
    ):
        assert subspace_overlap(basis(first, second), basis(factor * first, second)) == pytest.approx(1.0, abs=1e-6)
        assert subspace_overlap(basis(first, second), basis(first, factor * second)) == pytest.approx(1.0, abs=1e-6)


@LAW
@given(DIMS, st.tuples(SEEDS, SEEDS).filter(lambda seeds: seeds[0] != seeds[1]))
def test_another_seed_is_another_random_subspace(d: int, seeds: tuple[int, int]) -> None:
    first, second = (random_basis(d, 1, seed=seed) for seed in seeds)
    assert subspace_overlap(first, second) < 1 - 1e-12
