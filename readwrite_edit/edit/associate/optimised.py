"""ROME's value: gradient steps on what the matrix writes at the subject's last token.

Written from the paper, with the constants of its authors' settings for GPT-2 XL
(https://github.com/kmeng01/rome, hparams/ROME/gpt2-xl.json); here to be compared
with the closed form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from readwrite_edit.edit.associate.continuations import Continuations

_LEARNING_RATE = 0.5
_WEIGHT_DECAY = 0.5
_KL_WEIGHT = 0.0625
_LONGEST = 4.0  # lengths of the present output
_DONE = 0.05  # loss
_BETAS, _EPSILON = (0.9, 0.999), 1e-8


@dataclass(frozen=True, eq=False)
class Part:
    """Some of the prompts of a chunk of facts.

    Attributes:
        prompts: Their continuations.
        facts: Fact of each row, within the chunk, shape (rows,).
    """

    prompts: Continuations
    facts: Tensor


def optimised_values(
    targets: Sequence[Part], essences: Sequence[Part], usual: Tensor, contexts: int, *, steps: int
) -> tuple[Tensor, Tensor]:
    """Minimise ROME's loss over δ by Adam.

    The loss of a fact is the mean over its contexts of −log p(target) per token,
    plus 0.0625 · KL(before ‖ after) behind "SUBJECT is a", plus 0.5 ‖δ‖/‖v₀‖².
    δ stays within 4 ‖v₀‖. A fact whose loss is under 0.05 stands still.

    Args:
        targets: Prompts with their targets: the bare one and those behind prefixes.
        essences: "SUBJECT is a", with any token behind it.
        usual: ‖v₀‖ of each fact, what the matrix writes now, shape (facts,).
        contexts: Prompts of each fact among ``targets``.
        steps: Adam steps, at a learning rate of 0.5.

    Returns:
        δ of shape (facts, d_out), and the gradient steps of each fact, (facts,).

    Source: Meng, Bau, Andonian and Belinkov, arXiv 2202.05262, eq. 4.
    """
    width = targets[0].prompts.output.shape[1]
    step = torch.zeros(len(usual), width, device=usual.device)
    first, second = torch.zeros_like(step), torch.zeros_like(step)
    used = torch.zeros(len(usual), dtype=torch.int64, device=usual.device)
    before = [_log_probabilities(part, step) for part in essences]
    for number in range(1, steps + 1):
        loss, gradient = _loss(targets, essences, before, step, usual, contexts)
        going = (loss >= _DONE).unsqueeze(1)
        used += going.squeeze(1)
        first = torch.where(going, _BETAS[0] * first + (1 - _BETAS[0]) * gradient, first)
        second = torch.where(going, _BETAS[1] * second + (1 - _BETAS[1]) * gradient.square(), second)
        scaled = (first / (1 - _BETAS[0] ** number)) / ((second / (1 - _BETAS[1] ** number)).sqrt() + _EPSILON)
        step = torch.where(going, step - _LEARNING_RATE * scaled, step)
        step = step * (_LONGEST * usual / step.norm(dim=1).clamp_min(_EPSILON)).clamp_max(1).unsqueeze(1)
    return step, used


def _loss(
    targets: Sequence[Part],
    essences: Sequence[Part],
    before: Sequence[Tensor],
    step: Tensor,
    usual: Tensor,
    contexts: int,
) -> tuple[Tensor, Tensor]:
    """The loss of each fact, (facts,), and its gradient at δ, (facts, d_out)."""
    length = step.norm(dim=1)
    loss = _WEIGHT_DECAY * length / usual.square()
    gradient = _WEIGHT_DECAY * step / (length.clamp_min(_EPSILON) * usual.square()).unsqueeze(1)
    for part in targets:
        own, at_value = _surprise(part, step)
        loss, gradient = _added(loss, gradient, part.facts, own / contexts, at_value / contexts)
    for part, reference in zip(essences, before, strict=True):
        own, at_value = _drift(part, step, reference)
        loss, gradient = _added(loss, gradient, part.facts, _KL_WEIGHT * own, _KL_WEIGHT * at_value)
    return loss, gradient


def _added(loss: Tensor, gradient: Tensor, facts: Tensor, own: Tensor, at_value: Tensor) -> tuple[Tensor, Tensor]:
    return loss.index_add(0, facts, own), gradient.index_add(0, facts, at_value)


def _surprise(part: Part, step: Tensor) -> tuple[Tensor, Tensor]:
    """−log p of the target per token of each row, and its gradient at the row's value."""
    reading = part.prompts.read(step[part.facts])
    log_q = reading.logits.log_softmax(dim=1)
    place = reading.tokens.unsqueeze(1)
    share = 1 / reading.owners.bincount(minlength=len(part.facts)).to(log_q)
    own = torch.zeros_like(share).index_add_(0, reading.owners, -log_q.gather(1, place).squeeze(1)) * share
    at_logits = log_q.exp().scatter_add(1, place, torch.full_like(place, -1, dtype=log_q.dtype))
    return own, reading.pull(at_logits * share[reading.owners].unsqueeze(1))


def _drift(part: Part, step: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """KL(before ‖ after) of each row, and its gradient at the row's value."""
    reading = part.prompts.read(step[part.facts])
    log_q = reading.logits.log_softmax(dim=1)
    p = before.exp()
    return (p * (before - log_q)).sum(dim=1), reading.pull(log_q.exp() - p)


def _log_probabilities(part: Part, step: Tensor) -> Tensor:
    with torch.no_grad():
        return part.prompts.read(step[part.facts]).logits.log_softmax(dim=1)
