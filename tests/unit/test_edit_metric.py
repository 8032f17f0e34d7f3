"""C made fit to be inverted: how far it is shrunk, what is refused, and what its factors give."""

from __future__ import annotations

import math

import pytest
import torch

from readwrite_edit.edit.metric import estimated_shrinkage, metric_of
from readwrite_edit.errors import EditError
from readwrite_edit.geometry import LowRank


def sample(tokens: int, spread: float, dim: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    """A true C with eigenvalues that fall by ``spread`` from first to last, and one estimated from so many inputs."""
    generator = torch.Generator().manual_seed(0)
    values = torch.logspace(0, -math.log10(spread), dim, dtype=torch.float64)
    x = torch.randn(tokens, dim, generator=generator, dtype=torch.float64) * values.sqrt()
    return torch.diag(values), x.T @ x / tokens


def shrunk(C: torch.Tensor, rho: float) -> torch.Tensor:
    return (1 - rho) * C + rho * C.trace() / len(C) * torch.eye(len(C), dtype=C.dtype)


@pytest.mark.parametrize(("tokens", "spread"), [(12, 3.0), (40, 3.0), (40, 100.0), (400, 10.0)])
def test_the_estimated_shrinkage_is_near_the_best_one(tokens: int, spread: float) -> None:
    """The oracle minimises ‖shrunk C − true C‖_F, which only a simulation knows; the estimate comes near its error."""
    true, found = sample(tokens, spread)
    errors = {rho / 100: float((shrunk(found, rho / 100) - true).norm()) for rho in range(101)}
    own = float((shrunk(found, estimated_shrinkage(torch.linalg.eigvalsh(found).flip(0), tokens)) - true).norm())
    assert own <= 1.15 * min(errors.values())


def test_more_tokens_are_shrunk_less_and_an_isotropic_c_wholly() -> None:
    found = [estimated_shrinkage(torch.linalg.eigvalsh(sample(n, 30.0)[1]).flip(0), n) for n in (12, 100, 1000, 10000)]
    assert found == sorted(found, reverse=True) and found[0] > 0.2 and found[-1] < 0.01
    assert estimated_shrinkage(torch.ones(8), 100) == 1.0


def test_what_is_used_is_what_is_stated() -> None:
    _, found = sample(16, 30.0)
    metric = metric_of(found, 16, name="x")
    assert 0 < metric.shrinkage < 1 and metric.raw_condition > 1e12
    assert torch.allclose(metric.second_moment, shrunk(found, metric.shrinkage))
    values = torch.linalg.eigvalsh(metric.second_moment)
    assert metric.condition == pytest.approx(float(values[-1] / values[0]), rel=1e-6)
    keys = torch.randn(24, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.allclose(metric.second_moment @ metric.solve(keys), keys)


def test_a_given_shrinkage_is_taken_and_zero_leaves_c_alone() -> None:
    _, found = sample(400, 10.0)
    assert torch.equal(metric_of(found, 400, 0.0, name="x").second_moment, found)
    assert torch.allclose(metric_of(found, 400, 0.25, name="x").second_moment, shrunk(found, 0.25))


def test_a_singular_c_is_never_replaced_in_silence() -> None:
    _, found = sample(16, 30.0)
    with pytest.raises(
        EditError, match=r"C of the input of site 'a' is singular \(16 tokens for 24 dim.*shrinkage: auto"
    ):
        metric_of(found, 16, 0.0, name="the input of site 'a'")
    with pytest.raises(EditError, match="reads nothing"):
        metric_of(torch.zeros(4, 4), 16, name="x")
    with pytest.raises(EditError, match="not finite"):
        metric_of(torch.full((4, 4), math.nan), 16, name="x")


def test_energy_is_the_mean_squared_length_of_what_is_added() -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(200, 24, generator=generator, dtype=torch.float64)
    update = LowRank(torch.randn(5, 2, generator=generator), torch.randn(2, 24, generator=generator))
    metric = metric_of(x.T @ x / 200, 200, 0.0, name="x")
    assert metric.energy(update) == pytest.approx(
        float((x @ update.dense().double().T).square().sum(1).mean()), rel=1e-6
    )
