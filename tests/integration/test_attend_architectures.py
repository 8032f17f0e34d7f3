"""attend and steer on every known architecture: done, or refused with the reason."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from readwrite_edit.edit.attend import plan_attend
from readwrite_edit.edit.plan import Plan
from readwrite_edit.edit.steer import plan_steer
from readwrite_edit.errors import ModelError
from readwrite_edit.models.architectures import EXPERTS
from readwrite_edit.models.pathways import role_rows
from tests.ready_context import ready_context
from tests.tiny_models import TINY, tiny_tokenizer

PROMPT = "the cat sat on it"
QUERY, KEY = 16, 6


def with_weight_edited(model, plan: Plan):
    other = copy.deepcopy(model)
    for change in plan.changes:
        module = other.get_submodule(change.projection.module)
        weight = module.weight.data.T if isinstance(module, Conv1D) else module.weight.data
        weight[role_rows(change.projection)] += change.update.dense().float()
    return other


def ids() -> torch.Tensor:
    return torch.tensor([tiny_tokenizer()(PROMPT)["input_ids"]])


@pytest.mark.parametrize("module", ["q_proj", "k_proj"])
@pytest.mark.parametrize("name", sorted(TINY))
def test_attend(name: str, module: str) -> None:
    """The weights that the report gives are those of the model with ΔW in its weight, by its own account."""
    model = TINY[name]()
    options = {"prompts": PROMPT, "query": "last", "key": "cat", "layer": 1, "head": 2, "module": module}
    plan = plan_attend(ready_context(model, attend=options))
    assert plan.figures["score_change"] == pytest.approx(2, abs=5e-4)
    table = plan.tables["scores"].set_index("head")
    with torch.no_grad():
        before, after = (
            one(ids(), output_attentions=True).attentions[1][0, :, QUERY, KEY]
            for one in (model, with_weight_edited(model, plan))
        )
    for head, row in table.iterrows():
        assert row.weight_before == pytest.approx(float(before[head]), abs=1e-5)
        assert row.weight_after == pytest.approx(float(after[head]), abs=1e-5)
    assert float(plan.effect.measure([plan.changes])) == pytest.approx(float(after[2] - before[2]), abs=1e-5)


@pytest.mark.parametrize("module", ["o_proj", "down_proj"])
@pytest.mark.parametrize("name", sorted(TINY))
def test_steer(name: str, module: str) -> None:
    """Towards a token, in the last layer and at the end of the prompt, where no layer can undo it."""
    model = TINY[name]()
    options = {"prompts": PROMPT, "layer": 1, "module": module, "strength": 2.0, "direction": {"token": "x"}}
    context = ready_context(model, steer=options)
    if module not in context.pathways.roles or (name == "qwen3_moe" and module == "down_proj"):
        with pytest.raises(ModelError, match=EXPERTS):
            plan_steer(context)
        return
    plan = plan_steer(context)
    token = tiny_tokenizer()("x")["input_ids"][0]
    with torch.no_grad():
        before, after = (
            one(ids()).logits[0, -1].log_softmax(0)[token] for one in (model, with_weight_edited(model, plan))
        )
    found = float(plan.effect.measure([plan.changes]))
    assert found == pytest.approx(float(after - before), abs=1e-3) and found > 0.1
