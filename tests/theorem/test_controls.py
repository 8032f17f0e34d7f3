"""Controls are what they claim: matched in norm or in output energy, of the same spectrum, outside a subspace."""

from __future__ import annotations

import pytest
import torch

from readwrite_edit.errors import ShapeError
from readwrite_edit.geometry import eigh_descending
from readwrite_edit.interventions.controls import (
    bottom_directions,
    complement_directions,
    direction_energy,
    energy_matched,
    head_block,
    random_directions,
    rotated_covariance,
    rotated_directions,
    seed_of,
)
from readwrite_edit.models.pathways import Projection
from readwrite_edit.probe.causal.plan import BLOCKS, ENERGY, FROBENIUS, Matrix, Neighbour, Trial, trials_of
from readwrite_edit.probe.settings.causal import CausalSettings

DIM, OUT = 12, 10


def second_moment(seed: int = 0, dim: int = DIM) -> torch.Tensor:
    x = torch.randn(200, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (x * torch.logspace(1, -1, dim)).T @ (x * torch.logspace(1, -1, dim)) / 200


def projection(layer: int, role: str = "o_proj") -> Projection:
    return Projection(layer, role, f"layers.{layer}.{role}", None, f"layers.{layer}.in", DIM, OUT)


def matrix(role: str = "o_proj") -> Matrix:
    values, vectors = eigh_descending(second_moment())
    prediction = torch.linalg.qr(torch.randn(OUT, OUT, dtype=torch.float64))[0]
    return Matrix(
        projection=projection(0, role),
        norm=2.0,
        second_moment=second_moment(),
        values=values,
        vectors=vectors,
        outputs=prediction[:, :2].T,
        prediction=prediction if role == "o_proj" else None,
        neighbour=Neighbour(projection(1, role), second_moment(1)),
    )


def trials(block: str, role: str = "o_proj", **options) -> list[Trial]:
    settings = CausalSettings(model="x", controls=20, k=4, others=3, directions=2, **options)
    return trials_of(matrix(role), block, settings)


def energy_beside(trial: Trial) -> float:
    """ε² vᵀCv of the edit that a control stands beside."""
    return (trial.dose * matrix().norm) ** 2 * float(matrix().values[trial.direction])


def own_moment(trial: Trial) -> torch.Tensor:
    return second_moment(trial.edit.projection.layer)


def measured_energy(trial: Trial) -> float:
    """tr(ΔW C ΔWᵀ), from the dense update."""
    delta_w = trial.edit.delta_w().double()
    return float(torch.trace(delta_w @ own_moment(trial) @ delta_w.T))


def test_energy_controls_have_the_same_output_energy() -> None:
    found = trials(ENERGY)
    assert {trial.family for trial in found} == {"random", "complement", "bottom", "rotated", "other_layer"}
    for trial in found:
        assert measured_energy(trial) == pytest.approx(energy_beside(trial), rel=1e-6)


def test_frobenius_controls_have_the_same_norm() -> None:
    for trial in trials(FROBENIUS):
        assert float(torch.linalg.matrix_norm(trial.edit.delta_w())) == pytest.approx(trial.dose * 2.0, rel=1e-6)


def test_output_controls_have_the_same_norm_and_energy() -> None:
    found = trials("output")
    assert {trial.family for trial in found} == {"random_output", "complement_output", "bottom_output"}
    for trial in found:
        assert float(torch.linalg.matrix_norm(trial.edit.delta_w())) == pytest.approx(trial.dose * 2.0, rel=1e-6)
        assert measured_energy(trial) == pytest.approx(energy_beside(trial), rel=1e-6)


def test_each_trial_says_its_own_energy() -> None:
    for block in BLOCKS:
        for trial in trials(block):
            assert trial.energy == pytest.approx(measured_energy(trial), rel=1e-6)


def test_sign_flip_is_the_opposite_edit() -> None:
    principal, flipped = trials("principal")[:2]
    assert torch.equal(principal.edit.delta_w(), -flipped.edit.delta_w())


def test_all_random_controls_at_the_reference_dose_and_a_few_elsewhere() -> None:
    counts = {
        dose: sum(t.family == "random" and t.dose == dose and t.direction == 0 for t in trials(ENERGY))
        for dose in (0.01, 0.03, 0.1)
    }
    assert counts == {0.01: 3, 0.03: 20, 0.1: 3}


def test_read_side_has_few_other_outputs() -> None:
    found = [trial for trial in trials("output", role="q_proj") if trial.dose == 0.03 and trial.direction == 0]
    assert [trial.family for trial in found] == ["random_output"] * 3


def test_random_directions_are_seeded_prefixes() -> None:
    five, nine = random_directions(DIM, 5, seed=3), random_directions(DIM, 9, seed=3)
    assert torch.equal(nine[:5], five)
    assert not torch.equal(random_directions(DIM, 5, seed=4), five)
    assert torch.allclose(nine.norm(dim=1), torch.ones(9, dtype=torch.float64))


def test_complement_is_orthogonal_to_the_subspace() -> None:
    basis = eigh_descending(second_moment())[1][:, :4]
    rows = complement_directions(basis, 6, seed=0)
    assert (rows @ basis).abs().max() < 1e-12
    assert torch.allclose(rows.norm(dim=1), torch.ones(6, dtype=torch.float64))
    with pytest.raises(ShapeError, match="complement"):
        complement_directions(torch.eye(4), 1, seed=0)


def test_bottom_directions_hold_least_energy_but_some() -> None:
    basis = torch.linalg.qr(torch.randn(DIM, DIM - 1, dtype=torch.float64))[0]
    flat = basis @ torch.diag(torch.arange(DIM - 1, 0, -1, dtype=torch.float64)) @ basis.T  # one empty direction
    values, vectors = eigh_descending(flat)
    rows = bottom_directions(values, vectors, 3)
    assert torch.allclose(direction_energy(flat, rows), torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))


def test_rotation_keeps_the_spectrum_and_nothing_else() -> None:
    moment = second_moment()
    rotated = rotated_covariance(moment, seed=5)
    assert torch.allclose(eigh_descending(rotated)[0], eigh_descending(moment)[0])
    assert not torch.allclose(rotated, moment, atol=0.1)
    top = rotated_directions(moment, 2, seed=5)
    assert torch.allclose(direction_energy(rotated, top), eigh_descending(moment)[0][:2])


def test_rotation_prefers_no_direction() -> None:
    mean = torch.stack([rotated_covariance(second_moment(), seed=seed) for seed in range(400)]).mean(dim=0)
    level = float(second_moment().trace()) / DIM
    assert (mean - level * torch.eye(DIM, dtype=torch.float64)).abs().max() < 0.3 * level


def test_energy_matching_formula() -> None:
    strengths = energy_matched(0.5, 8.0, torch.tensor([8.0, 2.0]))
    assert strengths.tolist() == [0.5, 1.0]  # a quarter of the energy asks for twice the strength


def test_a_head_block_is_one_head() -> None:
    block = head_block(random_directions(12, 1, seed=0)[0], 1, 4)
    assert block[:4].abs().max() == block[8:].abs().max() == 0
    assert float(block.norm()) == pytest.approx(1)
    with pytest.raises(ShapeError, match="heads 0 to 2"):
        head_block(block, 3, 4)


def test_seeds_differ_by_name() -> None:
    assert seed_of(0, "a", 1) == seed_of(0, "a", 1)
    assert len({seed_of(0, "a", 1), seed_of(0, "a1"), seed_of(1, "a", 1), seed_of(0, "b", 1)}) == 4
