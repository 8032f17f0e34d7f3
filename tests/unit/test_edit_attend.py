"""attend: what is refused, what is reported, and its effect for controls."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from readwrite_edit.edit.attend import plan_attend
from readwrite_edit.edit.attend.effect import moved_attention
from readwrite_edit.edit.attend.sequences import Sequences
from readwrite_edit.edit.attend.solve import solve_output
from readwrite_edit.edit.plan import Plan
from readwrite_edit.errors import EditError, ModelError
from readwrite_edit.interventions.changes import Change, Edit
from readwrite_edit.interventions.controls import random_directions
from readwrite_edit.interventions.forward import layers_of
from tests.ready_context import ReadyContext, ready_context
from tests.tiny_models import tiny_config, tiny_model, tiny_tokenizer

PROMPTS = ("the cat sat on it", "a dog and the cat ran")


def prepared(model="llama", **changed) -> ReadyContext:
    options = {"prompts": PROMPTS, "query": "last", "key": "cat", "layer": 1, "head": 1, **changed}
    return ready_context(model, attend=options)


@pytest.fixture(scope="module")
def context() -> ReadyContext:
    return prepared(without=("a bird sang", "red house by the river"))


@pytest.fixture(scope="module")
def plan(context) -> Plan:
    return plan_attend(context)


def with_config(name: str, **changed):
    config = tiny_config(name)
    for key, value in changed.items():
        setattr(config, key, value)
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"key": "horse"}, "pattern 'horse': not in the prompt 'the cat sat on it'"),
        ({"query": "horse"}, "pattern 'horse': not in the prompt"),
        ({"query": "cat", "key": "sat", "prompts": PROMPTS[0]}, "only at token 10; expected before token 6"),
        ({"query": "cat", "key": "cat", "prompts": PROMPTS[0]}, "only at token 6; expected before token 6"),
        ({"head": 4}, "head 4: llama here has query heads 0 to 3"),
        ({"change": 0.0}, "change 0"),
        ({"prompts": "the cat" + " ran" * 99}, "403 tokens, the model 256 positions"),
    ],
)
def test_what_can_not_be_done_is_refused(changed: dict, message: str) -> None:
    with pytest.raises(EditError, match=message):
        plan_attend(prepared(**changed))


def test_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(ModelError, match="layers 0 to 1"):
        plan_attend(prepared(layer=2))


def test_a_pair_outside_the_window_is_refused() -> None:
    """The cat stands 10 tokens before the end: a window of 8 hides it, and one of 16 does not."""
    prompt = PROMPTS[0]
    with pytest.raises(EditError, match="its window hides token 6 from token 16"):
        plan_attend(prepared(with_config("mistral", sliding_window=8), prompts=prompt))
    plan = plan_attend(prepared(with_config("mistral", sliding_window=16), prompts=prompt))
    assert plan.figures["score_change"] == pytest.approx(2, abs=1e-4)


def test_a_change_beyond_what_normed_queries_reach_is_refused() -> None:
    with pytest.raises(EditError, match=r"out of reach.*reached: \+\d"):
        plan_attend(prepared("qwen3", change=1000.0))


def test_more_heads_than_a_key_head_has_dimensions_are_refused() -> None:
    model = with_config("falcon_multi_query", num_attention_heads=12)  # d_head 4
    with pytest.raises(EditError, match="12 query heads share a key head of 4 dimensions"):
        plan_attend(prepared(model, module="k_proj", head=None))


def test_attention_that_shows_no_scores_is_refused(monkeypatch) -> None:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    def silent(module, query, key, value, attention_mask, **_options):
        return value.repeat_interleave(query.shape[1] // value.shape[1], 1).transpose(1, 2), None

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "silent", silent)
    context = prepared()
    context.model.config._attn_implementation = "silent"
    with pytest.raises(EditError, match="'silent' does not show its scores"):
        plan_attend(context)


def test_tables_figures_and_prompts(plan: Plan) -> None:
    scores, without = plan.tables["scores"], plan.tables["without"]
    assert list(scores.prompt) == [0, 1] and list(scores["head"]) == [1, 1] and list(scores.key_value_head) == [0, 0]
    assert list(scores.query_token) == [16, 20] and list(scores.key_token) == [6, 16]
    assert (scores.score_change == scores.score_after - scores.score_before).all()
    assert scores.gate.mean() == pytest.approx(1, abs=1e-6)
    assert scores.score_change.mean() == pytest.approx(plan.figures["score_change"])
    assert list(without.text) == ["a bird sang", "red house by the river"]
    assert ((0 < without.moved_mean) & (without.moved_mean < without.moved_max) & (without.moved_max < 1)).all()
    assert plan.figures["without_moved"] == pytest.approx(without.moved_mean.mean())
    assert [prompt.kind for prompt in plan.prompts] == ["prompt"] * 2 + ["locality"] * 2
    assert plan.why == "layer 1, q_proj, head 1: as asked" and not any(prompt.target for prompt in plan.prompts)


def other_edits(context: ReadyContext, layer: int) -> list[tuple[Change, ...]]:
    projection = context.pathways.select(["q_proj"], [layer])[0]
    reads, writes = (random_directions(size, 3, seed=size) for size in (projection.d_in, projection.d_out + 1))
    return [(Edit(projection, 2.0, v, u[:-1]).change,) for v, u in zip(reads, writes, strict=True)]


def test_effect_is_the_change_of_weight_alone_or_among_others(context, plan: Plan) -> None:
    expected = plan.tables["scores"].weight_after - plan.tables["scores"].weight_before
    alone = plan.effect.measure([plan.changes])
    assert alone[0].tolist() == pytest.approx(list(expected), abs=1e-6)
    variants = [*other_edits(context, 1), plan.changes, ()]
    together = plan.effect.measure(variants)
    assert together.shape == (5, 2) and torch.allclose(together[3], alone[0], atol=1e-6)
    assert not together[4].any() and (together[:3].abs() > 1e-6).all()
    assert plan.effect.observations == PROMPTS


def test_an_edit_below_the_layer_counts_and_one_above_does_not() -> None:
    context = prepared(layer=0)
    effect = plan_attend(context).effect
    assert not effect.measure(other_edits(context, 1)).any()
    context = prepared(layer=1)
    effect, below = plan_attend(context).effect, other_edits(context, 0)
    found = effect.measure([*below, *other_edits(context, 1)])
    assert (found.abs() > 1e-6).all()
    assert torch.allclose(found[:3], effect.measure(below), atol=1e-6)


def test_layers_outside_are_not_computed_again(context, plan: Plan) -> None:
    calls = []
    modules = [layers_of(context.model)[0].self_attn, layers_of(context.model)[1].mlp]
    hooks = [module.register_forward_hook(lambda *_: calls.append(0)) for module in modules]
    plan.effect.measure([plan.changes] * 3)
    for hook in hooks:
        hook.remove()
    assert not calls


def test_many_variants_are_computed_in_parts(context, plan: Plan, monkeypatch) -> None:
    whole = plan.effect.measure([plan.changes, ()] * 3)
    monkeypatch.setattr("readwrite_edit.edit.attend.sequences.TOKENS_PER_PASS", 50)
    assert torch.allclose(plan.effect.measure([plan.changes, ()] * 3), whole, atol=1e-6)


def test_moved_attention_is_half_the_sum_of_changes_by_position(context, plan: Plan) -> None:
    ids = tiny_tokenizer()("a bird sang")["input_ids"]
    projection = plan.changes[0].projection
    alone = moved_attention(Sequences(context.model, [ids], projection), plan.changes, [1])
    weights = Sequences(context.model, [ids], projection).scores([(), plan.changes]).double().softmax(-1)[:, 0, 1]
    expected = (weights[1] - weights[0]).abs().sum(1) / 2
    assert float(alone[0]) == pytest.approx(float(expected.mean())) and float(alone[1]) == float(expected.max())
    longer = moved_attention(Sequences(context.model, [ids, [*ids, *ids]], projection), plan.changes, [1])
    assert float(longer[0][0]) == pytest.approx(float(alone[0]), abs=1e-6)  # what fills up does not count


def test_chats_are_found_in_their_template() -> None:
    plan = plan_attend(prepared(format="chat"))
    assert plan.prompts[0].text == PROMPTS[0] and len(plan.prompts[0].ids) > len(PROMPTS[0])
    assert plan.figures["score_change"] == pytest.approx(2, abs=1e-4)


def test_half_precision_is_met_within_its_rounding() -> None:
    plan = plan_attend(prepared(tiny_model("llama").to(torch.bfloat16)))
    assert plan.figures["score_change"] == pytest.approx(2, abs=0.1)


def test_solving_bounded_scores() -> None:
    """Scores tanh(r) of one block each: +0.5 takes r = atanh(0.5), and +1.5 does not exist."""

    def read(r: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return r.tanh(), torch.diag(1 - r.tanh().square())

    blocks = {range(0, 1): [0], range(1, 2): [1]}
    solved = solve_output(read, 2, blocks, 0.5, rounding=0.0)
    assert solved.writes.tolist() == pytest.approx([0.5493] * 2, abs=1e-3) and solved.steps > 1
    with pytest.raises(EditError, match="out of reach"):
        solve_output(read, 2, blocks, 1.5, rounding=0.0)
    with pytest.raises(EditError, match="do not depend"):
        solve_output(lambda r: (r * 0, torch.zeros(2, 2).double()), 2, blocks, 0.5, rounding=0.0)
