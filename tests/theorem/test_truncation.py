"""The truncation is the best there is (Eckart-Young), and a projection is one: nothing in the subspace is nearer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from readwrite_edit.errors import ShapeError
from readwrite_edit.geometry import LowRank, random_basis
from readwrite_edit.geometry.truncation import (
    Truncated,
    read_part,
    recompressed,
    squared_norm,
    truncated_svd,
    write_part,
)

RANK, K = 4, 9
SHAPES = [(30, 30), (17, 40), (40, 17), (1300, 12)]  # square, wide, tall, and more rows than a block


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spectrum(kind: str, shape: tuple[int, int]) -> Tensor:
    """A matrix with a flat, a falling or a very steep spectrum."""
    U, S, Vh = torch.linalg.svd(gaussian(*shape, seed=3), full_matrices=False)
    exponents = {"flat": 0.0, "falling": 1.0, "steep": 6.0}
    return U * torch.arange(1, len(S) + 1).double().pow(-exponents[kind]) @ Vh


def slow_truncation(matrix: Tensor, rank: int) -> Tensor:
    U, S, Vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    return U[:, :rank] * S[:rank] @ Vh[:rank]


def check_form(found: Truncated) -> None:
    """Rows of A orthonormal, columns of B orthogonal and as long as the singular values."""
    A, B = found.update.A, found.update.B
    assert (A @ A.T - torch.eye(found.rank)).abs().max() < 1e-12
    assert (B.T @ B - found.singular_values.square().diag()).abs().max() < 1e-12 * max(1.0, found.squared_norm)
    assert float(found.update.dense().square().sum()) == pytest.approx(found.retained)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["falling", "steep"])
def test_equals_the_svd(shape: tuple[int, int], kind: str) -> None:
    matrix = spectrum(kind, shape)
    for rank in (1, RANK, 12):
        found = truncated_svd(matrix, rank)
        assert found.rank == rank
        check_form(found)
        assert (found.update.dense() - slow_truncation(matrix, rank)).norm() < 1e-9 * matrix.norm()
        exact = torch.linalg.svdvals(matrix)[:rank]
        assert (found.singular_values / exact - 1).abs().max() < 1e-6  # also one 3e-7 times the largest
        assert found.squared_norm == pytest.approx(float(matrix.square().sum()))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_flat_spectrum_gives_as_much_as_any_rank_can(shape: tuple[int, int]) -> None:
    """Where all directions are alike any are right, and a randomised decomposition finds too little."""
    found = truncated_svd(spectrum("flat", shape), RANK)
    check_form(found)
    assert found.retained == pytest.approx(RANK, rel=1e-12)


def test_more_than_there_is_gives_all() -> None:
    matrix = gaussian(11, 7)
    assert (truncated_svd(matrix, 50).update.dense() - matrix).abs().max() < 1e-12
    with pytest.raises(ShapeError, match="rank 0: expected at least 1"):
        truncated_svd(matrix, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_stored_types_are_widened_first(dtype: torch.dtype) -> None:
    matrix = gaussian(40, 30).to(dtype)
    assert (truncated_svd(matrix, RANK).update.dense() - slow_truncation(matrix, RANK)).abs().max() < 1e-10


def test_zeros_are_left_out() -> None:
    matrix = gaussian(20, 3) @ gaussian(3, 30, seed=1)
    found = truncated_svd(matrix, 10)
    assert found.rank == 3 and (found.update.dense() - matrix).abs().max() < 1e-10
    twice = LowRank(torch.cat([matrix, matrix], dim=1), torch.cat([torch.eye(30), torch.eye(30)]).double())
    assert recompressed(twice).rank == 3
    nothing = recompressed(LowRank(torch.zeros(5, 2), torch.ones(2, 6)))
    assert nothing.rank == 0 and nothing.squared_norm == 0


@pytest.mark.parametrize("side", ["read", "write"])
def test_nothing_of_the_rank_in_the_subspace_is_nearer(side: str) -> None:
    """Random candidates, and candidates that differ a little from the best: none lies closer to ΔW."""
    delta = spectrum("falling", (20, 24))
    basis = random_basis(24 if side == "read" else 20, K, seed=1)
    project = read_part if side == "read" else write_part
    found = recompressed(project(delta, basis), RANK)
    best = float((delta - found.update.dense()).norm())
    generator = torch.Generator().manual_seed(5)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    for trial in range(300):
        size = 10.0 ** -(trial % 6)
        if trial < 30:  # far from the best: its own best coefficients for a random subspace
            rows = torch.linalg.qr((basis @ draw(K, RANK)) if side == "read" else draw(24, RANK))[0]
            other = project(delta, basis).dense() @ rows @ rows.T
        else:
            B, A = found.update.B + size * draw(20, RANK), found.update.A + size * draw(RANK, 24)
            other = project(B @ A, basis).dense()
        assert float((delta - other).norm()) >= best - 1e-12


@pytest.mark.parametrize("side", ["read", "write"])
def test_the_projection_of_factors_is_that_of_the_matrix_and_idempotent(side: str) -> None:
    update = LowRank(gaussian(20, 6), gaussian(6, 24, seed=1))
    basis = random_basis(24 if side == "read" else 20, K, seed=1)
    project = read_part if side == "read" else write_part
    full = basis @ basis.T
    expected = update.dense() @ full if side == "read" else full @ update.dense()
    for given in (update, update.dense()):
        once = project(given, basis)
        assert (once.dense() - expected).abs().max() < 1e-12
        assert (project(once, basis).dense() - expected).abs().max() < 1e-12
    complement = update.dense() - expected
    assert float(complement.square().sum() + expected.square().sum()) == pytest.approx(squared_norm(update.dense()))
    with pytest.raises(ShapeError, match="but the update's d_"):
        project(update, random_basis(23, K, seed=1))


def test_recompression_is_exact_and_cuts_as_the_svd_cuts() -> None:
    update = LowRank(gaussian(20, 6), gaussian(6, 24, seed=1))
    whole = recompressed(update)
    check_form(whole)
    assert whole.rank == 6 and (whole.update.dense() - update.dense()).abs().max() < 1e-12
    cut = recompressed(update, RANK)
    assert (cut.update.dense() - slow_truncation(update.dense(), RANK)).abs().max() < 1e-12
    assert cut.squared_norm == pytest.approx(squared_norm(update.dense())) and cut.retained < cut.squared_norm
    assert (whole.cut(RANK).update.dense() - cut.update.dense()).abs().max() < 1e-12


def test_the_lowest_rank_that_holds_a_share() -> None:
    """Singular values 4, 2, 2, 1: energies 16, 4, 4, 1 of 25."""
    matrix = torch.zeros(6, 5, dtype=torch.float64)
    matrix[range(4), range(4)] = torch.tensor([4.0, 2.0, 2.0, 1.0]).double()
    found = truncated_svd(matrix, 5)
    shares = {0.1: 1, 16 / 25: 1, 0.65: 2, 0.8: 2, 24 / 25: 3, 0.97: 4, 1.0: 4}
    assert {share: found.holding(share).rank for share in shares} == shares
    assert found.cut(2).holding(1.0).rank == 2, "all that is there"
