"""project: the changes are those of the formulas, in the right orientation, and the plan says what they do."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from readwrite_edit.edit.directions import labelled_samples
from readwrite_edit.edit.plan import Plan
from readwrite_edit.edit.project import plan_project
from readwrite_edit.edit.project.fold import bias_of, map_of
from readwrite_edit.edit.project.linear import held_out
from readwrite_edit.edit.samples import Place
from readwrite_edit.edit.settings.sources import Direction
from readwrite_edit.edit.subspace import Subspace, carried
from readwrite_edit.errors import EditError
from readwrite_edit.geometry.erasure import ErasureFitter
from readwrite_edit.interventions.changes import Change
from readwrite_edit.interventions.forward import edited, final_hidden
from readwrite_edit.models.pathways import module_of, role_rows, weight_of
from tests.ready_context import ReadyContext, ready_context
from tests.tiny_models import TINY

LABELLED = {
    "positive": ["a red house.", "the cat sang.", "old river.", "birds on a mat."],
    "negative": ["ran to it.", "dogs!.", "it sat by the.", "while, and."],
}
COLUMNS = ["layer", "module", "side", "action", "k", "rank", "energy_removed_fraction", "norm_fraction"]
IDS = torch.tensor([[9, 40, 77, 23, 55, 61], [80, 12, 33, 99, 6, 7]])


def prepared(model: Any = "llama", **project: Any) -> ReadyContext:
    return ready_context(model, project={"direction": {"token": "y"}, **project})


def planned(model: Any = "llama", **project: Any) -> tuple[ReadyContext, Plan]:
    context = prepared(model, **project)
    return context, plan_project(context)


def dense(change: Change) -> np.ndarray:
    return (change.update.B.double() @ change.update.A.double()).numpy()


def direction_of(model: Any, token: int) -> np.ndarray:
    """Written out for a model with an RMS norm at the end: g ⊙ (w_t − w̄), of unit length."""
    weight = model.lm_head.weight.detach().double().numpy()
    r = (weight[token] - weight.mean(0)) * model.model.norm.weight.detach().double().numpy()
    return r / np.linalg.norm(r)


@pytest.fixture(scope="module")
def removed() -> tuple[ReadyContext, Plan]:
    return planned()


def test_what_square_matrices_write_loses_the_direction_from_the_left(removed: tuple[ReadyContext, Plan]) -> None:
    """llama's o_proj is 48 by 48 here: a formula of the wrong side would fit as well."""
    context, plan = removed
    r = direction_of(context.model, context.tokenizer("y")["input_ids"][-1])
    assert {(c.projection.layer, c.projection.role) for c in plan.changes} == {
        (layer, role) for layer in (0, 1) for role in ("o_proj", "down_proj")
    }
    for change in plan.changes:
        W = weight_of(context.model, change.projection).double().numpy()
        assert np.allclose(W + dense(change), (np.eye(48) - np.outer(r, r)) @ W, atol=1e-6)
        assert change.bias is None


def test_without_the_direction_the_stream_keeps_what_the_embedding_put_there(
    removed: tuple[ReadyContext, Plan],
) -> None:
    """All writers lose r, so rᵀh at the end is rᵀh of the embedding; the final norm's length is divided out."""
    context, plan = removed
    r = torch.tensor(direction_of(context.model, context.tokenizer("y")["input_ids"][-1])).float()
    with torch.no_grad(), edited(context.model, [plan.changes]):
        streams: list[Tensor] = []
        hook = context.model.model.norm.register_forward_pre_hook(lambda _module, inputs: streams.append(inputs[0]))
        final_hidden(context.model, IDS)
        hook.remove()
        embedded = context.model.get_input_embeddings()(IDS)
    assert torch.allclose(streams[0] @ r, embedded @ r, atol=1e-5)


def test_what_square_matrices_read_loses_the_direction_from_the_right() -> None:
    """Before the norm's gain g: W (I − (g ⊙ r)(r ⊘ g)ᵀ)."""
    context, plan = planned(modules=["q_proj"])
    r = direction_of(context.model, context.tokenizer("y")["input_ids"][-1])
    for change in plan.changes:
        W = weight_of(context.model, change.projection).double().numpy()
        assert W.shape == (48, 48)
        norm = context.model.model.layers[change.projection.layer].input_layernorm
        g = norm.weight.detach().double().numpy()
        assert np.allclose(W + dense(change), W - np.outer(W @ (g * r), r / g), atol=1e-6)


@pytest.mark.parametrize(("action", "factor"), [("remove", 0.0), ("scale", 3.0), ("keep", 0.0)])
def test_each_action_on_the_principal_subspace(action: str, factor: float) -> None:
    """W′ = W (I + (f − 1) P): f is 0 for remove; keep is W P."""
    options = {"factor": factor} if action == "scale" else {}
    context, plan = planned(direction={"principal": 2}, action=action, modules=["k_proj", "o_proj"], **options)
    for change in plan.changes:
        projection = change.projection
        W = weight_of(context.model, projection).double().numpy()
        C = context.statistics([projection]).second_moment(projection.site).numpy()
        write = projection.role == "o_proj"
        U = np.linalg.eigh(W @ C @ W.T if write else C)[1][:, -2:]
        P = U @ U.T
        part = P if action == "keep" else np.eye(len(P)) + (factor - 1) * P
        assert np.allclose(W + dense(change), part @ W if write else W @ part, atol=1e-6)
    # keeping 2 of 48 directions changes all the others, as far as a matrix has rows
    assert list(plan.tables["projections"]["rank"]) == ([24, 46] if action == "keep" else [2, 2]) * 2


@pytest.mark.parametrize("role", ["q_proj", "v_proj", "o_proj", "down_proj"])
def test_a_model_with_the_dense_edit_says_the_same(role: str) -> None:
    """GPT-2: Conv1D stores the transpose, q and v are rows of a fused matrix, all have biases, the head is tied."""
    context, plan = planned("gpt2", modules=[role], layers=[1])
    change = plan.changes[0]
    projection = change.projection
    direct = copy.deepcopy(context.model)
    module = module_of(direct, projection)
    rows = role_rows(projection)
    with torch.no_grad():
        module.weight[:, rows] += torch.tensor(dense(change)).T.float()
        module.bias[rows] += change.bias
        wanted = direct(IDS).logits
        base = context.model(IDS).logits
        with edited(context.model, [plan.changes]):
            found = context.model(IDS).logits
    assert torch.allclose(found, wanted, atol=1e-5)
    assert not torch.allclose(found, base, atol=1e-3)
    # and the dense edit is what the formula asks for
    fresh = TINY["gpt2"]()
    token = context.tokenizer("y")["input_ids"][-1]
    weight = fresh.lm_head.weight.detach().double()
    r = (weight[token] - weight.mean(0)) * fresh.transformer.ln_f.weight.detach().double()
    r = torch.nn.functional.normalize(r - r.mean(), dim=0).numpy()
    W, b = weight_of(fresh, projection).double().numpy(), bias_of(fresh, projection).numpy()
    W_new, b_new = W + dense(change), b + change.bias.double().numpy()
    x = np.random.default_rng(0).normal(size=48 if role != "down_proj" else 192)
    if role in ("o_proj", "down_proj"):
        y = W @ x + b
        assert np.allclose(W_new @ x + b_new, y - r * (r @ y), atol=1e-5)
    else:
        norm = fresh.transformer.h[1].ln_1
        g, c = norm.weight.detach().double().numpy(), norm.bias.detach().double().numpy()
        normal = (x - c) / g
        assert np.allclose(W_new @ x + b_new, W @ (g * (normal - r * (r @ normal)) + c) + b, atol=1e-5)


def test_the_base_is_never_written() -> None:
    context = prepared("gpt2", modules=["q_proj", "o_proj"])
    plan_project(context)
    fresh = TINY["gpt2"]().state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in context.model.state_dict().items())


def test_without_its_constant_a_bias_still_shows_the_direction() -> None:
    _, plan = planned("gpt2", modules=["o_proj"], constant=False)
    assert all(change.bias is None for change in plan.changes)
    assert any("constant: false" in note for note in plan.notes)
    assert not any("constant: false" in note for note in planned("llama", constant=False)[1].notes)


def test_before_a_norm_the_direction_is_removed_from_what_reaches_the_stream() -> None:
    context, plan = planned("gemma2")
    token = context.tokenizer("y")["input_ids"][-1]
    weight = context.model.lm_head.weight.double()
    r = ((weight[token] - weight.mean(0)) * (1 + context.model.model.norm.weight.double())).float()
    r = r / r.norm()
    added: list[Tensor] = []
    for layer in context.model.model.layers:
        for norm in (layer.post_attention_layernorm, layer.post_feedforward_layernorm):
            norm.register_forward_hook(lambda _module, _inputs, output: added.append(output @ r))
    with torch.no_grad(), edited(context.model, [plan.changes]):
        final_hidden(context.model, IDS)
    assert len(added) == 4
    assert max(float(part.abs().max()) for part in added) < 1e-5
    assert any("normalises what these matrices write" in note for note in plan.notes)


def test_before_a_norm_keep_leaves_nothing_beside_the_direction() -> None:
    context = prepared("olmo2")
    projection = context.pathways.select(["o_proj"], [0])[0]
    row = torch.randn(1, 48, generator=torch.Generator().manual_seed(0)).double()
    space = carried(context.model, context.pathways, projection, row, side="write")
    vectors = map_of(space, "keep", 0.5, side="write")
    y = torch.randn(5, 48, generator=torch.Generator().manual_seed(1)).double()
    kept = y + (y @ vectors.right.T) @ vectors.left.T
    gain = context.model.model.layers[0].post_attention_layernorm.weight.double()
    cosine = torch.nn.functional.cosine_similarity(kept * gain, row)
    assert torch.allclose(cosine.abs(), torch.ones(5).double(), atol=1e-9)


def test_keep_of_a_slanted_space_is_its_projection() -> None:
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(6, 2, generator=generator).double())[0].T
    gain, offset = torch.rand(6, generator=generator).double() + 0.5, torch.randn(6, generator=generator).double()
    vectors = map_of(Subspace(basis * gain, basis / gain, offset), "keep", 0.5, side="read")
    x = torch.randn(4, 6, generator=generator).double()
    assert vectors.left.shape == (6, 4)
    found = x + ((x - offset) @ vectors.right.T) @ vectors.left.T
    assert torch.allclose(found, offset + ((x - offset) @ (basis / gain).T) @ (basis * gain), atol=1e-12)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("role", ["o_proj", "down_proj", "q_proj"])
def test_leace_folded_in_is_leace_of_what_is_written_or_read(name: str, role: str) -> None:
    """W′x + b′ = r(Wx + b) on the write side, W r(x) + b on the read side."""
    context, plan = planned(name, direction=None, concept={**LABELLED, "positions": "all"}, modules=[role], layers=[1])
    change, projection = plan.changes[0], plan.changes[0].projection
    source = Direction.model_validate({**LABELLED, "positions": "all"})
    places = [Place("input", projection), Place("output", projection)]
    samples, positive = labelled_samples(context, source, places)
    x, y = (samples.at(place) for place in places)
    fitter = ErasureFitter(y.shape[1] if role != "q_proj" else x.shape[1])
    fitter.update(y if role != "q_proj" else x, positive)
    erasure = fitter.erasure(shrinkage=plan.tables["concept"]["shrinkage"][0])
    W = weight_of(context.model, projection).double()
    wanted = erasure(y) if role != "q_proj" else y + (erasure(x) - x) @ W.T
    found = y + x @ torch.tensor(dense(change)).T + change.bias
    assert torch.allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("in_turn", [True, False])
def test_in_turn_every_matrix_loses_the_concept_of_the_edited_model(in_turn: bool) -> None:
    options = {"direction": None, "concept": {**LABELLED, "positions": "all"}, "in_turn": in_turn}
    context, plan = planned("llama", modules=["o_proj", "down_proj"], **options)
    places = [Place("output", change.projection) for change in plan.changes]
    before, positive = labelled_samples(context, Direction.model_validate(options["concept"]), places)
    with edited(context.model, [plan.changes]):
        after, _ = labelled_samples(context, Direction.model_validate(options["concept"]), places)
    left = []
    for place in places:
        gap = [found.at(place)[positive].mean(0) - found.at(place)[~positive].mean(0) for found in (before, after)]
        left.append(float(gap[1].norm() / gap[0].norm()))
    assert left[0] < 1e-5
    assert (max(left) < 1e-4) == in_turn
    assert any("in_turn: false" in note for note in plan.notes) != in_turn


def test_tables_say_how_much_goes(removed: tuple[ReadyContext, Plan]) -> None:
    context, plan = removed
    table = plan.tables["projections"]
    assert list(table.columns) == COLUMNS
    r = direction_of(context.model, context.tokenizer("y")["input_ids"][-1])
    change = plan.changes[1]
    W = weight_of(context.model, change.projection).double().numpy()
    C = context.statistics([change.projection]).second_moment(change.projection.site).numpy()
    row = table.iloc[1]
    assert row["energy_removed_fraction"] == pytest.approx(r @ W @ C @ W.T @ r / np.trace(W @ C @ W.T), rel=1e-4)
    assert row["norm_fraction"] == pytest.approx(np.linalg.norm(r @ W) / np.linalg.norm(W), rel=1e-4)
    assert plan.title == "remove token 'y'"
    assert plan.figures["matrices"] == 4


def test_the_energy_of_leace_counts_its_constant() -> None:
    context, plan = planned("gpt2", direction=None, concept={**LABELLED, "positions": "all"}, modules=["o_proj"])
    change = plan.changes[1]
    ids = torch.randint(5, 101, (8, 40), generator=torch.Generator().manual_seed(1))
    seen: list[Tensor] = []
    module = context.model.get_submodule(change.projection.module)
    hook = module.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].reshape(-1, 48).double()))
    with torch.no_grad():
        final_hidden(context.model, ids)
    hook.remove()
    written = seen[0] @ weight_of(context.model, change.projection).double().T
    moved = seen[0] @ torch.tensor(dense(change)).T + change.bias
    expected = float(moved.square().sum() / written.square().sum())
    assert plan.tables["projections"]["energy_removed_fraction"][1] == pytest.approx(expected, rel=1e-3)


def test_prompts_and_effect_are_those_of_the_source(removed: tuple[ReadyContext, Plan]) -> None:
    context, plan = removed
    token = context.tokenizer("y")["input_ids"][-1]
    assert {(prompt.kind, prompt.target) for prompt in plan.prompts} == {("prompt", (token,))}
    assert plan.effect is not None
    lost = plan.effect.measure([plan.changes])
    with torch.no_grad():
        ids = torch.tensor([plan.prompts[0].ids])
        base = context.model(ids).logits[0, -1].log_softmax(0)[token]
        with edited(context.model, [plan.changes]):
            after = context.model(ids).logits[0, -1].log_softmax(0)[token]
    assert float(lost[0, 0]) == pytest.approx(float(base - after), abs=1e-4)
    raised = planned(action="scale", factor=2.0)[1].effect
    assert raised is not None
    assert float(raised.measure([plan.changes])[0, 0]) == pytest.approx(-float(lost[0, 0]), abs=1e-6)


def test_labelled_prompts_are_measured_where_they_end() -> None:
    _, plan = planned(direction=LABELLED)
    assert [prompt.kind for prompt in plan.prompts] == ["prompt"] * 4 + ["context"] * 4
    assert plan.effect is not None
    shift = plan.effect.measure([plan.changes, ()])
    assert shift.shape == (2, 8)
    assert float(shift[0].min()) > 0
    assert float(shift[1].abs().max()) < 1e-6
    silent = ready_context("llama", project={"direction": {"principal": 1}}, measure={"texts": []})
    found = plan_project(silent)
    assert found.effect is None
    assert any("No controls" in note for note in found.notes)


def test_layers_that_can_not_see_the_difference_are_left_out_of_all_and_refused_where_named() -> None:
    """Prompts that end in the same token: the first layer's queries are asked about that token alone."""
    _, plan = planned(direction=LABELLED, modules=["q_proj"])
    assert [change.projection.layer for change in plan.changes] == [1]
    assert any("Left out" in note and "layer 0 q_proj" in note for note in plan.notes)
    with pytest.raises(EditError, match="look the same"):
        planned(direction=LABELLED, modules=["q_proj"], layers=[0])
    with pytest.raises(EditError, match="layer 0 q_proj: the positive and the negative prompts look the same"):
        planned(direction=LABELLED, modules=["q_proj"], layers=[0, 1])
    with pytest.raises(EditError, match="look the same"):
        planned(direction=None, concept=LABELLED, modules=["q_proj"], layers=[0])


def test_the_concept_is_looked_for_on_prompts_that_fitted_nothing() -> None:
    """A planted direction is found by a classifier, and not behind an eraser fitted on other prompts."""
    generator = torch.Generator().manual_seed(0)
    positive = torch.arange(400) % 2 == 0
    rows = torch.randn(400, 8, generator=generator).double()
    rows[positive, 0] += 4
    found = held_out(rows, positive, torch.arange(400), lambda _covariance, _count: 0.01)
    assert found.accuracy_before is not None
    assert found.accuracy_after is not None
    assert found.separation_before is not None
    assert found.separation_after is not None
    assert found.accuracy_before > 0.95
    assert 0.35 < found.accuracy_after < 0.65
    assert found.separation_after < 0.15 * found.separation_before
    assert held_out(rows[:6], positive[:6], torch.arange(6), lambda _c, _n: 0.1).accuracy_before is None


def test_prompts_are_not_split_between_the_halves() -> None:
    """Every token of a prompt is the same vector: a split prompt would be recognised on the other side."""
    generator = torch.Generator().manual_seed(1)
    owners = torch.arange(16).repeat_interleave(20)
    rows = torch.randn(16, 400, generator=generator).double()[owners]
    found = held_out(rows, owners < 8, owners, lambda _covariance, _count: 0.01)
    assert found.accuracy_before is not None
    assert found.accuracy_before < 0.9
