"""Every architecture and both writing matrices: ΔW k = r, the target's lead grows, and tokens before are not needed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from readwrite_edit.edit.associate import plan_associate
from readwrite_edit.edit.associate.continuations import Continuations
from readwrite_edit.edit.associate.facts import read_facts
from readwrite_edit.edit.associate.keys import keys_of
from readwrite_edit.edit.associate.questions import ask
from readwrite_edit.errors import EditError, ModelError
from readwrite_edit.interventions.forward import edited, final_hidden
from tests.ready_context import ready_context
from tests.tiny_models import TINY

FACT = {"prompt": "the cat sat on", "subject": "cat", "target": "ax"}
AT_THE_END = {"prompt": "on the cat", "target": "!"}  # what the last layer writes there reaches the answer


def context_of(name: str, **settings: Any):
    return ready_context(name, associate={**FACT, "layers": [0], **settings})


@pytest.mark.parametrize("module", ["o_proj", "down_proj"])
@pytest.mark.parametrize("name", sorted(TINY))
def test_constraint_and_lead(name: str, module: str) -> None:
    context = context_of(name, module=module, margin=0.5)
    if (name, module) == ("mixtral", "down_proj"):
        with pytest.raises(ModelError, match="three-dimensional tensors"):
            plan_associate(context)
        return
    plan = plan_associate(context)
    (change,) = plan.changes
    row = plan.tables["facts"].iloc[0]
    asked = ask(context.tokenizer, context.model, read_facts(context.recipe.associate)[0], context.recipe.associate)
    key = keys_of(context.model, change.projection, asked)[0][:, 0]
    assert float((change.update.dense() @ key).norm()) == pytest.approx(row["residual_norm"], rel=1e-9)
    assert row["margin_value"] > row["margin_before"] + 0.1
    assert row["margin_after"] == pytest.approx(lead(context.model, asked[0].bare, plan.changes), abs=1e-3)
    assert row["margin_before"] == pytest.approx(lead(context.model, asked[0].bare, ()), abs=1e-3)


def lead(model, question, changes) -> float:
    """Least lead over the runner-up in one plain pass over prompt and target, the edit in the hook."""
    ids = torch.tensor([[*question.ids, *question.target[:-1]]])
    with torch.no_grad(), edited(model, [changes]):
        logits = model(ids).logits[0, len(question.ids) - 1 :]
    leads = []
    for row, token in zip(logits, question.target, strict=True):
        others = torch.cat([row[:token], row[token + 1 :]])
        leads.append(float(row[token] - others.max()))
    return min(leads)


@pytest.mark.parametrize("module", ["o_proj", "down_proj"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "gemma2", "olmo2", "falcon_new_decoder", "opt", "bloom"])
def test_margin_is_reached_with_the_whole_edit(name: str, module: str) -> None:
    context = context_of(name, module=module, layers=[1], margin=0.5, **AT_THE_END)
    row = plan_associate(context).tables["facts"].iloc[0]
    assert row["reached"] and 0.5 <= row["margin_after"] < 1.5
    assert row["margin_before"] < 0


@pytest.mark.parametrize("name", sorted(TINY))
def test_earlier_tokens_and_layers_are_computed_once(name: str) -> None:
    """Logits and gradient from the subject's last token on are those of a whole pass with the value in a hook."""
    context = context_of(name, module="o_proj")
    asked = ask(context.tokenizer, context.model, read_facts(context.recipe.associate)[0], context.recipe.associate)
    projection = context.pathways.select(["o_proj"], [0])[0]
    model, question = context.model, asked[0].bare
    prompts = Continuations(model, projection, [question, question])
    value = torch.randn(2, projection.d_out, generator=torch.Generator().manual_seed(0))
    reading = prompts.read(value)
    weights = torch.linspace(-1, 1, reading.logits.numel()).view_as(reading.logits)
    expected = value.clone().requires_grad_(True)

    def hook(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        mask = torch.zeros(len(question.ids) + len(question.target) - 1)
        mask[question.subject[1]] = 1
        rows = output.view(2, len(mask), -1)
        return (rows + mask[None, :, None] * expected[:, None]).view(output.shape)

    handle = model.get_submodule(projection.module).register_forward_hook(hook)
    ids = torch.tensor([[*question.ids, *question.target[:-1]]] * 2)
    logits = model(ids).logits[:, len(question.ids) - 1 :].flatten(0, 1)
    handle.remove()
    (gradient,) = torch.autograd.grad((logits * weights).sum(), expected)
    assert (reading.logits - logits).abs().max() < 1e-4
    assert (reading.pull(weights) - gradient).abs().max() < 1e-4 * gradient.abs().max()
    one = torch.tensor([1])
    assert (prompts.margins(value[1:], one) - prompts.margins(value)[1:]).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["llama", "gpt_neox", "opt"])
def test_several_layers_share(name: str) -> None:
    plan = plan_associate(context_of(name, layers=[0, 1], margin=0.5, **AT_THE_END))
    assert [change.projection.layer for change in plan.changes] == [0, 1]
    assert plan.tables["facts"]["reached"].all()
    sizes = [float(change.update.squared_norm()) for change in plan.changes]
    assert min(sizes) > 0.01 * max(sizes)


@pytest.mark.parametrize("name", ["olmo2", "gemma3_text"])
def test_several_layers_are_refused_where_outputs_are_normalised(name: str) -> None:
    with pytest.raises(EditError, match="name one layer"):
        plan_associate(context_of(name, layers=[0, 1]))


def test_a_layer_that_can_not_reach_the_answer_is_refused() -> None:
    with pytest.raises(EditError, match="name an earlier layer"):
        plan_associate(context_of("llama", layers=[1]))


def test_tied_embeddings_are_not_touched() -> None:
    context = context_of("gpt2")
    before = {name: weight.clone() for name, weight in context.model.named_parameters()}
    plan_associate(context)
    assert context.model.get_output_embeddings().weight is context.model.get_input_embeddings().weight
    assert all(torch.equal(weight, before[name]) for name, weight in context.model.named_parameters())
    ids = torch.tensor([[5, 6, 7]])
    assert torch.isfinite(final_hidden(context.model, ids)).all()
