"""What an edit does to what follows fixed prompts: the statistics that controls are ranked by.

Both keep what the unedited model says, computed once, and run edits many at a
time (see :mod:`readwrite_edit.edit.passes`). The language-model head is used at
the positions that count and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from readwrite_edit.edit.passes import Asked, EditedPasses, logits_in_parts
from readwrite_edit.edit.plan import Prompt
from readwrite_edit.errors import EditError
from readwrite_edit.interventions.changes import Variant
from readwrite_edit.interventions.kl import kl_and_change

_SHOWN = 80


class TargetEffect:
    """How much likelier the targets become: T = log q(target) − log p(target), nats per token.

    Each target is teacher-forced behind its prompt and its tokens' changes are
    averaged, so that long targets count no more than short ones.

    Args:
        model: Bare model in evaluation mode, as it is to be compared with.
        prompts: Prompts with a target each; each is an observation.
        tokenizer: Of the model; writes the targets into the observations' names.
        sign: −1 where the edit is to make the targets less likely.
        per_pass: Most edits in one forward pass; None takes as many as is quick.

    Raises:
        EditError: There is no prompt, or one has no target.
    """

    name = "target log-probability, nats per token"
    version = 1

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Prompt],
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        sign: float = 1.0,
        per_pass: int | None = None,
    ) -> None:
        _check(prompts)
        for prompt in prompts:
            if not prompt.target:
                raise EditError(
                    f"the prompt '{_shown(prompt.text)}' has no target: its probability can not be followed"
                )
        self.observations: Sequence[str] = _names(prompts, tokenizer)
        self._model, self._sign = model, sign
        self._passes = EditedPasses(model, [_forced(prompt) for prompt in prompts], per_pass=per_pass)
        device = model.device
        self._targets = torch.tensor([token for prompt in prompts for token in prompt.target], device=device)
        lengths = torch.tensor([len(prompt.target) for prompt in prompts], device=device)
        self._owners = torch.arange(len(prompts), device=device).repeat_interleave(lengths)
        self._lengths = lengths.double()
        self._base = self._log_probabilities(self._passes.base().unsqueeze(0))

    def measure(self, variants: Sequence[Variant]) -> Tensor:
        """T of each variant on each prompt, shape (variants, prompts), float64 on the CPU."""
        change = self._log_probabilities(self._passes.run(variants)) - self._base
        total = torch.zeros(len(variants), len(self._lengths), dtype=torch.float64, device=change.device)
        return (self._sign * total.index_add_(1, self._owners, change) / self._lengths).cpu()

    def _log_probabilities(self, hidden: Tensor) -> Tensor:
        """Of the target tokens, (variants, positions, d_model) → (variants, positions), float64."""
        targets = self._targets.expand(len(hidden), -1).flatten()
        found = torch.empty(len(targets), dtype=torch.float64, device=hidden.device)
        with torch.no_grad():
            for rows, logits in logits_in_parts(self._model, hidden.flatten(0, 1)):
                chosen = logits.gather(1, targets[rows].unsqueeze(1)).squeeze(1)
                found[rows] = (chosen - logits.logsumexp(dim=1)).double()
        return found.view(len(hidden), -1)


class ShiftEffect:
    """How far the next token's distribution moves: T = KL(base ‖ edited) at the end of each prompt, nats.

    Args:
        model: Bare model in evaluation mode, as it is to be compared with.
        prompts: Each is an observation.
        per_pass: Most edits in one forward pass; None takes as many as is quick.

    Raises:
        EditError: There is no prompt.
    """

    name = "KL(base ‖ edited) at the last position, nats"
    version = 1

    def __init__(self, model: PreTrainedModel, prompts: Sequence[Prompt], *, per_pass: int | None = None) -> None:
        _check(prompts)
        self.observations: Sequence[str] = _names(prompts)
        self._model = model
        self._passes = EditedPasses(
            model, [Asked(prompt.ids, (len(prompt.ids) - 1,)) for prompt in prompts], per_pass=per_pass
        )
        with torch.no_grad():
            base = [logits.log_softmax(dim=1) for _, logits in logits_in_parts(model, self._passes.base())]
        self._log_p = torch.cat(base)
        self._p = self._log_p.exp()

    def measure(self, variants: Sequence[Variant]) -> Tensor:
        """T of each variant on each prompt, shape (variants, prompts), float64 on the CPU."""
        hidden = self._passes.run(variants)
        places = torch.arange(hidden.shape[1], device=hidden.device).repeat(len(hidden))
        found = torch.empty(len(places), dtype=torch.float64, device=hidden.device)
        with torch.no_grad():
            for rows, logits in logits_in_parts(self._model, hidden.flatten(0, 1)):
                own = places[rows]
                found[rows] = kl_and_change(logits, self._p[own], self._log_p[own], torch.zeros_like(own))[0].double()
        return found.view(len(hidden), -1).cpu()


def _forced(prompt: Prompt) -> Asked:
    """The prompt with its target behind it, and the positions from which the target's tokens are predicted."""
    first = len(prompt.ids) - 1
    return Asked((*prompt.ids, *prompt.target[:-1]), tuple(range(first, first + len(prompt.target))))


def _check(prompts: Sequence[Prompt]) -> None:
    if not prompts:
        raise EditError("nothing to measure the effect on: give at least one prompt")
    for prompt in prompts:
        if not prompt.ids:
            raise EditError(f"the prompt '{_shown(prompt.text)}' has no tokens: give it some text")


def _names(prompts: Sequence[Prompt], tokenizer: PreTrainedTokenizerBase | None = None) -> tuple[str, ...]:
    names = (f"{prompt.kind} {prompt.item}: {_shown(prompt.text)}" for prompt in prompts)
    if tokenizer is None:
        return tuple(names)
    targets = (str(tokenizer.decode(list(prompt.target))).strip() for prompt in prompts)
    return tuple(f"{name} → {target}" for name, target in zip(names, targets, strict=True))


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
