"""Closed forms of associations against slow independent ones: constraint, least price, MEMIT's formula, null space."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from readwrite_edit.edit.metric import metric_of
from readwrite_edit.errors import ShapeError
from readwrite_edit.geometry import (
    hard_update,
    key_gain,
    null_space_basis,
    null_space_update,
    ridge_update,
)

D_OUT, D_IN = 7, 12
SHAPES = [(D_OUT, D_IN), (12, 12), (15, 6)]


def problem(d_out: int = D_OUT, d_in: int = D_IN, keys: int = 3, seed: int = 0):
    """C with a spread spectrum, keys K (d_in, m) and residuals R (d_out, m), float64."""
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((200, d_in)) * np.linspace(0.3, 3, d_in)
    C = x.T @ x / len(x)
    return C, generator.standard_normal((d_in, keys)), generator.standard_normal((d_out, keys))


def tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(array) for array in arrays]


def ridge_of(C: np.ndarray, K: np.ndarray, R: np.ndarray, ridge: float) -> np.ndarray:
    C_, K_, R_ = tensors(C, K, R)
    return ridge_update(R_, K_, torch.linalg.solve(C_, K_), ridge).dense().numpy()


def hard_of(C: np.ndarray, k: np.ndarray, r: np.ndarray) -> np.ndarray:
    C_, k_, r_ = tensors(C, k, r)
    return hard_update(r_, k_, torch.linalg.solve(C_, k_)).dense().numpy()


def price(delta: np.ndarray, C: np.ndarray) -> float:
    return float(np.trace(delta @ C @ delta.T))


def by_conditions(C: np.ndarray, K: np.ndarray, R: np.ndarray) -> np.ndarray:
    """min tr(ΔW C ΔWᵀ) with ΔW K = R, row by row from its optimality conditions: 2 C w + K μ = 0, Kᵀ w = r."""
    d_in, m = K.shape
    system = np.block([[2 * C, K], [K.T, np.zeros((m, m))]])
    rows = [np.linalg.lstsq(system, np.concatenate([np.zeros(d_in), r]), rcond=None)[0][:d_in] for r in R]
    return np.stack(rows)


@pytest.mark.parametrize(("d_out", "d_in"), SHAPES)
def test_hard_form_is_the_solution_of_the_optimality_conditions(d_out: int, d_in: int) -> None:
    C, K, R = problem(d_out, d_in, keys=1)
    found = hard_of(C, K[:, 0], R[:, 0])
    assert np.abs(found @ K - R).max() < 1e-12
    assert np.abs(found - by_conditions(C, K, R)).max() < 1e-10
    gain = K[:, 0] @ np.linalg.inv(C) @ K[:, 0]
    assert price(found, C) == pytest.approx(R[:, 0] @ R[:, 0] / gain, rel=1e-10)


@pytest.mark.parametrize(("d_out", "d_in"), SHAPES)
def test_batch_without_ridge_is_the_solution_of_the_optimality_conditions(d_out: int, d_in: int) -> None:
    C, K, R = problem(d_out, d_in)
    found = ridge_of(C, K, R, 0.0)
    assert np.abs(found @ K - R).max() < 1e-10
    assert np.abs(found - by_conditions(C, K, R)).max() < 1e-9


@pytest.mark.parametrize("keys", [1, 4])
def test_nothing_that_meets_the_constraint_is_cheaper(keys: int) -> None:
    """Any feasible update is ΔW + Z (I − K K⁺); 200 random Z of several sizes."""
    C, K, R = problem(keys=keys)
    found = hard_of(C, K[:, 0], R[:, 0]) if keys == 1 else ridge_of(C, K, R, 0.0)
    free = np.eye(D_IN) - K @ np.linalg.pinv(K)
    generator = np.random.default_rng(1)
    for scale in (1e-3, 0.1, 1, 10):
        for _ in range(50):
            other = found + scale * generator.standard_normal((D_OUT, D_IN)) @ free
            assert np.abs(other @ K - R).max() < 1e-9 * max(1, scale)
            assert price(other, C) >= price(found, C) * (1 - 1e-12)


def test_identity_in_place_of_the_second_moment_is_dearer() -> None:
    """The same constraint met by the least Frobenius norm costs more where C is not the identity."""
    C, K, R = problem(keys=1)
    plain = hard_of(np.eye(D_IN), K[:, 0], R[:, 0])
    assert np.abs(plain @ K - R).max() < 1e-12
    assert price(hard_of(C, K[:, 0], R[:, 0]), C) < 0.9 * price(plain, C)


def test_one_key_of_the_batch_form_is_the_hard_form() -> None:
    C, K, R = problem(keys=1)
    assert np.abs(ridge_of(C, K, R, 0.0) - hard_of(C, K[:, 0], R[:, 0])).max() < 1e-12


@pytest.mark.parametrize(("d_out", "d_in", "keys"), [(7, 12, 3), (12, 12, 12), (5, 8, 20), (15, 6, 30)])
@pytest.mark.parametrize("ridge", [0.1, 3.0, 500.0])
def test_ridge_form_is_memits(d_out: int, d_in: int, keys: int, ridge: float) -> None:
    """R Kᵀ (λC + K Kᵀ)⁻¹ with numpy's inverse; also with more keys than outputs and inputs."""
    C, K, R = problem(d_out, d_in, keys)
    expected = R @ K.T @ np.linalg.inv(ridge * C + K @ K.T)
    C_, K_, R_ = tensors(C, K, R)
    update = ridge_update(R_, K_, torch.linalg.solve(C_, K_), ridge)
    assert update.B.shape[1] == min(d_out, d_in, keys)
    assert np.abs(update.dense().numpy() - expected).max() < 1e-9 * np.abs(expected).max()


def test_ridge_minimises_error_plus_price() -> None:
    C, K, R = problem()
    found = ridge_of(C, K, R, 2.0)

    def loss(delta: np.ndarray) -> float:
        return float(((delta @ K - R) ** 2).sum()) + 2.0 * price(delta, C)

    generator = np.random.default_rng(2)
    others = [found + 10.0**-power * generator.standard_normal(found.shape) for power in range(4) for _ in range(25)]
    assert all(loss(other) >= loss(found) for other in others)


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_null_space_form_is_its_formula_and_leaves_protected_keys(ridge: float) -> None:
    """Protected texts live in 5 of 12 directions, and in a little noise besides."""
    _, K, R = problem()
    generator = np.random.default_rng(3)
    inside = np.linalg.qr(generator.standard_normal((D_IN, 5)))[0]
    texts = generator.standard_normal((300, 5)) @ inside.T + 1e-4 * generator.standard_normal((300, D_IN))
    second_moment = texts.T @ texts / len(texts)
    basis = null_space_basis(torch.from_numpy(second_moment), 0.9999).numpy()
    assert basis.shape == (D_IN, 7)
    found = null_space_update(*tensors(R, K, basis), ridge).dense().numpy()
    K_n = basis.T @ K
    expected = R @ K_n.T @ np.linalg.pinv(K_n @ K_n.T + ridge * np.eye(7)) @ basis.T
    assert np.abs(found - expected).max() < 1e-9
    assert np.abs(found @ texts.T).max() < 1e-2 * np.abs(found @ K).max()
    assert np.abs(found @ inside @ inside.T @ K).max() < 1e-2 * np.abs(R).max()
    if ridge == 0:
        assert np.abs(found @ K - R).max() < 1e-9


def test_share_of_energy_decides_the_null_space() -> None:
    """Eigenvalues 8, 1, 0.5, 0.5: 0.75 of 10 needs one direction, 0.85 two, 0.93 three."""
    C = torch.diag(torch.tensor([0.5, 8.0, 1.0, 0.5]))
    assert [null_space_basis(C, share).shape[1] for share in (0.75, 0.85, 0.93)] == [3, 2, 1]
    assert null_space_basis(C, 0.75)[1].abs().max() == 0
    with pytest.raises(ShapeError, match="none is left"):
        null_space_basis(C, 0.99)


def test_one_cholesky_factor_serves_all() -> None:
    C, K, _ = problem()
    metric = metric_of(torch.from_numpy(C), 200, 0.0, name="test")
    expected = np.linalg.inv(C) @ K
    assert np.abs(metric.solve(torch.from_numpy(K)).numpy() - expected).max() < 1e-10
    gain = key_gain(torch.from_numpy(K), metric.solve(torch.from_numpy(K)))
    assert np.abs(gain.numpy() - np.einsum("im,im->m", K, expected)).max() < 1e-10


def test_what_can_not_be_solved_is_refused() -> None:
    C, K, R = problem()
    with pytest.raises(ShapeError, match="not independent"):
        ridge_of(C, np.repeat(K[:, :1], 3, axis=1), R, 0.0)
    with pytest.raises(ShapeError, match="ridge is -1"):
        ridge_of(C, K, R, -1.0)
    with pytest.raises(ShapeError, match="key is zero"):
        hard_of(C, np.zeros(D_IN), R[:, 0])
    with pytest.raises(ShapeError, match="residuals of shape"):
        ridge_of(C, K, R[:, :2], 1.0)
