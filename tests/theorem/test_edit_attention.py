"""attend changes the score that it is asked to change by as much as it is asked to, and no other than it says.

The scores here are computed anew from the weights, position by position, with
rotary embeddings written out: nothing of the edit's own code, nor of the
model's attention, is used for them.
"""

from __future__ import annotations

import copy
import math

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from readwrite_edit.edit.attend import plan_attend
from readwrite_edit.edit.attend.scores import attention_scores
from readwrite_edit.edit.gate import gate_at
from readwrite_edit.edit.metric import metric_of
from readwrite_edit.edit.plan import Plan
from readwrite_edit.geometry import LowRank
from readwrite_edit.interventions.forward import edited, unedited
from readwrite_edit.models.pathways import find_pathways, role_rows, weight_of
from tests.ready_context import ReadyContext, ready_context
from tests.tiny_models import TINY, tiny_tokenizer

PROMPTS = ("the cat sat on it", "a dog and the cat ran")
QUERIES, KEYS = (16, 20), (6, 16)  # one token a character: the last of each prompt, the "t" of "cat"
LAYER = 1
LINEAR = ["llama", "phi3", "gpt2", "gpt_neox", "opt", "falcon_new_decoder", "bloom"]
ROTARY = {
    "llama": 1,
    "phi3": 1,
    "gpt_neox": 0.25,
    "falcon_new_decoder": 1,
    "falcon_multi_query": 1,
}  # share of a head that turns


def options(**changed) -> dict:
    return {"prompts": PROMPTS, "query": "last", "key": "cat", "layer": LAYER, "change": 1.3, **changed}


def planned(model, **changed) -> tuple[ReadyContext, Plan]:
    context = ready_context(model, attend=options(**changed))
    return context, plan_attend(context)


def with_weight_edited(model, plan: Plan):
    """A copy whose weight holds W + ΔW."""
    other = copy.deepcopy(model)
    for change in plan.changes:
        module = other.get_submodule(change.projection.module)
        weight = module.weight.data.T if isinstance(module, Conv1D) else module.weight.data
        weight[role_rows(change.projection)] += change.update.dense().float()
    return other


def turned(vector: torch.Tensor, position: int, width: int) -> torch.Tensor:
    """Rotary embedding of one head's vector: coordinates i and i + width/2 turn by position · 10000^(−2i/width)."""
    frequencies = 10000.0 ** (-torch.arange(0, width, 2).double() / width)
    half = len(frequencies)
    out = vector.clone()
    for i, frequency in enumerate(frequencies):
        angle = position * float(frequency)
        first, second = vector[i], vector[i + half]
        out[i] = first * math.cos(angle) - second * math.sin(angle)
        out[i + half] = second * math.cos(angle) + first * math.sin(angle)
    return out


def slow_score(name: str, model, prompt: int, head: int) -> float:
    """q_i · k_j / √d_head of one pair, from weights and inputs; ALiBi, which no edit changes, is left out."""
    pathways = find_pathways(model)
    ids = torch.tensor([tiny_tokenizer()(PROMPTS[prompt])["input_ids"]])
    d, vectors = pathways.d_head, []
    for role, position in (("q_proj", QUERIES[prompt]), ("k_proj", KEYS[prompt])):
        projection = pathways.select([role], [LAYER])[0]
        with torch.no_grad():
            x = unedited(model, ids, [projection]).inputs[projection.module][position].double()
        bias = getattr(model.get_submodule(projection.module), "bias", None)
        y = weight_of(model, projection).double() @ x
        y = y if bias is None else y + bias.detach().double()[role_rows(projection)]
        block = head if role == "q_proj" else head * pathways.n_kv_heads // pathways.n_heads
        vector = y[block * d : (block + 1) * d]
        vectors.append(turned(vector, position, int(d * ROTARY[name])) if name in ROTARY else vector)
    return float(vectors[0] @ vectors[1]) / math.sqrt(d)


@pytest.mark.parametrize("head", [1, None])
@pytest.mark.parametrize("module", ["q_proj", "k_proj"])
@pytest.mark.parametrize("name", LINEAR)
def test_the_mean_score_changes_by_what_was_asked(name: str, module: str, head: int | None) -> None:
    model = TINY[name]()
    _, plan = planned(model, module=module, head=head)
    assert plan.figures["newton_steps"] == 1 and not any("not linear" in note for note in plan.notes)
    other, table = with_weight_edited(model, plan), plan.tables["scores"]
    for one in [1] if head == 1 else [0, 3]:
        changes = [slow_score(name, other, prompt, one) - slow_score(name, model, prompt, one) for prompt in (0, 1)]
        assert sum(changes) / 2 == pytest.approx(1.3, abs=1e-4)
        assert list(table[table["head"] == one].score_change) == pytest.approx(changes, abs=1e-4)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "opt", "falcon_new_decoder"])
def test_scores_are_those_of_the_weights(name: str) -> None:
    _, plan = planned(name, head=2)
    slow = [slow_score(name, TINY[name](), prompt, 2) for prompt in (0, 1)]
    assert list(plan.tables["scores"].score_before) == pytest.approx(slow, abs=1e-4)


@pytest.mark.parametrize("name", ["qwen3", "olmo2", "gemma2", "gemma3_text"])
@pytest.mark.parametrize("module", ["q_proj", "k_proj"])
def test_scores_behind_norms_and_softcaps_change_by_what_was_asked(name: str, module: str) -> None:
    """Against the model's own attention weights: log w_ij − log w_ij' changes as s_ij − s_ij' does."""
    model = TINY[name]()
    _, plan = planned(model, module=module, head=1, prompts=PROMPTS[:1])
    assert plan.figures["newton_steps"] > 1 and any("not linear" in note for note in plan.notes)
    ids = torch.tensor([tiny_tokenizer()(PROMPTS[0])["input_ids"]])
    with torch.no_grad():
        scores = [attention_scores(one, ids, LAYER)[0, 1, 16] for one in (model, with_weight_edited(model, plan))]
        weights = [model(ids, output_attentions=True).attentions[LAYER][0, 1, 16]]
        with edited(model, [plan.changes]):
            weights.append(model(ids, output_attentions=True).attentions[LAYER][0, 1, 16])
    assert float(scores[1][6] - scores[0][6]) == pytest.approx(1.3, abs=2e-4)
    by_weights, by_scores = ((after - before) for before, after in ([w.log() for w in weights], scores))
    assert torch.allclose(by_weights[6] - by_weights, by_scores[6] - by_scores, atol=1e-4)


@pytest.mark.parametrize("name", ["llama", "gpt2", "falcon_new_decoder"])
def test_a_query_edit_of_one_head_touches_no_other(name: str) -> None:
    model = TINY[name]()
    context, plan = planned(model, head=2)
    d, rows = context.pathways.d_head, plan.changes[0].update.B.squeeze(1)
    assert rows[2 * d : 3 * d].abs().max() > 0
    rows[2 * d : 3 * d] = 0
    assert not rows.any()
    _, plan = planned(model, head=2)
    ids = torch.tensor([tiny_tokenizer()(PROMPTS[0])["input_ids"]])
    with torch.no_grad():
        before = attention_scores(model, ids, LAYER)[0]
        with edited(model, [plan.changes]):
            after = attention_scores(model, ids, LAYER)[0]
    for head in range(4):
        assert torch.equal(before[head], after[head]) == (head != 2)


@pytest.mark.parametrize("name", ["llama", "falcon_new_decoder", "falcon_multi_query"])
def test_a_key_edit_moves_all_heads_of_its_key_head_and_says_so(name: str) -> None:
    model = TINY[name]()
    context, plan = planned(model, module="k_proj", head=1, prompts=PROMPTS[:1])
    shared = context.pathways.n_heads // context.pathways.n_kv_heads
    table = plan.tables["scores"].set_index("head")
    assert list(table.index) == list(range(shared)) and set(table.key_value_head) == {0}
    assert table.wanted.isna().sum() == shared - 1
    other = with_weight_edited(model, plan)
    for head in range(4):
        moved = slow_score(name, other, 0, head) - slow_score(name, model, 0, head)
        assert moved == pytest.approx(table.score_change[head] if head < shared else 0, abs=1e-4)
    assert any("serves" in note and "head" in note for note in plan.notes)


def test_all_heads_of_one_key_head_each_get_the_change() -> None:
    _, plan = planned("falcon_multi_query", module="k_proj", head=None)
    mean = plan.tables["scores"].groupby("head").score_change.mean()
    assert list(mean) == pytest.approx([1.3] * 4, abs=1e-4)


@pytest.mark.parametrize("module", ["q_proj", "k_proj"])
def test_no_edit_with_the_same_effect_costs_less(module: str) -> None:
    """Any other rank-1 edit of the head with the same mean score has at least as large a tr(ΔW C ΔWᵀ)."""
    context, plan = planned("gpt2", module=module, head=1)
    change = plan.changes[0]
    metric = context.metric(change.projection)
    cost, read, write = metric.energy(change.update), change.update.A[0], change.update.B[:, 0]
    ids = [torch.tensor([tiny_tokenizer()(prompt)["input_ids"]]) for prompt in PROMPTS]
    places = QUERIES if module == "q_proj" else KEYS
    with torch.no_grad():
        inputs = [unedited(context.model, one, [change.projection]).inputs[change.projection.module] for one in ids]
    key = torch.stack([own[place] for own, place in zip(inputs, places, strict=True)]).double().mean(0)
    assert float(read @ key) == pytest.approx(1, abs=1e-9)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        aside = torch.randn(len(key), generator=generator, dtype=torch.float64)
        aside -= key * (aside @ key) / (key @ key)
        assert metric.energy(LowRank(write[:, None], (read + 0.3 * read.norm() * aside)[None])) > cost
        off = torch.randn(12, generator=generator, dtype=torch.float64)
        block = write[12:24]
        longer = write.clone()
        longer[12:24] += off - block * (off @ block) / (block @ block)  # r lies along the score's derivative
        assert metric.energy(LowRank(longer[:, None], read[None])) > cost


def test_the_gate_is_the_hard_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    x, keys = torch.randn(500, 7, generator=generator).double(), torch.randn(3, 7, generator=generator).double()
    C = x.T @ x / 500
    gate = gate_at(keys, metric_of(C, 500, 0.0, name="x"))
    k = keys.mean(0)
    expected = torch.linalg.inv(C) @ k / (k @ torch.linalg.inv(C) @ k)
    assert torch.allclose(gate.reads, expected) and float(gate.at(k)) == pytest.approx(1)
    assert gate.usual == pytest.approx(float((x @ expected).square().mean().sqrt()))


def test_a_negative_change_lowers_attention_and_counts_as_wanted() -> None:
    _, plan = planned("llama", change=-2.0)
    assert plan.figures["score_change"] == pytest.approx(-2, abs=1e-4)
    assert plan.figures["weight_after"] < plan.figures["weight_before"]
    assert (plan.effect.measure([plan.changes]) > 0).all()


@pytest.mark.parametrize("name", ["llama", "mistral", "gpt2", "qwen2"])
def test_fused_and_eager_attention_show_the_same_scores(name: str) -> None:
    model, ids = TINY[name](), torch.tensor([tiny_tokenizer()(PROMPTS[0])["input_ids"]] * 2)
    rows = torch.tensor([9, 4])
    with torch.no_grad():
        eager, some = attention_scores(model, ids, LAYER), attention_scores(model, ids, LAYER, rows)
        model.set_attn_implementation("sdpa")
        fused, few = attention_scores(model, ids, LAYER), attention_scores(model, ids, LAYER, rows)
    assert torch.equal(eager.isinf(), fused.isinf()) and bool(eager[0, 0].triu(1).isinf().any())
    assert torch.allclose(eager, fused, atol=1e-5) and torch.allclose(some, few, atol=1e-5)
    assert torch.equal(some, torch.stack([eager[0, :, 9], eager[1, :, 4]]))
