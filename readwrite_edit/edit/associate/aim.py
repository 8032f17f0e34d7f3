"""What an association is for: its targets' log-probabilities, where they were aimed at."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from readwrite_edit.edit.plan import Prompt
from readwrite_edit.interventions.changes import Variant

_KINDS = ("prompt", "context", "paraphrase")
_MOST = 64


class Aim:
    """The mean change of the targets' log-probability on prompts, contexts and paraphrases.

    Nothing is computed before it is first asked for: an edit without controls
    does without. Of many facts an even selection is followed, so that no more
    than 64 prompts are.

    Args:
        model: Bare model.
        prompts: All prompts of the plan.
        tokenizer: Of the model.
        per_pass: Edits in a forward pass; None takes as many as is quick.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Prompt],
        tokenizer: PreTrainedTokenizerBase,
        *,
        per_pass: int | None = None,
    ) -> None:
        self._model, self._tokenizer, self._per_pass = model, tokenizer, per_pass
        self.prompts = _selected([prompt for prompt in prompts if prompt.kind in _KINDS])

    @cached_property
    def _effect(self):  # type: ignore[no-untyped-def]
        from readwrite_edit.edit.effects import TargetEffect

        return TargetEffect(self._model, self.prompts, self._tokenizer, per_pass=self._per_pass)

    @property
    def name(self) -> str:
        """In tables, with the unit in words."""
        return str(self._effect.name)

    @property
    def version(self) -> int:
        """Of its definition."""
        return int(self._effect.version)

    @property
    def observations(self) -> Sequence[str]:
        """What each column is."""
        found: Sequence[str] = self._effect.observations
        return found

    def measure(self, variants: Sequence[Variant]) -> Tensor:
        """T of each variant on each prompt, (variants, prompts)."""
        found: Tensor = self._effect.measure(variants)
        return found


def _selected(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """All prompts of as many facts, evenly taken, as there is room for."""
    facts = sorted({prompt.item for prompt in prompts})
    each = max(1, _MOST * len(facts) // max(1, len(prompts)))
    count = min(len(facts), each)
    kept = {facts[index * len(facts) // count] for index in range(count)}
    return tuple(prompt for prompt in prompts if prompt.item in kept)
