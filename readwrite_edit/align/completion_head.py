"""Log-probabilities of completion tokens, computed only where they are asked for.

TRL asks its model for per-token log-probabilities through one call,
``model(..., labels=…, fused_lm_head=True)``. On a GPU its own answer is good. On
a CPU it sends every position through the language-model head, prompts and
padding included, and does it again in the backward pass. This module gives
another answer to the same call: only labelled positions reach the head, and
what the backward pass needs is worked out while the probabilities are at hand.
The losses, all of them, stay TRL's.
"""

from __future__ import annotations

import functools
import types
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from readwrite_edit.align.backbone import hidden_rows
from readwrite_edit.align.trl_names import FusedCausalLMOutput
from readwrite_edit.models.language_head import LanguageModelHead, language_model_head

_ROWS = 128


@dataclass(frozen=True)
class HeadOutputs:
    """Per-position results, each of shape (n,); only ``log_probs`` carries a gradient."""

    log_probs: Tensor
    entropy: Tensor
    mean_logits: Tensor
    is_top1: Tensor
    log_sum_sq_probs: Tensor


def completion_log_probs(hidden: Tensor, targets: Tensor, head: LanguageModelHead) -> HeadOutputs:
    """Log-probabilities and what TRL's metrics need besides, of single positions.

    Args:
        hidden: Final hidden states, shape (n, d_model).
        targets: Next tokens, shape (n,).
        head: The language-model head.

    Returns:
        Results per position, float32.
    """
    return HeadOutputs(*_CompletionLogProbs.apply(hidden, head.weight, head.bias, targets, head))  # type: ignore[no-untyped-call]


class _CompletionLogProbs(torch.autograd.Function):
    """log softmax at the targets; the backward pass is products with saved matrices.

    d log p_y / d h = Wᵀ(e_y − p). Of a frozen head this is saved, of the size
    of ``hidden``; of a trained one e_y − p itself, which its weight needs too.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, _bias: Tensor | None, targets: Tensor, head: LanguageModelHead
    ) -> tuple[Tensor, ...]:
        trained = any(ctx.needs_input_grad[1:3])
        wants_gradient = trained or ctx.needs_input_grad[0]
        parts, slopes = [], []
        for rows in torch.arange(hidden.shape[0], device=hidden.device).split(_ROWS):
            outputs, slope = _score(hidden[rows], targets[rows], head, wants_gradient)
            parts.append(outputs)
            slopes.append(slope if trained or not wants_gradient else slope @ weight)
        if wants_gradient:
            width = weight.shape[0] if trained else weight.shape[1]
            saved = torch.cat(slopes) if slopes else hidden.new_zeros(0, width)
            ctx.save_for_backward(saved, *((hidden, weight) if trained else ()))
        empty = hidden.new_zeros(0, dtype=torch.float32)
        results = tuple(torch.cat(column) for column in zip(*parts, strict=True)) if parts else (empty,) * 5
        ctx.mark_non_differentiable(*results[1:])
        return results

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        saved, *trained = ctx.saved_tensors
        weighted = (gradients[0].unsqueeze(1) * saved).to(saved.dtype)
        if not trained:
            return weighted, None, None, None, None
        hidden, weight = trained
        bias = weighted.sum(dim=0) if ctx.needs_input_grad[2] else None
        return weighted @ weight, weighted.T @ hidden.to(weight.dtype), bias, None, None


def _score(
    hidden: Tensor, targets: Tensor, head: LanguageModelHead, wants_gradient: bool
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Results of one block of rows, and d log p / d (W h + b) (empty when not wanted)."""
    logits = head.logits(hidden)
    top = logits.amax(dim=1)
    at_target = logits.gather(1, targets.unsqueeze(1)).squeeze(1)
    mean = logits.mean(dim=1)
    kept = logits.clone() if head.softcap is not None else None
    shifted = logits.sub_(top.unsqueeze(1))
    exponentials = shifted.exp()
    mass = exponentials.sum(dim=1)
    log_mass = mass.log()
    entropy = log_mass - torch.linalg.vecdot(exponentials, shifted) / mass
    squares = torch.linalg.vecdot(exponentials, exponentials).log() - 2 * log_mass
    results = (at_target - top - log_mass, entropy, mean, at_target >= top, squares)
    if not wants_gradient:
        return results, hidden.new_zeros(0)
    slope = exponentials.div_(-mass.unsqueeze(1))
    slope[torch.arange(len(targets), device=targets.device), targets] += 1
    return results, head.before_scaling(slope, kept)


def install_completion_head(model: PreTrainedModel) -> None:
    """Let a model answer TRL's ``fused_lm_head`` call with this module's arithmetic.

    To be called on the bare model after the trainer has installed its own
    answer, which stays in place for every other call.

    Args:
        model: Bare model on a CPU; its output embeddings may be trained.
    """
    trl_forward = model.forward

    @functools.wraps(type(model).forward)
    def forward(self: PreTrainedModel, *args: Any, fused_lm_head: bool = False, **kwargs: Any) -> Any:
        if not fused_lm_head or args or kwargs.get("output_router_logits"):
            return trl_forward(*args, fused_lm_head=fused_lm_head, **kwargs)
        return _answer(self, language_model_head(self), **kwargs)

    model.forward = types.MethodType(forward, model)  # type: ignore[method-assign]


def _answer(
    model: PreTrainedModel,
    head: LanguageModelHead,
    *,
    input_ids: Tensor,
    attention_mask: Tensor,
    labels: Tensor,
    **_unused: Any,
) -> FusedCausalLMOutput:
    """The output that TRL's loss reads, every field (batch, time − 1)."""
    mask = labels[:, 1:] != -100
    hidden = _labelled_hidden(model, input_ids, attention_mask, mask)
    outputs = completion_log_probs(hidden, labels[:, 1:][mask], head)
    fields = {name: value.new_zeros(mask.shape).masked_scatter(mask, value) for name, value in vars(outputs).items()}
    loss = -outputs.log_probs.sum() / mask.sum().clamp(min=1)
    return FusedCausalLMOutput(loss=loss, label_mask=mask, **fields)


def _labelled_hidden(model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor, mask: Tensor) -> Tensor:
    """Hidden states of the labelled positions in row-major order, shape (n, d_model)."""
    rows = hidden_rows(model, input_ids, attention_mask)
    return torch.cat([states[:-1][labelled[: len(states) - 1]] for states, labelled in zip(rows, mask, strict=True)])
