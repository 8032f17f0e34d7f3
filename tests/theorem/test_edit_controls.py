"""Controls are matched as they say, replace what they say, and rank an edit of their own kind fairly."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from readwrite_edit.edit.controls import compare
from readwrite_edit.edit.controls.draws import (
    frame_outside,
    generator_of,
    haar_frame,
    other_outputs,
    rotated_key_rows,
    row_factors,
)
from readwrite_edit.edit.controls.families import BOTH, ENERGY, FROBENIUS, Control, families_of
from readwrite_edit.edit.controls.parts import Part, parts_of
from readwrite_edit.edit.effects import TargetEffect
from readwrite_edit.edit.measure import Measured
from readwrite_edit.edit.metric import Metric
from readwrite_edit.edit.plan import Plan, Prompt
from readwrite_edit.edit.settings.base import Controls
from readwrite_edit.errors import DataError
from readwrite_edit.geometry import LowRank, eigh_descending
from readwrite_edit.interventions.changes import Change, Variant
from readwrite_edit.models.pathways import Projection
from tests.ready_context import ready_context

D = 10


def covariance(d: int = D, seed: int = 0) -> Tensor:
    x = torch.randn(400, d, generator=generator_of(seed), dtype=torch.float64) * torch.logspace(1, -1, d)
    return x.T @ x / 400


def dense(control: Control | Sequence[Change]) -> list[Tensor]:
    changes = control.changes if isinstance(control, Control) else control
    return [change.update.B.double() @ change.update.A.double() for change in changes]


@pytest.fixture(scope="module")
def context():
    return ready_context("llama", project={"direction": {"token": "a"}}, controls={"count": 5, "others": 3})


def head_change(context, rank: int = 2) -> Change:
    """An edit of one head of W_Q with a constant there."""
    projection = context.pathways.select(["q_proj"], [0])[0]
    generator = generator_of(4)
    B, bias = torch.zeros(projection.d_out, rank), torch.zeros(projection.d_out)
    rows = slice(context.pathways.d_head, 2 * context.pathways.d_head)
    B[rows] = torch.randn(context.pathways.d_head, rank, generator=generator)
    bias[rows] = torch.randn(context.pathways.d_head, generator=generator)
    return Change(projection, LowRank(B, torch.randn(rank, projection.d_in, generator=generator)), bias)


def write_change(context, rank: int = 1) -> Change:
    """An edit of the MLP's output."""
    projection = context.pathways.select(["down_proj"], [0])[0]
    generator = generator_of(5)
    B = torch.randn(projection.d_out, rank, generator=generator)
    return Change(projection, LowRank(B, 0.1 * torch.randn(rank, projection.d_in, generator=generator)))


def controls(context, changes: Sequence[Change], *, inverted: bool = True) -> tuple[tuple[Part, ...], list[Control]]:
    if inverted:
        for change in changes:
            context.metric(change.projection)
    tested = parts_of(context, Plan(tuple(changes), "a test"))
    families, _ = families_of(context, tested, context.recipe.controls)
    return tested, [control for family in families for control in family.make(range(family.size))]


def test_every_control_is_matched_as_it_says_matrix_by_matrix(context) -> None:
    tested, found = controls(context, [head_change(context), write_change(context)])
    assert {control.family for control in found} == {
        *("random_input", "random_output", "complement", "bottom", "rotated", "sign_flip", "other_layer"),
    }
    for control in found:
        moments = context.statistics([change.projection for change in control.changes])
        norms, energies = [], []
        for one, delta, change in zip(tested, dense(control), control.changes, strict=True):
            C = moments.second_moment(change.projection.site)
            norms.append(float(delta.norm()))
            energies.append(float(torch.trace(delta @ C @ delta.T)))
            if control.matching in (FROBENIUS, BOTH):
                assert norms[-1] == pytest.approx(float(dense([one.change])[0].norm()), rel=1e-9)
            if control.matching in (ENERGY, BOTH):
                assert energies[-1] == pytest.approx(one.energy, rel=1e-9)
        assert control.norm == pytest.approx(math.hypot(*norms), rel=1e-9)
        assert control.energy == pytest.approx(sum(energies), rel=1e-9)


def test_each_family_replaces_what_it_says(context) -> None:
    change = head_change(context)
    tested, found = controls(context, [change])
    B, A = change.update.B.double(), change.update.A.double()
    _, vectors = eigh_descending(tested[0].second_moment)
    weakest = vectors[:, -3 * len(A) - 2 :]
    elsewhere = {control.changes[0].projection.layer for control in found if control.family == "other_layer"}
    assert elsewhere == {1}
    for control in found:
        new = control.changes[0]
        scale = float(new.update.B.norm() / B.norm())
        if control.family not in ("random_output", "sign_flip"):
            assert torch.allclose(new.update.B, scale * B)
            assert torch.equal(new.bias, change.bias.double())
        if control.family in ("random_input", "complement", "bottom"):
            assert torch.allclose(new.update.A @ new.update.A.T, A @ A.T)
            assert not torch.allclose(new.update.A, A, atol=0.1)
        if control.family == "complement":
            assert (new.update.A @ A.T).abs().max() < 1e-9
        if control.family == "bottom":
            assert (new.update.A @ weakest).norm() == pytest.approx(float(A.norm()), rel=1e-6)
        if control.family == "other_layer":
            assert torch.equal(new.update.A, A)
        if control.family == "sign_flip":
            assert torch.equal(dense(control)[0], -(B @ A))
            assert torch.equal(new.bias, -change.bias.double())


def test_random_outputs_stay_in_the_rows_that_are_edited_and_turn_the_constant(context) -> None:
    change = head_change(context)
    _, found = controls(context, [change])
    own = torch.cat([change.update.B.double(), change.bias.double().unsqueeze(1)], dim=1)
    outputs = [control.changes[0] for control in found if control.family == "random_output"]
    assert len(outputs) == 5
    for new in outputs:
        columns = torch.cat([new.update.B, new.bias.unsqueeze(1)], dim=1)
        assert torch.allclose(columns.T @ columns, own.T @ own)
        assert (columns[(own == 0).all(dim=1)] == 0).all()
        assert (columns - own).norm() > 0.1 * own.norm()


def test_draws_are_seeded_one_by_one(context) -> None:
    """The same index gives the same control, however many are asked for; another index another."""
    _, found = controls(context, [write_change(context)])
    tested = parts_of(context, Plan((write_change(context),), "a test"))
    family = families_of(context, tested, context.recipe.controls)[0][0]
    first = dense(family.make(range(2, 3))[0])[0]
    inputs = [control for control in found if control.family == "random_input" and control.matching == FROBENIUS]
    assert torch.equal(first, dense(inputs[2])[0])
    assert not torch.allclose(first, dense(inputs[1])[0])
    other, _ = families_of(context, tested, context.recipe.controls.model_copy(update={"seed": 1}))
    assert not torch.allclose(first, dense(other[0].make(range(2, 3))[0])[0])


def test_frames_are_uniform() -> None:
    """E[v vᵀ] = I/d, and the first coordinate of a unit vector has (1 + u)/2 ~ Beta((d − 1)/2, (d − 1)/2)."""
    generator = generator_of(0)
    frames = torch.stack([haar_frame(2, 5, generator) for _ in range(2000)])
    assert torch.allclose(frames @ frames.transpose(1, 2), torch.eye(2, dtype=torch.float64).expand(2000, 2, 2))
    for row in (0, 1):
        law = stats.beta(2, 2, loc=-1, scale=2)
        for column in (0, 1, 4):  # QR alone fixes the signs of the first ones
            assert stats.kstest(frames[:, row, column].numpy(), law.cdf).pvalue > 0.01
    taken = haar_frame(3, 5, generator)
    outside = torch.stack([frame_outside(taken, 2, generator) for _ in range(50)])
    assert (outside @ taken.T).abs().max() < 1e-12
    assert torch.allclose(outside @ outside.transpose(1, 2), torch.eye(2, dtype=torch.float64).expand(50, 2, 2))


def test_rotated_keys_are_those_of_a_dense_rotation() -> None:
    """Its law is that of A C Q C⁻¹ Qᵀ with Q drawn whole: three statistics of 400 draws each."""
    C, generator = covariance(), generator_of(1)
    metric = Metric(C, 0.0, 1.0, 1.0, 1)
    A = torch.randn(2, D, generator=generator, dtype=torch.float64)
    keys = C @ A.T
    fast = [rotated_key_rows(A, C, metric.solve, generator) for _ in range(400)]
    slow = []
    for _ in range(400):
        Q = haar_frame(D, D, generator)
        slow.append(keys.T @ Q @ torch.linalg.inv(C) @ Q.T)
    probe = torch.randn(D, generator=generator, dtype=torch.float64)
    for statistic in (lambda rows: rows[0] @ keys[:, 1], lambda rows: rows.norm(), lambda rows: rows[1] @ probe):
        found = [np.array([float(statistic(rows)) for rows in drawn]) for drawn in (fast, slow)]
        assert stats.ks_2samp(*found).pvalue > 0.01


def test_row_factors_give_the_rows_back() -> None:
    A = torch.randn(3, D, generator=generator_of(2))
    L, V = row_factors(A)
    assert torch.allclose(L @ V, A.double())
    assert torch.allclose(V @ V.T, torch.eye(3, dtype=torch.float64))


def test_outputs_of_fewer_rows_than_columns_keep_their_gram_matrix() -> None:
    columns = torch.zeros(6, 4, dtype=torch.float64)
    columns[1:3] = torch.randn(2, 4, generator=generator_of(3), dtype=torch.float64)
    new = other_outputs(columns, generator_of(4))
    assert torch.allclose(new.T @ new, columns.T @ columns)
    assert (new[[0, 3, 4, 5]] == 0).all()


class Toward:
    """T = ⟨ΔW, M⟩ with a matrix for each observation: cheap, and its own best edit is M."""

    name, version = "inner product", 1

    def __init__(self, matrices: Tensor) -> None:
        self._matrices = matrices
        self.observations = tuple(f"matrix {index}" for index in range(len(matrices)))

    def measure(self, variants: Sequence[Variant]) -> Tensor:
        return torch.stack([(self._matrices * dense(variant)[0]).sum(dim=(1, 2)) for variant in variants])


def toward(change: Change, observations: int = 7) -> Toward:
    noise = torch.randn(observations, *change.update.shape, generator=generator_of(6), dtype=torch.float64)
    return Toward(dense([change])[0] + 0.1 * noise)


def test_a_planted_edit_beats_its_controls_and_says_so(context) -> None:
    change = write_change(context)
    told: list[tuple[int, int]] = []
    wide = with_controls(context, count=19)
    found = compare(wide, Plan((change,), "a test", effect=toward(change)), advance=lambda *at: told.append(at))
    effects = found.tables["effects"].set_index(["family", "matching"])
    assert effects.loc[("random_input", FROBENIUS), "p_value"] == pytest.approx(1 / 20)
    assert effects.loc[("random_output", BOTH), "reached"] == 0
    assert effects.loc[("random_output", BOTH), "p_value_observations"] < 0.02
    row = effects.loc[("random_input", ENERGY)]
    assert row["low"] < row["difference"] < row["high"]
    assert row["difference"] == pytest.approx(row["effect"] - row["control_mean"])
    assert row["effect_size"] == pytest.approx(row["difference"] / row["control_sd"])
    assert found.verdict.startswith("beyond its random controls: inner product")
    assert told[-1] == (len(found.tables["controls"]), len(found.tables["controls"]))
    measured = Measured(figures={"kl_prose": 0.25, "effect": 1.0})
    assert "KL to the base 0.25 on prose" in found.with_cost(measured.cost).verdict
    assert found.with_cost(Measured().cost).verdict.endswith("; its cost was not measured (no neutral text was read)")
    assert found.with_cost(Measured.nothing().cost).verdict.endswith("not measured (measure.certify: false)")


def with_controls(context, **options):
    """The same context under a recipe with other controls."""
    other = copy.copy(context)
    other.recipe = context.recipe.model_copy(update={"controls": Controls(**options)})
    return other


def test_an_edit_that_does_nothing_special_is_not_called_better(context) -> None:
    change = write_change(context)
    away = Toward(-toward(change)._matrices)
    wide = with_controls(context, count=19)
    assert compare(wide, Plan((change,), "a test", effect=away)).verdict.startswith("NOT beyond")
    few = with_controls(context, count=5)
    assert compare(few, Plan((change,), "a test", effect=toward(change))).verdict.startswith("too few")


def test_p_values_of_an_edit_like_its_controls_are_uniform() -> None:
    """An edit whose input is itself drawn at random has every rank with the same chance."""
    projection = Projection(0, "down_proj", "m", None, "s", D, 4)
    C, found = covariance(), []
    M = torch.randn(4, D, generator=generator_of(7), dtype=torch.float64)
    fake = Lone()
    for trial in range(300):
        generator = generator_of(1000 + trial)
        u = torch.randn(4, 1, generator=generator, dtype=torch.float64)
        change = Change(projection, LowRank(u, haar_frame(1, D, generator)))
        tested = (Part(change, C, None, f"trial {trial}"),)
        family = families_of(fake, tested, Controls(count=9))[0][0]
        drawn = [control for control in family.make(range(9)) if control.matching == FROBENIUS]
        values = [float((M * dense(control)[0]).sum()) for control in drawn]
        found.append(sum(value >= float((M * dense([change])[0]).sum()) for value in values))
    assert stats.chisquare(np.bincount(found, minlength=10)).pvalue > 0.01


class Lone:
    """A model of one matrix: there is no other layer."""

    pathways = SimpleNamespace(n_layers=1, projections=())


def test_switched_off_and_aimless_controls_say_so(context) -> None:
    change = write_change(context)
    plan = Plan((change,), "a test", effect=toward(change))
    off = compare(with_controls(context, count=0), plan)
    assert (off.verdict, dict(off.tables)) == ("no controls", {})
    assert "controls.count: 0" in off.notes[0]
    aimless = compare(context, replace(plan, effect=None))
    assert (aimless.verdict, dict(aimless.tables)) == ("no controls", {})
    assert "aims at nothing" in aimless.notes[0]


def test_families_that_do_not_fit_are_left_out_with_the_reason(context) -> None:
    fresh = with_controls(context)
    fresh._metrics = {}
    wide = Change(write_change(context).projection, LowRank(torch.randn(48, 41), torch.randn(41, 80)))
    tested = parts_of(fresh, Plan((wide,), "a test"))
    families, notes = families_of(fresh, tested, Controls(count=2, others=1))
    assert {family.name for family in families} == {
        "random_input",
        "random_output",
        "bottom",
        "sign_flip",
        "other_layer",
    }
    assert any("complement" in note for note in notes)
    assert any("solves no system" in note for note in notes)


def test_what_can_not_be_matched_is_left_out_with_the_reason(context) -> None:
    """An edit of inputs that are always zero has no energy to match; statistics may lack the other layers."""
    fresh = with_controls(context)
    own = write_change(context)
    C = torch.zeros(80, 80, dtype=torch.float64)
    C[0, 0] = 1.0
    blind = Change(own.projection, LowRank(own.update.B.double(), torch.eye(80, dtype=torch.float64)[1:2]))
    families, notes = families_of(fresh, (Part(blind, C, None, "blind"),), Controls(count=2))
    assert {matching for family in families for matching in family.matchings} == {FROBENIUS, BOTH}
    assert any("adds nothing" in note for note in notes)
    parts = parts_of(context, Plan((own,), "a test"))
    fresh.statistics = refusing
    families, notes = families_of(fresh, parts, Controls(count=2))
    assert "other_layer" not in {family.name for family in families}
    assert any("no statistics of site 'x'" in note for note in notes)


def refusing(_projections):
    raise DataError("no statistics of site 'x'")


def test_controls_that_read_nothing_are_counted_as_left_out() -> None:
    """C holds one direction, and the complement of an edit along it is blind: nothing there has its energy."""
    projection = Projection(0, "down_proj", "m", None, "s", 2, 4)
    change = Change(projection, LowRank(torch.ones(4, 1).double(), torch.tensor([[0.6, 0.8]]).double()))
    part = Part(change, torch.tensor([[0.36, 0.48], [0.48, 0.64]]).double(), None, "one")
    families, _ = families_of(Lone(), (part,), Controls(count=1, others=2))
    complement = next(family for family in families if family.name == "complement")
    assert complement.total == 4
    assert [control.matching for control in complement.make(range(2))] == [FROBENIUS, FROBENIUS]


def test_controls_run_in_the_model_many_at_a_time(context) -> None:
    """The step along a key towards a target's logit raises it more than random edits do."""
    model = context.model
    prompts = [Prompt("prompt", item, f"{item}", (5, 9 + item, 30, 17), (40,)) for item in range(3)]
    projection = context.pathways.select(["down_proj"], [1])[0]
    read: list[Tensor] = []
    hook = model.get_submodule(projection.module).register_forward_pre_hook(lambda _m, x: read.append(x[0]))
    with torch.no_grad():
        model(torch.tensor([prompt.ids for prompt in prompts]))
    hook.remove()
    key = read[0][:, -1].mean(dim=0, keepdim=True)
    push = model.get_output_embeddings().weight[40].detach().unsqueeze(1)
    change = Change(projection, LowRank(push, 0.5 * key))
    wide = with_controls(context, count=19, per_pass=7)
    found = compare(wide, Plan((change,), "a test", effect=TargetEffect(model, prompts)))
    effects = found.tables["effects"].set_index(["family", "matching"])
    assert effects.loc[("random_output", BOTH), "p_value"] == pytest.approx(1 / 20)
    assert effects.loc[("sign_flip", BOTH), "control_mean"] < 0 < effects["effect"].iloc[0]
    assert found.figures["p_random_input_frobenius"] <= 0.1
