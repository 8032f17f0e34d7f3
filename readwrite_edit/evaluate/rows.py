"""Log-probabilities of the answers of preference rows, by a model and by its base."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from readwrite_edit.evaluate.records import RowScores, token_id
from readwrite_edit.evaluate.texts import Predictor, Progress

_ROWS = 128
_SIDES = ("chosen", "rejected")

Row = Mapping[str, list[int]]


def score_rows(
    model: Predictor,
    base: Predictor | None,
    rows: Sequence[Row],
    *,
    max_length: int | None,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> RowScores:
    """Score both answers of each row.

    Args:
        model: The model; in evaluation mode.
        base: Its base; None gives NaN for what it would say.
        rows: Tokenised, with ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``.
        max_length: Tokens kept of the start of prompt and answer, as in training; None keeps all.
        batch_size: Rows in a forward pass.
        progress: Called with (rows done, rows in all).

    Returns:
        In the order of the rows.
    """
    order = sorted(range(len(rows)), key=lambda index: -_length(rows[index]))
    found = [[math.nan] * 4 for _ in rows]
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        sequences = [(rows[index], side) for side in _SIDES for index in batch]
        for column, predictor in ((0, model), (2, base)):
            if predictor is not None:
                sums = _answers(predictor, sequences, max_length).chunk(2)
                for place, values in enumerate(sums):
                    for index, value in zip(batch, values.tolist(), strict=True):
                        found[index][column + place] = value
        if progress:
            progress(min(start + batch_size, len(order)), len(order))
    chosen, rejected, reference_chosen, reference_rejected = zip(*found, strict=True)
    return RowScores(
        ids=tuple(token_id(row["prompt_ids"], row["chosen_ids"], row["rejected_ids"]) for row in rows),
        chosen=chosen,
        rejected=rejected,
        reference_chosen=reference_chosen,
        reference_rejected=reference_rejected,
    )


def _length(row: Row) -> int:
    return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))


def _answers(model: Predictor, sequences: Sequence[tuple[Row, str]], max_length: int | None) -> Tensor:
    """Log-probability of each answer after its prompt, shape (sequences,), float64, on the CPU."""
    ids, mask, answered = _batch(sequences, max_length)
    scored = answered[:, 1:]
    hidden = model.hidden(ids.to(model.device), mask.to(model.device))[:, :-1][scored.to(model.device)]
    targets = ids[:, 1:][scored]
    parts = [_log_probs(model, hidden[rows.to(hidden.device)], targets[rows]) for rows in _blocks(len(targets))]
    owners = scored.nonzero()[:, 0]
    return torch.zeros(len(ids), dtype=torch.float64).index_add_(0, owners, torch.cat(parts))


def _blocks(count: int) -> tuple[Tensor, ...]:
    return torch.arange(count).split(_ROWS)


def _log_probs(model: Predictor, hidden: Tensor, targets: Tensor) -> Tensor:
    log_p = model.logits(hidden).float().log_softmax(dim=-1)
    return log_p.gather(1, targets.to(log_p.device).unsqueeze(1)).squeeze(1).double().cpu()


def _batch(sequences: Sequence[tuple[Row, str]], max_length: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, attention mask and which tokens are the answer's, shape (sequences, time), padded on the right."""
    whole = [
        ([*row["prompt_ids"], *row[f"{side}_ids"]][:max_length], len(row["prompt_ids"])) for row, side in sequences
    ]
    longest = max(len(ids) for ids, _ in whole)
    ids = torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in whole])
    places = torch.arange(longest)
    mask = places < torch.tensor([[len(ids)] for ids, _ in whole])
    answered = mask & (places >= torch.tensor([[prompt] for _, prompt in whole]))
    return ids, mask.long(), answered
