"""A hook's rank-1 edit is the edit of the weight, and the layers below it need no second pass."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from readwrite_edit.errors import ShapeError
from readwrite_edit.interventions.changes import Change, Edit
from readwrite_edit.interventions.controls import random_directions
from readwrite_edit.interventions.forward import (
    copies,
    edited,
    final_hidden,
    layers_of,
    starting_at,
    unedited,
)
from readwrite_edit.models.pathways import find_pathways, role_rows
from tests.tiny_models import TINY, VOCABULARY

ARCHITECTURES = ["llama", "gpt2", "gpt_neox", "phi3", "qwen3", "gemma3_text", "falcon_new_decoder", "opt", "bloom"]
ROLES = ["q_proj", "k_proj", "o_proj", "down_proj"]


def token_ids(rows: int = 3, length: int = 9) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(0))


def some_edits(model, role: str, layer: int = 1) -> list[Edit]:
    projection = find_pathways(model).select([role], [layer])[0]
    reads = random_directions(projection.d_in, 2, seed=1)
    writes = random_directions(projection.d_out, 2, seed=2)
    return [Edit(projection, epsilon, reads[i], writes[i]) for i, epsilon in enumerate((0.7, -0.4))]


def variants(edits: list[Edit]) -> list[tuple[Change, ...]]:
    return [(edit.change,) for edit in edits]


def with_weight_edited(model, edit: Edit):
    """A copy of the model whose weight holds W + ΔW."""
    other = copy.deepcopy(model)
    module = other.get_submodule(edit.projection.module)
    weight = module.weight.data.T if isinstance(module, Conv1D) else module.weight.data
    weight[role_rows(edit.projection)] += edit.delta_w().float()
    return other


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_hook_is_the_edit_of_the_weight(name: str, role: str) -> None:
    model, ids = TINY[name](), token_ids()
    edits = some_edits(model, role)
    with torch.no_grad():
        with edited(model, variants(edits)):
            found = model(copies(ids, 2)).logits.chunk(2)
        base = model(ids).logits
        for edit, logits in zip(edits, found, strict=True):
            expected = with_weight_edited(model, edit)(ids).logits
            assert (logits - expected).abs().max() < 1e-5
            assert (logits - base).abs().max() > 1e-3


@pytest.mark.parametrize("role", ["q_proj", "o_proj"])
@pytest.mark.parametrize("name", sorted(TINY))
def test_pass_from_the_edited_layer_on_is_the_whole_pass(name: str, role: str) -> None:
    model, ids = TINY[name](), token_ids()
    edits = some_edits(model, role)
    with torch.no_grad():
        base = unedited(model, ids, [edits[0].projection])
        with edited(model, variants(edits)):
            whole = final_hidden(model, copies(ids, 2))
            with starting_at(model, 1, copies(base.states[1], 2), as_tuple=base.as_tuple):
                suffix = final_hidden(model, copies(ids, 2))
    assert (whole - suffix).abs().max() < 1e-5


def test_layers_below_are_not_computed_and_come_back() -> None:
    model, ids = TINY["llama"](), token_ids()
    calls: list[int] = []
    layers_of(model)[0].self_attn.q_proj.register_forward_hook(lambda *_: calls.append(0))
    with torch.no_grad():
        base = unedited(model, ids, [some_edits(model, "q_proj")[0].projection])
        calls.clear()
        with starting_at(model, 1, base.states[1], as_tuple=base.as_tuple):
            final_hidden(model, ids)
        assert not calls
        assert torch.equal(final_hidden(model, ids), base.hidden)
    assert calls == [0]


def test_a_forward_of_the_modules_own_is_put_back() -> None:
    model, ids = TINY["llama"](), token_ids()
    first = layers_of(model)[0]
    first.forward = own = first.forward  # as accelerate does
    state = torch.zeros(3, 9, 48)
    with torch.no_grad(), starting_at(model, 1, state, as_tuple=False):
        final_hidden(model, ids)
    assert first.__dict__["forward"] is own


def test_hook_is_gone_afterwards() -> None:
    model, ids = TINY["llama"](), token_ids()
    with torch.no_grad():
        before = model(ids).logits
        with edited(model, variants(some_edits(model, "q_proj")[:1])):
            assert not torch.equal(model(ids).logits, before)
        assert torch.equal(model(ids).logits, before)


def test_unedited_pass_keeps_what_matrices_read() -> None:
    model, ids = TINY["gpt2"](), token_ids()
    projection = some_edits(model, "o_proj")[0].projection
    read: list[torch.Tensor] = []
    model.get_submodule(projection.module).register_forward_hook(lambda _m, inputs, _o: read.append(inputs[0]))
    with torch.no_grad():
        base = unedited(model, ids, [projection])
    assert torch.equal(base.inputs[projection.module], read[0].flatten(0, 1))


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "phi3"])
def test_variants_of_several_matrices_and_ranks_share_a_pass(name: str) -> None:
    """Copy by copy: nothing; one matrix; Q and K (fused in some) and the MLP, two updates of one matrix among them."""
    model, ids = TINY[name](), token_ids()
    queries, keys, down = (some_edits(model, role) for role in ("q_proj", "k_proj", "down_proj"))
    given = [[], [keys[0]], [queries[0], keys[1], down[0], down[1]]]
    with torch.no_grad():
        with edited(model, [[edit.change for edit in variant] for variant in given]):
            found = model(copies(ids, 3)).logits.chunk(3)
        for variant, logits in zip(given, found, strict=True):
            changed = model
            for edit in variant:
                changed = with_weight_edited(changed, edit)
            assert (logits - changed(ids).logits).abs().max() < 1e-5


def test_a_constant_is_added_to_its_rows() -> None:
    model, ids = TINY["gpt2"](), token_ids()
    edit = some_edits(model, "k_proj")[0]
    bias = torch.linspace(-1, 1, edit.projection.d_out)
    other = with_weight_edited(model, edit)
    other.get_submodule(edit.projection.module).bias.data[role_rows(edit.projection)] += bias
    with torch.no_grad(), edited(model, [[Change(edit.projection, edit.change.update, bias)]]):
        assert (model(ids).logits - other(ids).logits).abs().max() < 1e-5


def test_an_edit_fits_its_matrix() -> None:
    projection = some_edits(TINY["llama"](), "k_proj")[0].projection
    with pytest.raises(ShapeError, match="k_proj"):
        Edit(projection, 1.0, torch.ones(projection.d_out), torch.ones(projection.d_in))
