"""The CPU answer to TRL's call equals TRL's own, field by field and gradient by gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor

from readwrite_edit.align import backbone, completion_head
from readwrite_edit.align.completion_head import completion_log_probs, install_completion_head
from readwrite_edit.align.trl_names import FusedCausalLMOutput, add_fused_lm_head
from readwrite_edit.models.language_head import LanguageModelHead, language_model_head
from tests.tiny_models import TINY

FIELDS = ("log_probs", "entropy", "mean_logits", "is_top1", "log_sum_sq_probs")
MODELS = ("llama", "gemma2", "gpt2")
TIGHT = {"rtol": 1e-5, "atol": 2e-6}


def batch(shapes: Sequence[tuple[int, int]], seed: int = 0) -> dict[str, Tensor]:
    """Right-padded rows of (prompt, completion) lengths; labels on the completions alone."""
    longest = max(prompt + completion for prompt, completion in shapes)
    ids = torch.randint(3, 100, (len(shapes), longest), generator=torch.Generator().manual_seed(seed))
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, (prompt, completion) in enumerate(shapes):
        mask[row, : prompt + completion] = 1
        labels[row, prompt : prompt + completion] = ids[row, prompt : prompt + completion]
    return {"input_ids": ids * mask, "attention_mask": mask, "labels": labels}


RAGGED = [(3, 4), (12, 1), (2, 20), (6, 0), (1, 9), (12, 14)]
BATCHES = {"ragged": RAGGED, "one row": [(2, 5)], "equal": [(4, 4)] * 3, "empty completions": [(5, 0), (3, 0)]}


def wrapped(name: str, ours: bool) -> PeftModel:
    """A model whose adapter already changes it, with TRL's answer or with ours on top of it."""
    model = TINY[name]()
    if name == "gemma2":
        model.config.final_logit_softcapping = 0.5  # the default of 30 hardly bends these small logits
    add_fused_lm_head(model, outputs=FIELDS)
    modules = ["c_attn"] if name == "gpt2" else ["q_proj", "k_proj"]
    peft = get_peft_model(model, LoraConfig(r=2, target_modules=modules, fan_in_fan_out=name == "gpt2"))
    for index, (parameter_name, parameter) in enumerate(sorted(peft.named_parameters())):
        if "lora_" in parameter_name:
            parameter.data.normal_(0, 0.3, generator=torch.Generator().manual_seed(index))
    if ours:
        install_completion_head(model)
    return peft


def answer(model: PeftModel, inputs: dict[str, Tensor], **options: Any) -> FusedCausalLMOutput:
    return model(**inputs, use_cache=False, fused_lm_head=True, **options)


def with_likely_labels(model: PeftModel, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Label the first row with the model's own choices: random tokens are hardly ever the most likely ones."""
    labels = inputs["labels"].clone()
    with torch.no_grad():
        chosen = model(**inputs).logits[0, :-1].argmax(dim=1)
    labels[0, 1:] = torch.where(labels[0, 1:] == -100, -100, chosen)
    return inputs | {"labels": labels}


@pytest.fixture
def several_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches as small as these would else be one group and one block of rows."""
    monkeypatch.setattr(backbone, "_SMALLEST_GROUP_TOKENS", 8)
    monkeypatch.setattr(completion_head, "_ROWS", 7)


@pytest.mark.usefixtures("several_groups")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shapes", BATCHES.values(), ids=BATCHES)
def test_every_field_equals_that_of_trl(name: str, shapes: list[tuple[int, int]]) -> None:
    inputs = with_likely_labels(wrapped(name, ours=False), batch(shapes))
    expected, found = answer(wrapped(name, ours=False), inputs), answer(wrapped(name, ours=True), inputs)
    assert torch.equal(found.label_mask, expected.label_mask)
    for field in (*FIELDS, "loss"):
        assert found[field].dtype == expected[field].dtype, field
        torch.testing.assert_close(found[field], expected[field], **TIGHT, msg=lambda text, f=field: f"{f}: {text}")
    assert bool(found.is_top1.any()) == bool(found.label_mask[0].any())


@pytest.mark.usefixtures("several_groups")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shapes", [RAGGED, BATCHES["empty completions"]], ids=["ragged", "empty completions"])
def test_gradients_of_the_adapter_equal_those_of_trl(name: str, shapes: list[tuple[int, int]]) -> None:
    """Through a loss that weighs every position differently, as preference losses do."""
    inputs, gradients = batch(shapes, seed=1), []
    for ours in (False, True):
        model = wrapped(name, ours)
        log_probs = answer(model, inputs).log_probs
        weights = torch.randn(log_probs.shape, generator=torch.Generator().manual_seed(2))
        (log_probs * weights).sum().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    assert len(gradients[0]) == (4 if name == "gpt2" else 8)
    for parameter_name, expected in gradients[0].items():
        close = 1e-5 * float(expected.abs().max())
        torch.testing.assert_close(gradients[1][parameter_name], expected, rtol=0, atol=close)
    assert any(bool(gradient.any()) for gradient in gradients[1].values()) == (shapes is RAGGED)


@pytest.mark.usefixtures("several_groups")
def test_the_answer_without_gradients_is_the_same() -> None:
    model, inputs = wrapped("llama", ours=True), batch(RAGGED)
    with torch.no_grad():
        plain = answer(model, inputs)
    assert not plain.log_probs.requires_grad
    assert all(torch.equal(plain[field], answer(model, inputs)[field]) for field in FIELDS)


def test_only_labelled_positions_reach_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    scored: list[int] = []
    project = LanguageModelHead.logits

    def counting(self: LanguageModelHead, hidden: Tensor) -> Tensor:
        scored.append(len(hidden))
        return project(self, hidden)

    monkeypatch.setattr(LanguageModelHead, "logits", counting)
    answer(wrapped("llama", ours=True), batch(RAGGED))
    assert sum(scored) == sum(completion for _, completion in RAGGED)


@pytest.mark.parametrize("options", [{}, {"labels": None}])
def test_every_other_call_stays_the_models_own(options: dict[str, Any]) -> None:
    model, bare = TINY["llama"](), TINY["llama"]()
    add_fused_lm_head(model, outputs=FIELDS)
    install_completion_head(model)
    inputs = batch([(3, 4), (2, 5)]) | options
    found, expected = model(**inputs), bare(**inputs)
    assert torch.equal(found.logits, expected.logits)
    assert (found.loss is None and expected.loss is None) or torch.equal(found.loss, expected.loss)


def test_a_mixture_of_experts_keeps_its_balancing_loss() -> None:
    """TRL asks for router logits in such models; the answer to that stays TRL's."""
    losses = []
    for ours in (False, True):
        model = TINY["mixtral"]()
        add_fused_lm_head(model, outputs=FIELDS)
        if ours:
            install_completion_head(model)
        losses.append(model(**batch(RAGGED), fused_lm_head=True, output_router_logits=True))
    assert losses[0].aux_loss > 0 and torch.equal(losses[0].aux_loss, losses[1].aux_loss)
    torch.testing.assert_close(losses[1].loss, losses[0].loss)


@pytest.mark.parametrize("softcap", [None, 0.7])
@pytest.mark.parametrize("scale", [1.0, 0.3])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("trained", [False, True])
def test_a_head_of_any_kind_equals_autograd(softcap: float | None, scale: float, biased: bool, trained: bool) -> None:
    """130 positions: two blocks of rows; against log_softmax of softcap(scale · (W h + b))."""
    draw = torch.Generator().manual_seed(3)
    weight, hidden = torch.randn(40, 6, generator=draw), torch.randn(130, 6, generator=draw)
    bias = torch.randn(40, generator=draw) if biased else None
    targets, weights = torch.randint(40, (130,), generator=draw), torch.randn(130, generator=draw)
    plain, own = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    own_weight, own_bias = weight.clone(), None if bias is None else bias.clone()
    if trained:
        for parameter in (weight, bias, own_weight, own_bias):
            parameter is None or parameter.requires_grad_()
    raw = scale * torch.nn.functional.linear(plain, weight, bias)
    logits = raw if softcap is None else softcap * torch.tanh(raw / softcap)
    log_p = logits.log_softmax(dim=1)
    expected = log_p.gather(1, targets.unsqueeze(1)).squeeze(1)
    found = completion_log_probs(own, targets, LanguageModelHead(own_weight, own_bias, scale, softcap))
    (expected * weights).sum().backward()
    (found.log_probs * weights).sum().backward()
    torch.testing.assert_close(found.log_probs, expected, **TIGHT)
    torch.testing.assert_close(own.grad, plain.grad, rtol=1e-4, atol=1e-5)
    if trained:
        torch.testing.assert_close(own_weight.grad, weight.grad, rtol=1e-4, atol=1e-5)
        assert bias is None or torch.allclose(own_bias.grad, bias.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.entropy, -(log_p.exp() * log_p).sum(dim=1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.mean_logits, logits.mean(dim=1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.log_sum_sq_probs, (2 * log_p).exp().sum(dim=1).log(), rtol=1e-4, atol=1e-5)
    assert torch.equal(found.is_top1, logits.argmax(dim=1) == targets)


def test_the_head_of_a_model_has_its_factors() -> None:
    gemma, llama = TINY["gemma2"](), TINY["llama"]()
    llama.config.logit_scale = 0.5
    assert language_model_head(gemma).softcap == gemma.config.final_logit_softcapping == 30.0
    assert (language_model_head(llama).softcap, language_model_head(llama).scale) == (None, 0.5)
    assert language_model_head(llama).weight is llama.lm_head.weight
