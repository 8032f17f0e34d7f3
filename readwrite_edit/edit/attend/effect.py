"""What an edit of attention is for: the share of attention that goes from one position to another."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from readwrite_edit.edit.attend.sequences import Sequences
from readwrite_edit.interventions.changes import Variant


class AttentionEffect:
    """T = change of the attention weight from query to key position, mean over the edited heads; one a prompt.

    The sign is that of the wanted change: where attention is to fall, T is how
    far it fell. Only the edited layer is computed, up to its softmax.

    Args:
        sequences: The prompts.
        rows: Query position of each.
        keys: Key position of each.
        heads: Edited query heads.
        change: Wanted change of the score.
        observations: What each prompt is called in tables.
        per_pass: Most edits in one forward pass; None takes as many as is quick.
    """

    version = 1

    def __init__(
        self,
        sequences: Sequences,
        *,
        rows: Sequence[int],
        keys: Sequence[int],
        heads: Sequence[int],
        change: float,
        observations: Sequence[str],
        per_pass: int | None = None,
    ) -> None:
        rise = change > 0
        self.name = f"{'rise' if rise else 'fall'} of the attention weight from query to key (a share of 1)"
        self.observations: Sequence[str] = tuple(observations)
        self._sequences, self._rows, self._keys, self._heads = sequences, list(rows), list(keys), list(heads)
        self._sign, self._per_pass = math.copysign(1.0, change), per_pass
        self._base = self._weights([()])[0]

    def measure(self, variants: Sequence[Variant]) -> Tensor:
        """T of each variant, shape (variants, prompts), float64."""
        return self._sign * (self._weights(variants) - self._base)

    def _weights(self, variants: Sequence[Variant]) -> Tensor:
        weights = self._sequences.scores(variants, self._rows, per_pass=self._per_pass).softmax(dim=3)
        return pair_of(weights, self._keys)[:, :, self._heads].double().mean(dim=2)


def pair_of(by_key: Tensor, keys: Sequence[int]) -> Tensor:
    """Entry of each sequence's key: (variants, sequences, heads, time) → (variants, sequences, heads)."""
    return by_key[:, torch.arange(len(keys)), :, list(keys)].transpose(0, 1)


def moved_attention(sequences: Sequences, variant: Variant, heads: Sequence[int]) -> tuple[Tensor, Tensor]:
    """How much of the attention an edit moves elsewhere: ½ Σ_j |w′_ij − w_ij| of every position i.

    Args:
        sequences: Any.
        variant: The edit.
        heads: Query heads to take the mean over.

    Returns:
        Mean and largest over each sequence's own positions, two of shape (sequences,), float64.
    """
    before, after = sequences.scores([(), variant])[:, :, list(heads)].double().softmax(dim=4)
    moved = (after - before).abs().sum(dim=3).div(2).mean(dim=1)  # (sequences, time)
    own = [moved[index, :length] for index, length in enumerate(sequences.lengths)]
    return torch.stack([part.mean() for part in own]), torch.stack([part.max() for part in own])
