"""The two positions that an edit of attention is about, in each of its prompts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from readwrite_edit.edit.attend.effect import pair_of
from readwrite_edit.edit.attend.sequences import Sequences
from readwrite_edit.edit.context import Context
from readwrite_edit.edit.patterns import LAST, Tokens, check_lengths, tokenised
from readwrite_edit.edit.settings.attend import Attend
from readwrite_edit.errors import EditError
from readwrite_edit.interventions.changes import Change
from readwrite_edit.models.pathways import Projection
from readwrite_edit.terminal import printable


@dataclass
class Pairs:
    """The positions whose attention changes, in prompts that are ready to be run.

    Attributes:
        tokens: Each prompt.
        rows: Query position of each.
        keys: Key position of each.
        projection: The edited matrix.
        sequences: The prompts before its layer.
    """

    tokens: tuple[Tokens, ...]
    rows: list[int]
    keys: list[int]
    projection: Projection
    sequences: Sequences

    @property
    def edited(self) -> list[int]:
        """The position in each prompt whose query or key is edited."""
        return self.rows if self.projection.role == "q_proj" else self.keys

    @cached_property
    def inputs(self) -> Tensor:
        """What the matrix reads at the edited position of each prompt, shape (prompts, d_in), float64."""
        return self.sequences.inputs[torch.arange(len(self.tokens)), self.edited]

    @cached_property
    def base(self) -> Tensor:
        """Scores of the unedited model's query positions, shape (prompts, heads, time), float32."""
        return self.sequences.scores([()], self.rows)[0]

    @property
    def rounding(self) -> float:
        """What a score is uncertain by in the model's own type."""
        largest = self.base.masked_fill(self.base.isinf(), 0).abs().max()
        return torch.finfo(self.sequences.dtype).eps * max(1.0, float(largest))

    def scores(self, change: Change) -> tuple[Tensor, Tensor]:
        """Scores and weights of all heads before and after, two of shape (2, prompts, heads), float64."""
        by_key = torch.stack([self.base, self.sequences.scores([(change,)], self.rows)[0]]).double()
        return pair_of(by_key, self.keys), pair_of(by_key.softmax(dim=3), self.keys)


def find_pairs(context: Context, options: Attend) -> Pairs:
    """The positions of both patterns in every prompt.

    Raises:
        EditError: A pattern is missing, the key does not come before the query, or the layer hides one from the other.
        ModelError: The layer does not exist or has no such matrix.
    """
    projection = context.pathways.select([options.module], [options.layer])[0]
    tokens = tokenised(options.prompts, context.tokenizer, format=options.format)
    rows = [one.last if options.query == LAST else one.last_token(options.query) for one in tokens]
    keys = [one.last_token(options.key, before=row) for one, row in zip(tokens, rows, strict=True)]
    check_lengths(tokens, context.model)
    sequences = Sequences(context.model, [one.ids for one in tokens], projection)
    pairs = Pairs(tokens, rows, keys, projection, sequences)
    _require_in_sight(pairs)
    return pairs


def _require_in_sight(pairs: Pairs) -> None:
    scores = pair_of(pairs.base.unsqueeze(0), pairs.keys)[0]
    for one, row, key, own in zip(pairs.tokens, pairs.rows, pairs.keys, scores, strict=True):
        if not bool(own.isfinite().all()):
            raise EditError(
                printable(
                    f"layer {pairs.projection.layer}: its window hides token {key} from token {row} of the prompt "
                    f"{one.shown!r}; choose a layer without a sliding window, or a shorter prompt"
                )
            )
