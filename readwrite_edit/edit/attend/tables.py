"""Tables of an edit of attention."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from torch import Tensor

from readwrite_edit.edit.attend.pairs import Pairs
from readwrite_edit.edit.attend.sequences import Sequences
from readwrite_edit.edit.gate import Gate
from readwrite_edit.edit.patterns import Tokens


def scores_table(
    pairs: Pairs,
    scores: Tensor,
    weights: Tensor,
    gate: Gate,
    *,
    heads: Sequence[int],
    shared: int,
    wanted: float,
) -> pd.DataFrame:
    """A row for each prompt and each head that the edit may move: the edited ones, and those of the same key heads.

    Args:
        pairs: The prompts and their positions.
        scores: Before and after, shape (2, prompts, heads).
        weights: The same after the softmax.
        gate: Of the edit.
        heads: The edited query heads.
        shared: Query heads that a key head serves.
        wanted: Change of the edited heads' scores.
    """
    shown = [head for head in range(scores.shape[2]) if _concerned(head, pairs.projection.role, heads, shared)]
    rows = []
    for item, (one, inputs) in enumerate(zip(pairs.tokens, pairs.inputs, strict=True)):
        for head in shown:
            before, after = scores[:, item, head].tolist()
            rows.append(
                {
                    "prompt": item,
                    "text": one.shown,
                    "head": head,
                    "key_value_head": head // shared,
                    "query_token": pairs.rows[item],
                    "key_token": pairs.keys[item],
                    "gate": float(gate.at(inputs)),
                    "wanted": wanted if head in heads else math.nan,
                    "score_before": before,
                    "score_after": after,
                    "score_change": after - before,
                    "weight_before": float(weights[0, item, head]),
                    "weight_after": float(weights[1, item, head]),
                }
            )
    return pd.DataFrame(rows)


def without_table(
    tokens: Sequence[Tokens], sequences: Sequences, moved: tuple[Tensor, Tensor], gate: Gate
) -> pd.DataFrame:
    """A row for each prompt on which attention should stay the same.

    Args:
        tokens: The prompts.
        sequences: The same before the edited layer.
        moved: Mean and largest share of attention that moves, see ``moved_attention``.
        gate: Of the edit.
    """
    rows = []
    for item, (one, inputs, length) in enumerate(zip(tokens, sequences.inputs, sequences.lengths, strict=True)):
        rows.append(
            {
                "prompt": item,
                "text": one.shown,
                "gate_mean": float(gate.at(inputs[:length]).abs().mean()),
                "moved_mean": float(moved[0][item]),
                "moved_max": float(moved[1][item]),
            }
        )
    return pd.DataFrame(rows)


def _concerned(head: int, role: str, heads: Sequence[int], shared: int) -> bool:
    return head in heads or (role == "k_proj" and head // shared in {own // shared for own in heads})
