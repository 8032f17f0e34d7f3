"""Directions by their source, and how they are carried through the norms beside a matrix."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from readwrite_edit.edit.directions import find_subspaces, resolve_direction
from readwrite_edit.edit.samples import Place, sample
from readwrite_edit.edit.settings.sources import Direction
from readwrite_edit.edit.subspace import carried, orthonormal
from readwrite_edit.geometry import eigh_descending
from readwrite_edit.interventions.forward import layers_of, unedited
from readwrite_edit.models.norms import input_norm, output_norm
from readwrite_edit.models.pathways import find_pathways, weight_of
from tests.ready_context import ReadyContext, ready_context
from tests.tiny_models import TINY

# of mixed lengths: a batch is put together longest first, and must be sorted back
POSITIVE, NEGATIVE = ("a red house", "old!", "the cat sang by the river"), ("ran to it", "birds? an old one")
TOKEN = {"project": {"direction": {"token": "y"}}}


@pytest.fixture(scope="module")
def llama() -> ReadyContext:
    return ready_context("llama", **TOKEN)


def rows_of(context: ReadyContext, side: str, role: str, **source: object) -> Tensor:
    return resolve_direction(context, Direction.model_validate(source), side=side, layer=1, role=role)  # type: ignore[arg-type]


def same_span(first: Tensor, second: Tensor) -> bool:
    return torch.allclose(first.T @ first, second.T @ second, atol=1e-6)


def unit(vector: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vector.double(), dim=-1).reshape(-1, vector.shape[-1])


def states(context: ReadyContext, prompts: tuple[str, ...], role: str, what: str) -> list[Tensor]:
    """What one matrix reads, or the stream after its layer, on each prompt alone: (time, d) each."""
    projection = context.pathways.select([role], [1])[0]
    found: list[Tensor] = []
    hook = layers_of(context.model)[1].register_forward_hook(
        lambda _module, _inputs, output: found.append((output[0] if isinstance(output, tuple) else output)[0].detach())
    )
    inputs = []
    for prompt in prompts:
        ids = torch.tensor([context.tokenizer(prompt)["input_ids"]])
        inputs.append(unedited(context.model, ids, [projection]).inputs[projection.module])
    hook.remove()
    return found if what == "stream" else inputs


@pytest.mark.parametrize("shape", [(48,), (3, 48)])
def test_a_file_gives_orthonormal_rows_of_its_span(tmp_path: Path, llama: ReadyContext, shape: tuple[int, ...]) -> None:
    direction = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    save_file({"direction": direction}, tmp_path / "r.safetensors")
    for side, role in (("write", "o_proj"), ("read", "q_proj")):
        found = rows_of(llama, side, role, file=str(tmp_path / "r.safetensors"))
        assert found.dtype == torch.float64
        assert torch.allclose(found @ found.T, torch.eye(len(found), dtype=found.dtype), atol=1e-12)
        assert same_span(found, orthonormal(direction.reshape(-1, 48)))


@pytest.mark.parametrize("positions", ["last", "all"])
@pytest.mark.parametrize(("side", "role", "what"), [("write", "down_proj", "stream"), ("read", "o_proj", "input")])
def test_prompts_give_the_difference_of_means(
    llama: ReadyContext, side: str, role: str, what: str, positions: str
) -> None:
    """Prompts of different lengths share a padded batch; each alone must give the same."""

    def mean(prompts: tuple[str, ...]) -> Tensor:
        kept = [rows if positions == "all" else rows[-1:] for rows in states(llama, prompts, role, what)]
        return torch.cat(kept).double().mean(0)

    found = rows_of(llama, side, role, positive=POSITIVE, negative=NEGATIVE, positions=positions)
    assert torch.allclose(found, unit(mean(POSITIVE) - mean(NEGATIVE)), atol=1e-5)


def test_a_matrix_that_writes_beside_the_stream_gives_its_own_rows() -> None:
    """GPT-2's v_proj is the last third of a fused matrix."""
    context = ready_context("gpt2", **TOKEN)
    projection = context.pathways.select(["v_proj"], [1])[0]
    W, b = weight_of(context.model, projection).double(), context.model.transformer.h[1].attn.c_attn.bias[96:].double()
    x = [rows[-1].double() for rows in states(context, (*POSITIVE, *NEGATIVE), "v_proj", "input")]
    y = torch.stack(x) @ W.T + b
    found = rows_of(context, "write", "v_proj", positive=POSITIVE, negative=NEGATIVE)
    assert torch.allclose(found, unit(y[: len(POSITIVE)].mean(0) - y[len(POSITIVE) :].mean(0)), atol=1e-5)


def test_one_layer_may_give_the_direction_of_all(llama: ReadyContext) -> None:
    source = {"positive": POSITIVE, "negative": NEGATIVE}
    chosen = llama.pathways.select(["o_proj", "down_proj"])
    shared = find_subspaces(llama, Direction.model_validate({**source, "layer": 0}), chosen, side="write")
    own = find_subspaces(llama, Direction.model_validate(source), chosen, side="write")
    assert all(torch.equal(shared[p].steps, shared[chosen[0]].steps) for p in chosen)
    assert torch.allclose(shared[chosen[0]].steps, own[chosen[0]].steps)
    assert not torch.allclose(own[chosen[-1]].steps, own[chosen[0]].steps, atol=1e-2)
    read = rows_of(llama, "read", "up_proj", **source, layer=0)
    gain = llama.model.model.layers[1].post_attention_layernorm.weight
    assert torch.allclose(read, unit(shared[chosen[0]].steps * gain.double()), atol=1e-6)


def test_a_chat_is_read_to_where_the_answer_begins(llama: ReadyContext) -> None:
    sequences = [llama.tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=True)["input_ids"]
        for text in (*POSITIVE, *NEGATIVE)]  # fmt: skip
    place = Place("stream", llama.pathways.select(["o_proj"], [1])[0])
    last = torch.stack([sample(llama.model, [ids], [place]).at(place)[0] for ids in sequences])
    expected = unit(last[: len(POSITIVE)].mean(0) - last[len(POSITIVE) :].mean(0))
    found = rows_of(llama, "write", "o_proj", positive=POSITIVE, negative=NEGATIVE, format="chat")
    assert torch.allclose(found, expected, atol=1e-5)


def test_principal_directions_are_of_the_input_or_of_what_is_written(llama: ReadyContext) -> None:
    projection = llama.pathways.select(["down_proj"], [1])[0]
    C = llama.statistics([projection]).second_moment(projection.site)
    W = weight_of(llama.model, projection).double()
    assert same_span(rows_of(llama, "read", "down_proj", principal=3), eigh_descending(C)[1][:, :3].T)
    assert same_span(rows_of(llama, "write", "down_proj", principal=3), eigh_descending(W @ C @ W.T)[1][:, :3].T)


def test_a_token_is_what_its_logit_is_read_along(llama: ReadyContext) -> None:
    """Moving the final state along r must raise the token's logit over the mean faster than any other direction."""
    found = rows_of(llama, "write", "o_proj", token="y")
    token = llama.tokenizer("y")["input_ids"][-1]
    weight, gain = llama.model.lm_head.weight.double(), llama.model.model.norm.weight.double()
    assert torch.allclose(found, unit((weight[token] - weight.mean(0)) * gain), atol=1e-9)
    assert float((found @ rows_of(llama, "write", "down_proj", prediction=48).T).norm()) == pytest.approx(1)


def test_the_mean_that_a_final_layer_norm_never_shows_is_no_part_of_a_token() -> None:
    found = rows_of(ready_context("gpt2", **TOKEN), "write", "o_proj", token="y")
    assert abs(float(found.sum())) < 1e-9


@pytest.mark.parametrize("name", sorted(TINY))
def test_the_norms_are_those_that_the_model_computes_with(name: str) -> None:
    """What leaves a matrix' input norm is what the matrix reads; what is added to the stream is what it writes."""
    model = TINY[name]()
    pathways, seen = find_pathways(model), {}
    for norm_or_matrix, module in model.named_modules():
        module.register_forward_hook(
            lambda _module, inputs, output, name=norm_or_matrix: seen.update(
                {name: (inputs[0].clone() if inputs else None, (output[0] if isinstance(output, tuple) else output))}
            )
        )
    with torch.no_grad():
        model(torch.arange(5, 15).unsqueeze(0))
    for projection in pathways.projections:
        if projection.role in ("o_proj", "down_proj"):
            norm = output_norm(model, pathways, projection)
            if norm is not None:
                assert torch.equal(seen[norm.module][0], seen[projection.module][1])
            continue
        norm = input_norm(model, pathways, projection)
        read = seen[projection.module][0].flatten(0, -2)
        if norm is None:
            assert name == "olmo2"
        else:
            assert torch.equal(seen[norm.module][1].flatten(0, -2), read)
            entered = seen[norm.module][0].double()
            entered = entered - entered.mean(-1, keepdim=True) if norm.centres else entered
            hidden = entered / (entered.square().mean(-1, keepdim=True) + 1e-6).sqrt()
            expected = hidden * norm.gain + (0 if norm.bias is None else norm.bias)
            assert torch.allclose(expected.flatten(0, -2), read.double(), rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "olmo2", "bloom"])
def test_reading_less_of_a_carried_direction_is_taking_it_out_before_the_norms_gain(name: str) -> None:
    model, rows = TINY[name](), torch.randn(2, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    pathways = find_pathways(model)
    projection = pathways.select(["q_proj"], [1])[0]
    space = carried(model, pathways, projection, rows, side="read")
    norm = input_norm(model, pathways, projection)
    hidden = torch.randn(7, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    gain, bias = torch.ones(48, dtype=torch.float64), torch.zeros(48, dtype=torch.float64)
    if norm is not None:
        gain, bias = norm.gain, bias if norm.bias is None else norm.bias
        hidden, rows = (v - v.mean(1, keepdim=True) if norm.centres else v for v in (hidden, rows))
    basis = torch.linalg.qr(rows.T)[0].T
    read = hidden * gain + bias
    wanted = (hidden - (hidden @ basis.T) @ basis) * gain + bias
    offset = 0 if space.offset is None else space.offset
    assert torch.allclose(read - ((read - offset) @ space.reads.T) @ space.steps, wanted, atol=1e-9)
    assert torch.allclose(space.reads @ space.steps.T, torch.eye(2, dtype=torch.float64), atol=1e-9)


@pytest.mark.parametrize("name", ["gemma2", "olmo2"])
def test_a_step_before_a_norm_moves_the_stream_along_the_direction(name: str) -> None:
    model, row = TINY[name](), unit(torch.randn(48, generator=torch.Generator().manual_seed(2)))
    pathways = find_pathways(model)
    projection = pathways.select(["o_proj"], [0])[0]
    space = carried(model, pathways, projection, row, side="write")
    norm = output_norm(model, pathways, projection)
    assert norm is not None
    assert torch.allclose(space.steps * norm.gain, row, atol=1e-9)
    assert torch.allclose(unit(space.reads), unit(row * norm.gain), atol=1e-9)


def test_features_that_a_gain_switches_off_are_left_out() -> None:
    model = TINY["llama"]()
    model.model.layers[0].input_layernorm.weight.data[:5] = 0
    pathways = find_pathways(model)
    space = carried(model, pathways, pathways.select(["q_proj"], [0])[0], torch.ones(1, 48).double(), side="read")
    assert bool(torch.isfinite(space.reads).all())
    assert torch.equal(space.steps[:, :5], torch.zeros(1, 5, dtype=torch.float64))
    assert float(space.reads @ space.steps.T) == pytest.approx(1)
