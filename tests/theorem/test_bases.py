"""What each basis promises: no other subspace of its rank does better at what it is chosen for."""

from __future__ import annotations

import pytest
import scipy.linalg
import torch
from torch import Tensor

from readwrite_edit.errors import ShapeError
from readwrite_edit.geometry import (
    contrastive_basis,
    difference_basis,
    energy_null,
    minor_basis,
    principal_basis,
    random_basis,
    rank_for_energy,
    singular_basis,
    whitened,
)

D, EPSILON = 10, 1e-2


def gaussian(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def second_moment(seed: int, tokens: int = 40) -> Tensor:
    inputs = gaussian(tokens, D, seed=seed) * torch.linspace(2.0, 0.3, D, dtype=torch.float64).roll(3 * seed)
    return inputs.T @ inputs / tokens


def projector(basis: Tensor) -> Tensor:
    return basis @ basis.T


def span_of(columns: Tensor) -> Tensor:
    return projector(torch.linalg.qr(columns)[0])


def rivals(basis: Tensor) -> list[Tensor]:
    """Subspaces of the same rank: random ones, and near ones in random directions."""
    rank = basis.shape[1]
    far = [torch.linalg.qr(gaussian(D, rank, seed=seed))[0] for seed in range(30)]
    near = [torch.linalg.qr(basis + 0.05 * gaussian(D, rank, seed=seed))[0] for seed in range(30, 60)]
    return far + near


@pytest.fixture
def alignment() -> Tensor:
    return second_moment(1)


@pytest.fixture(params=[40, 4], ids=["full", "singular"])
def protected(request: pytest.FixtureRequest) -> Tensor:
    """C_protect of many tokens, and of so few that it has no inverse."""
    return second_moment(2, request.param)


def floored(protected: Tensor) -> Tensor:
    return protected + EPSILON * protected.trace() / D * torch.eye(D, dtype=torch.float64)


def contrast(basis: Tensor, alignment: Tensor, protected: Tensor) -> float:
    """Σ of generalised Rayleigh quotients over a subspace: tr((UᵀPU)⁻¹ UᵀCU)."""
    return float(torch.linalg.solve(basis.T @ floored(protected) @ basis, basis.T @ alignment @ basis).trace())


@pytest.mark.parametrize("rank", [1, 3, D])
def test_the_contrastive_basis_spans_the_top_generalised_eigenvectors(
    rank: int, alignment: Tensor, protected: Tensor
) -> None:
    _, vectors = scipy.linalg.eigh(alignment.numpy(), floored(protected).numpy())
    top = torch.from_numpy(vectors[:, ::-1].copy())
    basis = contrastive_basis(alignment, protected, rank, epsilon=EPSILON)
    for k in range(1, rank + 1):
        torch.testing.assert_close(projector(basis[:, :k]), span_of(top[:, :k]), rtol=0, atol=1e-8)


@pytest.mark.parametrize("rank", [1, 3])
def test_no_subspace_has_a_larger_contrast(rank: int, alignment: Tensor, protected: Tensor) -> None:
    values = scipy.linalg.eigh(alignment.numpy(), floored(protected).numpy(), eigvals_only=True)[::-1]
    basis = contrastive_basis(alignment, protected, rank, epsilon=EPSILON)
    best = contrast(basis, alignment, protected)
    assert best == pytest.approx(sum(values[:rank]))
    assert all(contrast(rival, alignment, protected) < best for rival in rivals(basis))
    assert contrast(principal_basis(alignment, rank), alignment, protected) < best


def test_a_higher_epsilon_leads_back_to_the_principal_basis(alignment: Tensor, protected: Tensor) -> None:
    basis = contrastive_basis(alignment, protected, 3, epsilon=1e9)
    torch.testing.assert_close(projector(basis), projector(principal_basis(alignment, 3)), rtol=0, atol=1e-5)


def test_the_difference_form_takes_the_top_of_the_difference(alignment: Tensor, protected: Tensor) -> None:
    matrix = alignment / alignment.trace() - 0.6 * protected / protected.trace()
    _, vectors = scipy.linalg.eigh(matrix.numpy())
    basis = difference_basis(alignment, protected, 3, beta=0.6)
    torch.testing.assert_close(projector(basis), span_of(torch.from_numpy(vectors[:, -3:].copy())), rtol=0, atol=1e-9)
    unprotected = difference_basis(alignment, protected, 3, beta=0.0)
    torch.testing.assert_close(projector(unprotected), projector(principal_basis(alignment, 3)), rtol=0, atol=1e-9)


@pytest.mark.parametrize("rank", [1, 4])
def test_no_subspace_holds_more_energy_than_the_principal_or_less_than_the_minor(rank: int, alignment: Tensor) -> None:
    principal, minor = principal_basis(alignment, rank), minor_basis(alignment, rank)
    most, least = energy_null(alignment, principal), energy_null(alignment, minor)
    values = torch.linalg.eigvalsh(alignment)
    assert most == pytest.approx(float(values[-rank:].sum() / values.sum()))
    assert least == pytest.approx(float(values[:rank].sum() / values.sum()))
    assert all(least < energy_null(alignment, rival) < most for rival in rivals(principal) + rivals(minor))


def test_minor_and_principal_directions_make_up_the_space(alignment: Tensor) -> None:
    whole = projector(principal_basis(alignment, 4)) + projector(minor_basis(alignment, D - 4))
    torch.testing.assert_close(whole, torch.eye(D, dtype=torch.float64), rtol=0, atol=1e-10)
    weakest = minor_basis(alignment, 3)
    quotients = torch.einsum("dk,de,ek->k", weakest, alignment, weakest)
    assert bool((quotients.diff() > 0).all()), "weakest first"


@pytest.mark.parametrize("energy", [0.01, 0.3, 0.7, 0.95, 0.999, 1.0])
def test_rank_for_energy_is_enough_and_one_less_is_not(energy: float, alignment: Tensor) -> None:
    rank = rank_for_energy(alignment, energy)
    assert energy_null(alignment, principal_basis(alignment, rank)) >= energy - 1e-12
    assert rank == 1 or energy_null(alignment, principal_basis(alignment, rank - 1)) < energy


def test_rank_for_energy_of_known_spectra() -> None:
    """Shares 0.5, 0.25, 0.125, 0.125: sums that binary fractions hold exactly."""
    matrix = torch.diag(torch.tensor([1.0, 4.0, 2.0, 1.0]))
    assert [rank_for_energy(matrix, energy) for energy in (0.5, 0.51, 0.75, 0.8, 0.875, 1.0)] == [1, 2, 2, 3, 3, 4]
    assert rank_for_energy(torch.diag(torch.tensor([0.0, 3.0, -1e-9])), 1.0) == 1


@pytest.mark.parametrize("shape", [(7, D), (16, D)])
def test_the_singular_basis_is_that_of_the_svd(shape: tuple[int, int]) -> None:
    matrix = gaussian(*shape, seed=5)
    right = torch.linalg.svd(matrix)[2].T
    basis = singular_basis(matrix.float(), 4)
    torch.testing.assert_close(projector(basis), projector(right[:, :4]), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        basis.T @ right[:, :4], torch.eye(4).double() * (basis.T @ right[:, :4]).sign(), atol=1e-5, rtol=0
    )


def test_random_subspaces_favour_no_direction() -> None:
    """The mean projector of uniform subspaces is k/d · I; its entries have a deviation near 0.01 here."""
    mean = sum(projector(random_basis(D, 3, seed=seed)) for seed in range(800)) / 800
    torch.testing.assert_close(mean, 0.3 * torch.eye(D, dtype=torch.float64), rtol=0, atol=0.035)


def test_whitened_columns_see_equal_energy_in_the_same_span(alignment: Tensor) -> None:
    for basis in (principal_basis(alignment, 4), random_basis(D, 4, seed=3)):
        scaled = whitened(basis, alignment)
        seen = scaled.T @ alignment @ scaled
        mean = (basis.T @ alignment @ basis).trace() / 4
        assert torch.allclose(seen, mean * torch.eye(4, dtype=seen.dtype), atol=1e-10)
        assert torch.allclose(span_of(scaled), projector(basis), atol=1e-10)


def test_a_direction_without_energy_is_scaled_by_no_more_than_a_thousand() -> None:
    axes = torch.eye(3, 2, dtype=torch.float64)
    scaled = whitened(axes, torch.diag(torch.tensor([2.0, 0.0, 1.0])))
    assert torch.allclose(scaled, axes * torch.tensor([0.5**0.5, 1000.0]))
    with pytest.raises(ShapeError, match="no energy along these directions"):
        whitened(axes, torch.zeros(3, 3))
