"""A model's own head: how its final hidden states become logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel


@dataclass(frozen=True)
class LanguageModelHead:
    """How hidden states become logits: softcap(scale · (W h + b)).

    Attributes:
        weight: Shape (vocabulary, d_model); it gets a gradient where it wants one, and so does the bias.
        bias: Shape (vocabulary,), or None.
        scale: Factor on the logits.
        softcap: Bound c of c·tanh(x/c), or None.
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits in float32, shape (n, vocabulary)."""
        raw = torch.nn.functional.linear(hidden, self.weight, self.bias).float()
        if raw.requires_grad:  # what the backward pass needs must not be overwritten
            scaled = raw * self.scale if self.scale != 1.0 else raw
            return scaled if self.softcap is None else (scaled / self.softcap).tanh() * self.softcap
        if self.scale != 1.0:
            raw = raw.mul_(self.scale)
        return raw if self.softcap is None else raw.div_(self.softcap).tanh_().mul_(self.softcap)

    def before_scaling(self, gradient: Tensor, logits: Tensor | None) -> Tensor:
        """Carry a gradient at the logits back to W h + b, shape (n, vocabulary), in the weight's type."""
        if self.softcap is not None and logits is not None:
            gradient = gradient * (1 - (logits / self.softcap).square())
        if self.scale != 1.0:
            gradient = gradient * self.scale
        return gradient.to(self.weight.dtype)


def language_model_head(model: PreTrainedModel) -> LanguageModelHead:
    """A model's own head, its factors read from the configuration.

    Args:
        model: Bare causal language model.

    Returns:
        What turns its final hidden states into logits.
    """
    config = model.config.get_text_config()
    embeddings = model.get_output_embeddings()
    scale = getattr(config, "logit_scale", None)
    softcap = getattr(config, "final_logit_softcapping", None)
    return LanguageModelHead(
        embeddings.weight, getattr(embeddings, "bias", None), 1.0 if scale is None else scale, softcap
    )
