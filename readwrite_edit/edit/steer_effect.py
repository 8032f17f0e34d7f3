"""What steering along a direction that is no token is for: the final residual stream turns towards it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from readwrite_edit.edit.passes import Asked, EditedPasses
from readwrite_edit.edit.patterns import Tokens
from readwrite_edit.interventions.changes import Variant
from readwrite_edit.models.pathways import Pathways
from readwrite_edit.models.unembedding import final_gain

_DEAD = 1e-6  # share of the largest gain under which a feature is switched off


class StreamEffect:
    """T = change of cos(h, d), h the residual stream before the final norm at the pattern; one a prompt.

    h is read behind the final norm with its gain and bias taken out again, so
    that a LayerNorm's h is without its mean; a norm's length cancels in the cosine.

    Args:
        model: Bare model in evaluation mode.
        pathways: Of the model.
        prompts: Where the pattern stands.
        positions: Its position in each.
        direction: d, of the residual stream, shape (d_model,).
        sign: −1 where the stream is to turn away.
        per_pass: Most edits in one forward pass; None takes as many as is quick.
    """

    version = 1

    def __init__(
        self,
        model: PreTrainedModel,
        pathways: Pathways,
        prompts: Sequence[Tokens],
        positions: Sequence[int],
        direction: Tensor,
        *,
        sign: float = 1.0,
        per_pass: int | None = None,
    ) -> None:
        turn = "towards" if sign > 0 else "away from"
        self.name = f"turn {turn} the direction at the pattern, change of the final residual stream's cosine"
        self.observations: Sequence[str] = tuple(one.shown for one in prompts)
        self._sign, self._direction = sign, direction.to(model.device, torch.float64)
        self._gain, self._bias = _final_norm(model, pathways)
        self._model, self._per_pass = model, per_pass
        self._asked = [Asked(one.ids, (position,)) for one, position in zip(prompts, positions, strict=True)]

    @cached_property
    def _passes(self) -> EditedPasses:
        """Computed when first measured: an edit without controls needs none."""
        return EditedPasses(self._model, self._asked, per_pass=self._per_pass)

    @cached_property
    def _base(self) -> Tensor:
        return self._cosine(self._passes.base().unsqueeze(0))

    def measure(self, variants: Sequence[Variant]) -> Tensor:
        """T of each variant, shape (variants, prompts), float64 on the CPU."""
        return self._sign * (self._cosine(self._passes.run(variants)) - self._base)

    def _cosine(self, hidden: Tensor) -> Tensor:
        """Of final hidden states, (variants, prompts, d_model) → (variants, prompts)."""
        stream = torch.where(self._gain == 0, 0, (hidden.double() - self._bias) / self._gain)
        return torch.cosine_similarity(stream, self._direction, dim=2).cpu()


def _final_norm(model: PreTrainedModel, pathways: Pathways) -> tuple[Tensor, Tensor]:
    """Gain, 0 where it switches a feature off, and bias of the final norm, float64 on the model's device."""
    found = final_gain(model, pathways)
    gain = torch.ones(1) if found is None else found
    norm: Any = None if pathways.final_norm is None else model.get_submodule(pathways.final_norm)
    bias = getattr(norm, "bias", None)
    gain = gain.where(gain.abs() > _DEAD * gain.abs().max(), 0).to(model.device, torch.float64)
    return gain, torch.zeros_like(gain) if bias is None else bias.detach().to(gain)
