"""The price of an edit is that of its dense delta, and earlier edits are met as they are."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from readwrite_edit.edit import preflight as module
from readwrite_edit.edit.overlaps import contradictions, overlap, overlaps_table
from readwrite_edit.edit.plan import Plan
from readwrite_edit.edit.preflight import preflight
from readwrite_edit.errors import DataError
from readwrite_edit.geometry import LowRank
from readwrite_edit.interventions.changes import Change
from readwrite_edit.models.pathways import weight_of
from readwrite_edit.probe.delta.entries import rounding_step
from tests.ready_context import ready_context
from tests.small_edits import dense, random_change

D, OUT = 7, 5


@pytest.fixture
def context(monkeypatch):
    monkeypatch.setattr(module, "load_config", lambda _source: None)  # the files' type is then the model's
    return ready_context("llama", project={"direction": {"token": "a"}})


def matrices(context, *roles: str):
    return context.pathways.select(list(roles), [1])


def test_each_row_is_the_price_of_the_dense_delta(context) -> None:
    changes = [random_change(one, 2) for one in matrices(context, "q_proj", "down_proj")]
    context.model.bfloat16()
    found = preflight(context, Plan(tuple(changes), "a test"), {})
    assert list(found.tables) == ["preflight"]
    for change, row in zip(changes, found.table.itertuples(), strict=True):
        delta, W = dense([change])[1, change.projection.role], weight_of(context.model, change.projection).double()
        C = context.statistics([change.projection]).second_moment(change.projection.site)
        small = delta.abs() <= rounding_step(W.float(), torch.bfloat16)
        expected = {
            "norm": delta.norm(),
            "weight_norm": W.norm(),
            "relative_norm": delta.norm() / W.norm(),
            "predicted_damage": torch.trace(delta @ C @ delta.T),
            "predicted_damage_per_output": torch.trace(delta @ C @ delta.T) / len(delta),
            "output_energy": torch.trace(W @ C @ W.T),
            "relative_damage": torch.trace(delta @ C @ delta.T) / torch.trace(W @ C @ W.T),
            "under_step_fraction": (delta[small].square().sum() / delta.square().sum()),
        }
        for name, value in expected.items():
            assert getattr(row, name) == pytest.approx(float(value), rel=1e-4), name
        assert (row.layer, row.module, row.rank, row.tokens, row.step_dtype) == (
            1,
            change.projection.role,
            2,
            320,
            "bfloat16",
        )
        assert math.isnan(row.condition)
        assert row.under_step_fraction > 0
    assert found.predicted_damage == pytest.approx(found.table["predicted_damage"].sum())
    assert found.figures["norm"] == pytest.approx(math.hypot(*found.table["norm"]))


def test_condition_and_shrinkage_are_those_of_the_metric_that_was_inverted(context) -> None:
    change = random_change(matrices(context, "down_proj")[0])
    metric = context.metric(change.projection)
    found = preflight(context, Plan((change,), "a test"), {})
    assert float(found.table["shrinkage"].iloc[0]) == metric.shrinkage > 0
    assert float(found.table["condition"].iloc[0]) == metric.condition
    assert any("C was shrunk" in note for note in found.notes)


def test_changes_of_one_matrix_are_priced_together(context) -> None:
    """ΔW and −ΔW cost nothing together."""
    change = random_change(matrices(context, "o_proj")[0])
    found = preflight(context, Plan((change, change.scaled(-1.0)), "a test"), {})
    assert len(found.table) == 1
    assert float(found.table["predicted_damage"].iloc[0]) == pytest.approx(0, abs=1e-12)


def test_a_change_under_the_rounding_step_is_told(context) -> None:
    change = random_change(matrices(context, "o_proj")[0]).scaled(1e-9)
    found = preflight(context, Plan((change,), "a test"), {})
    assert float(found.table["under_step_fraction"].iloc[0]) > 0.9
    assert any("a merged copy in that type would lose it" in note for note in found.notes)


def test_an_extract_that_is_not_certified_loads_no_model(context) -> None:
    change = random_change(matrices(context, "o_proj")[0])
    light = ready_context("llama", extract={"tuned": "x"}, measure={"certify": False})
    del vars(light)["model"]
    found = preflight(light, Plan((change,), "a test"), {})
    assert "model" not in vars(light)
    assert found.predicted_damage is None
    assert math.isnan(found.table["weight_norm"].iloc[0])
    assert math.isnan(found.figures["under_step_fraction"])
    assert "is not certified, and the edit" in found.notes[0] and "the model is not loaded" in found.notes[0]
    light._sites = context._sites | {}
    context.statistics([change.projection])
    light._sites = context._sites
    assert preflight(light, Plan((change,), "a test"), {}).predicted_damage > 0
    assert "model" not in vars(light)


def test_what_an_uncertified_edit_goes_without_is_said_before_it_begins(context) -> None:
    change = random_change(matrices(context, "o_proj")[0])
    plain = ready_context(context.model, project={"direction": {"token": "a"}}, measure={"certify": False})
    (note,) = preflight(plain, Plan((change,), "a test"), {}).notes
    assert note == (
        "measure.certify is false: nothing is measured, the adapter is not certified, and the edit is neither looked "
        "up in the ledger for contradictions nor entered there"
    )
    assert not any("certify" in note for note in preflight(context, Plan((change,), "a test"), {}).notes)


def test_a_statistics_file_that_lacks_the_site_is_refused(context) -> None:
    other = copy.copy(context)
    q, o = matrices(context, "q_proj", "o_proj")
    other.statistics = lambda _wanted: context.statistics([q])
    with pytest.raises(DataError, match="no statistics of site"):
        preflight(other, Plan((random_change(o),), "a test"), {})


def covariance() -> Tensor:
    x = torch.randn(60, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x.T @ x / 60


def update(seed: int, rank: int = 2) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    return LowRank(
        torch.randn(OUT, rank, generator=generator, dtype=torch.float64),
        torch.randn(rank, D, generator=generator, dtype=torch.float64),
    )


def half(C: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(C)
    return vectors @ values.sqrt().diag() @ vectors.T


def test_overlap_is_that_of_whole_matrices() -> None:
    first, second, C = update(1), update(2, rank=3), covariance()
    S, (X, Y) = half(C), (first.dense(), second.dense())
    projectors = [torch.linalg.pinv(one.A @ S) @ (one.A @ S) for one in (first, second)]
    found = overlap(first, second, C)
    assert found["cosine"] == pytest.approx(float((X * Y).sum() / (X.norm() * Y.norm())))
    assert found["output_cosine"] == pytest.approx(float((X @ C * Y).sum() / ((X @ S).norm() * (Y @ S).norm())))
    assert found["read_overlap"] == pytest.approx(float(torch.trace(projectors[0] @ projectors[1])) / 2)
    assert found["changes_earlier"] == pytest.approx(float((X @ S @ projectors[1]).norm() / (Y @ S).norm()))
    assert found["changed_by_earlier"] == pytest.approx(float((Y @ S @ projectors[0]).norm() / (X @ S).norm()))
    plain = overlap(first, second, None)
    assert plain["cosine"] == pytest.approx(plain["output_cosine"])


def test_overlap_does_not_depend_on_how_an_update_is_factored() -> None:
    first, second, C = update(1), update(2), covariance()
    M = torch.tensor([[2.0, 1.0], [0.5, -3.0]], dtype=torch.float64)
    again = LowRank(first.B @ torch.linalg.inv(M), M @ first.A)
    padded = LowRank(torch.cat([first.B, first.B], 1) / 2, torch.cat([first.A, first.A]))
    for other in (again, padded):
        assert overlap(other, second, C) == pytest.approx(overlap(first, second, C))


def test_an_edit_meets_itself_whole() -> None:
    same = overlap(update(1), update(1), covariance())
    assert same == pytest.approx(dict.fromkeys(same, 1.0))
    nothing = overlap(LowRank(torch.zeros(OUT, 1), torch.zeros(1, D)), update(1), covariance())
    assert math.isnan(nothing["cosine"])
    assert math.isnan(nothing["read_overlap"])


def test_only_another_answer_to_the_same_inputs_contradicts(context) -> None:
    """Of edits with one key: the opposite answer does, a much weaker one and the same do not; another key neither."""
    projection = matrices(context, "down_proj")[0]
    edit = random_change(projection)
    B, A = edit.update.B, edit.update.A
    other = random_change(projection, seed=9).update
    C = {projection.site: context.statistics([projection]).second_moment(projection.site)}

    def said(earlier: LowRank) -> tuple[str, ...]:
        return contradictions(overlaps_table([edit], {"old": [Change(projection, earlier)]}, C))

    assert len(said(LowRank(-B, A))) == 1
    assert "'old' answer the same inputs of layer 1 down_proj differently" in said(LowRank(other.B, A))[0]
    assert said(LowRank(20 * other.B, A)) == ()
    assert said(LowRank(B, A)) == ()
    unrelated = (
        A - (A @ C[projection.site].float() @ other.A.T) / (other.A @ C[projection.site].float() @ other.A.T) * other.A
    )
    assert (
        contradictions(
            overlaps_table([Change(projection, LowRank(B, unrelated))], {"old": [Change(projection, other)]}, C)
        )
        == ()
    )


def test_earlier_edits_of_other_matrices_do_not_meet(context) -> None:
    q, o = matrices(context, "q_proj", "o_proj")
    found = preflight(context, Plan((random_change(o),), "a test"), {"first": (random_change(q),)})
    assert "overlaps" not in found.tables
    assert found.contradictions == ()
    met = preflight(context, Plan((random_change(o),), "a test"), {"first": (random_change(o).scaled(-1.0),)})
    assert met.tables["overlaps"]["cosine"].iloc[0] == pytest.approx(-1, abs=1e-5)
    assert len(met.contradictions) == 1
    assert met.contradictions[0] in met.notes
