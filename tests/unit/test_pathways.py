"""Pathways: every claim of the table of architectures is tested on what the model computes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from readwrite_edit.errors import ModelError
from readwrite_edit.models.pathways import (
    Pathways,
    Projection,
    find_pathways,
    module_of,
    role_rows,
    weight_of,
)
from tests.tiny_models import TINY, tiny_config

ALL = sorted(TINY)
IDS = torch.randint(3, 120, (2, 7), generator=torch.Generator().manual_seed(5))
OTHER_IDS = torch.randint(3, 120, (2, 7), generator=torch.Generator().manual_seed(6))


@cache
def _bare_pathways(name: str) -> Pathways:
    return find_pathways(TINY[name]())


def _first(pathways: Pathways, role: str) -> Projection:
    return pathways.select([role], [next(p.layer for p in pathways.projections if p.role == role)])[0]


def _change(model: PreTrainedModel, projection: Projection, change: Callable[[Tensor], Tensor], heads=slice(None)):
    """Apply ``change`` to the rows (weight and bias) that the projection claims."""
    module = module_of(model, projection)
    rows = role_rows(projection)[heads]
    weight = module.weight.T if isinstance(module, Conv1D) else module.weight
    with torch.no_grad():
        weight[rows] = change(weight[rows])
        if module.bias is not None:
            module.bias[rows] = change(module.bias[rows])


def _observe(model: PreTrainedModel, ids: Tensor = IDS) -> tuple[Tensor, Tensor, Tensor]:
    """Attention probabilities, keys and values of layer 0, heads in dimension 1."""
    with torch.no_grad():
        out = model(ids, output_attentions=True, use_cache=True)
    layer = out.past_key_values.layers[0]
    return out.attentions[0], layer.keys, layer.values


def _noise(rows: Tensor) -> Tensor:
    return rows + torch.randn(rows.shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("role", "touched"), [("q_proj", "A"), ("k_proj", "AK"), ("v_proj", "V")])
def test_changing_the_rows_of_a_role_changes_that_role_only(name: str, role: str, touched: str) -> None:
    model = TINY[name]()
    before = _observe(model)
    _change(model, _first(find_pathways(model), role), _noise)
    for letter, old, new in zip("AKV", before, _observe(model), strict=True):
        assert torch.equal(old, new) == (letter not in touched), letter


@pytest.mark.parametrize("name", ALL)
def test_the_rows_of_a_role_are_all_its_rows(name: str) -> None:
    keyless, valueless, queryless = TINY[name](), TINY[name](), TINY[name]()
    pathways = find_pathways(keyless)
    _change(keyless, _first(pathways, "k_proj"), torch.zeros_like)
    _change(valueless, _first(pathways, "v_proj"), torch.zeros_like)
    _change(queryless, _first(pathways, "q_proj"), torch.zeros_like)
    assert _observe(keyless)[1].count_nonzero() == 0
    assert _observe(valueless)[2].count_nonzero() == 0
    # Without any query, attention can not depend on the text.
    assert torch.equal(_observe(queryless)[0], _observe(queryless, OTHER_IDS)[0])
    assert not torch.equal(_observe(TINY[name]())[0], _observe(TINY[name](), OTHER_IDS)[0])


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("role", "place"), [("q_proj", 0), ("k_proj", 1), ("v_proj", 2)])
def test_rows_come_head_after_head(name: str, role: str, place: int) -> None:
    model = TINY[name]()
    if name == "olmo2":  # its norm spans all heads, so that a change of one would reach the others
        attention = model.model.layers[0].self_attn
        attention.q_norm = attention.k_norm = torch.nn.Identity()
    pathways = find_pathways(model)
    n_heads = pathways.n_heads if role == "q_proj" else pathways.n_kv_heads
    last = slice((n_heads - 1) * pathways.d_head, n_heads * pathways.d_head)
    before = _observe(model)[place]
    _change(model, _first(pathways, role), _noise, heads=last)
    changed = (before != _observe(model)[place]).flatten(2).any(-1).any(0)
    # Falcon's new decoder repeats its key/value heads for the query heads of their group.
    assert changed.tolist() == [head >= len(changed) - len(changed) // n_heads for head in range(len(changed))]


def _record(model: PreTrainedModel, names: list[str]) -> dict[str, tuple[Tensor, Tensor]]:
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    # Cloned: Falcon adds the attention's output into the MLP's, in place.
    hooks = [
        model.get_submodule(name).register_forward_hook(
            lambda _module, args, out, name=name: seen.__setitem__(name, (args[0].clone(), out.clone()))
        )
        for name in names
    ]
    with torch.no_grad():
        model(IDS)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("name", ALL)
def test_weight_acts_as_y_is_w_x_and_a_site_is_one_input(name: str) -> None:
    model = TINY[name]()
    pathways = find_pathways(model)
    seen = _record(model, [projection.module for projection in pathways.projections])
    for members in pathways.sites().values():
        first = seen[members[0].module][0]
        for projection in members:
            inputs, outputs = seen[projection.module]
            weight, bias = weight_of(model, projection), module_of(model, projection).bias
            rows = role_rows(projection)
            assert torch.equal(inputs, first)
            assert weight.shape == (projection.d_out, projection.d_in)
            expected = inputs @ weight.T + (0 if bias is None else bias[rows])
            torch.testing.assert_close(outputs[..., rows], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_the_write_matrices_come_after_values_and_after_the_mlp(name: str) -> None:
    model = TINY[name]()
    pathways = find_pathways(model)
    pairs = [("v_proj", "o_proj"), ("up_proj", "down_proj"), ("gate_proj", "down_proj")]
    for source, target in pairs:
        if source not in pathways.roles:
            continue
        model = TINY[name]()
        write = _first(pathways, target)
        assert _record(model, [write.module])[write.module][0].count_nonzero() > 0
        _change(model, _first(pathways, source), torch.zeros_like)
        assert _record(model, [write.module])[write.module][0].count_nonzero() == 0


@pytest.mark.parametrize("name", ["llama", "phi3", "gemma2"])
def test_the_up_half_is_linear_and_the_gate_half_is_not(name: str) -> None:
    pathways = _bare_pathways(name)
    down = _first(pathways, "down_proj").module
    before = _record(TINY[name](), [down])[down][0]
    for role, linear in (("up_proj", True), ("gate_proj", False)):
        model = TINY[name]()
        _change(model, _first(pathways, role), lambda rows: 2 * rows)
        assert torch.allclose(_record(model, [down])[down][0], 2 * before, rtol=1e-5) == linear, role


@pytest.mark.parametrize("name", ALL)
def test_predictions_go_through_final_norm_and_unembedding(name: str) -> None:
    model = TINY[name]()
    pathways = find_pathways(model)
    assert pathways.final_norm is not None
    seen = _record(model, [pathways.final_norm, pathways.unembedding])
    normed = seen[pathways.final_norm][1]
    assert torch.equal(normed, seen[pathways.unembedding][0])
    norm = model.get_submodule(pathways.final_norm)
    bias = getattr(norm, "bias", None)
    plain = (normed - (0 if bias is None else bias)) / (pathways.norm_gain_offset + norm.weight)
    torch.testing.assert_close(plain.pow(2).mean(-1), torch.ones(IDS.shape), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ALL)
def test_meta_device_gives_the_same_pathways(name: str) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(tiny_config(name))
    assert find_pathways(model) == _bare_pathways(name)


@pytest.mark.parametrize("name", ["llama", "gpt2", "falcon_new_decoder"])
def test_a_model_in_peft_gives_the_same_pathways_and_base_weights(name: str) -> None:
    bare = TINY[name]()
    pathways = find_pathways(bare)
    targets = sorted({p.module for p in pathways.select(["q_proj", "down_proj"])})
    wrapped = get_peft_model(TINY[name](), LoraConfig(target_modules=targets, init_lora_weights=False))
    assert find_pathways(wrapped) == pathways
    for projection in pathways.projections:
        assert torch.equal(weight_of(wrapped, projection), weight_of(bare, projection))
    assert hasattr(module_of(wrapped, pathways.select(["q_proj"])[0]), "lora_A")


def test_opt_350m_has_a_projection_and_no_final_norm() -> None:
    config = tiny_config("opt")
    config.word_embed_proj_dim, config.do_layer_norm_before = 32, False
    pathways = find_pathways(AutoModelForCausalLM.from_config(config))
    assert (pathways.final_norm, pathways.output_projection) == (None, "model.decoder.project_out")
    assert _bare_pathways("opt").output_projection is None


def test_select_orders_by_layer_and_role_whatever_was_asked() -> None:
    chosen = _bare_pathways("llama").select(["k_proj", "q_proj"])
    assert [(p.layer, p.role) for p in chosen] == [(0, "q_proj"), (0, "k_proj"), (1, "q_proj"), (1, "k_proj")]
    assert [p.layer for p in _bare_pathways("llama").select(["o_proj"], [1])] == [1]


@pytest.mark.parametrize(
    ("name", "roles", "layers", "words"),
    [
        ("llama", ["q_prj"], None, "did you mean 'q_proj'"),
        ("gpt2", ["gate_proj"], None, "its MLP has no gate (it has q_proj, k_proj"),
        ("mixtral", ["down_proj"], None, "experts are three-dimensional tensors"),
        ("qwen3_moe", ["up_proj"], [0, 1], "no 'up_proj' in layers [1]"),
        ("llama", ["q_proj"], [2], "has layers 0 to 1"),
        ("llama", ["q_proj"], [-1], "has layers 0 to 1"),
        ("llama", [], None, "no matrix selected"),
        ("llama", ["q_proj"], [], "no matrix selected"),
    ],
)
def test_select_refuses_what_is_not_there(name: str, roles: list[str], layers: list[int] | None, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        _bare_pathways(name).select(roles, layers)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_dense_layers_of_a_mixture_have_their_mlp() -> None:
    assert [p.layer for p in _bare_pathways("qwen3_moe").select(["up_proj"])] == [0]


def test_an_unknown_architecture_lists_its_linear_modules_and_guesses_nothing() -> None:
    config = transformers.GPTJConfig(vocab_size=64, n_embd=32, n_layer=3, n_head=4, rotary_dim=4)
    with pytest.raises(ModelError) as caught:
        find_pathways(AutoModelForCausalLM.from_config(config))
    assert "'gptj' is not known" in str(caught.value)
    assert "transformer.h.{i}.attn.q_proj (3)" in str(caught.value)
    assert "lm_head (1)" in str(caught.value)


def test_a_model_without_language_model_head_is_refused() -> None:
    with pytest.raises(ModelError, match=r"LlamaModel has no module 'model\.layers'"):
        find_pathways(AutoModel.from_config(tiny_config("llama")))


def test_heads_that_contradict_the_weights_are_refused() -> None:
    model = TINY["llama"]()
    model.config.num_key_value_heads = 4
    with pytest.raises(ModelError, match="k_proj has 24 output features where its configuration gives 48"):
        find_pathways(model)


def test_sliced_bloom_attention_is_refused() -> None:
    model = TINY["bloom"]()
    model.config.slow_but_exact, model.config.pretraining_tp = True, 2
    with pytest.raises(ModelError, match="slow_but_exact"):
        find_pathways(model)
