"""Log-probabilities of the answers of preference rows, by a model and by its base."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from readwrite_edit.align.reference import score_rows as score_in_batches
from readwrite_edit.evaluate.records import RowScores, row_id
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

    def score(batch: Sequence[Row]) -> tuple[Tensor, ...]:
        sequences = [(row, side) for side in _SIDES for row in batch]
        unknown = torch.full((len(sequences),), math.nan)
        sums = (unknown if one is None else _answers(one, sequences, max_length) for one in (model, base))
        return tuple(column for both in sums for column in both.chunk(2))

    columns = score_in_batches(rows, score, batch_size=batch_size, columns=4, progress=progress)
    chosen, rejected, reference_chosen, reference_rejected = (tuple(column.tolist()) for column in columns)
    return RowScores(
        ids=tuple(map(row_id, rows)),
        chosen=chosen,
        rejected=rejected,
        reference_chosen=reference_chosen,
        reference_rejected=reference_rejected,
    )


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
