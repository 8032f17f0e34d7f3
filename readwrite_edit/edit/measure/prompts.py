"""What the model says behind each prompt, before and after."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from readwrite_edit.edit.measure.finite import require_finite
from readwrite_edit.edit.passes import logits_in_parts, padded, padded_groups
from readwrite_edit.edit.plan import Prompt
from readwrite_edit.interventions.forward import final_hidden
from readwrite_edit.models.language_head import language_model_head
from readwrite_edit.models.pathways import unwrap

_SIDES = ("before", "after")


@dataclass(frozen=True)
class _Reading:
    """A continuation teacher-forced behind a prompt: what is read at which positions of which sequence."""

    ids: tuple[int, ...]
    first: int
    tokens: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class _Scores:
    """Figures of every token read, each (tokens,), before and after.

    Attributes:
        log_probability: Of the token.
        rank: 1 for the likeliest; a token as likely as another counts behind it.
        top: The likeliest token.
        kl: KL(base ‖ edited) of its position.
    """

    log_probability: tuple[Tensor, Tensor]
    rank: tuple[Tensor, Tensor]
    top: tuple[Tensor, Tensor]
    kl: Tensor


def prompts_table(model: PeftModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt]) -> pd.DataFrame:
    """One row a prompt.

    Args:
        model: With the edit as its adapter.
        tokenizer: Writes tokens as text.
        prompts: What to measure on.

    Raises:
        RunError: The edited model's outputs are not finite.
    """
    readings = [_reading(prompt, tokens) for prompt in prompts for tokens in (prompt.target, prompt.true)]
    scores = _scores(model, readings)
    require_finite(float(scores.kl.sum()), "behind the edit's prompts")
    starts = [0]
    for reading in readings:
        starts.append(starts[-1] + len(reading.tokens))
    rows = []
    for index, prompt in enumerate(prompts):
        target, true = (slice(starts[2 * index + i], starts[2 * index + i + 1]) for i in (0, 1))
        rows.append(_row(prompt, scores, target, true, tokenizer))
    return pd.DataFrame(rows)


def _reading(prompt: Prompt, tokens: tuple[int, ...]) -> _Reading:
    """Where there is no continuation one position is read all the same, for its likeliest token and KL."""
    return _Reading((*prompt.ids, *tokens[:-1]), len(prompt.ids) - 1, tokens or (0,))


def _row(
    prompt: Prompt, scores: _Scores, target: slice, true: slice, tokenizer: PreTrainedTokenizerBase
) -> dict[str, Any]:
    first = target.start
    row: dict[str, Any] = {
        "kind": prompt.kind,
        "item": prompt.item,
        "text": prompt.text,
        "target": str(tokenizer.decode(list(prompt.target))) if prompt.target else None,
        "true": str(tokenizer.decode(list(prompt.true))) if prompt.true else None,
    }
    for side, name in enumerate(_SIDES):
        ranks = scores.rank[side][target]
        row |= _probabilities("target", scores.log_probability[side][target], name, given=bool(prompt.target))
        row[f"target_first_probability_{name}"] = (
            math.exp(scores.log_probability[side][first]) if prompt.target else math.nan
        )
        row[f"target_rank_{name}"] = int(ranks[0]) if prompt.target else None
        row[f"target_top1_{name}"] = bool((ranks == 1).all()) if prompt.target else None
        row |= _probabilities("true", scores.log_probability[side][true], name, given=bool(prompt.true))
        row[f"top_{name}"] = str(tokenizer.decode([int(scores.top[side][first])]))
    row["top_changed"] = bool(scores.top[0][first] != scores.top[1][first])
    row["kl"] = float(scores.kl[first])
    return row


def _probabilities(what: str, log_probabilities: Tensor, name: str, *, given: bool) -> dict[str, float]:
    """Of a whole continuation, and its logarithm per token."""
    total = float(log_probabilities.sum()) if given else math.nan
    return {
        f"{what}_probability_{name}": math.exp(total),
        f"{what}_log_probability_{name}": total / len(log_probabilities),
    }


def _scores(model: PeftModel, readings: Sequence[_Reading]) -> _Scores:
    """Pass each distinct sequence through base and edited model once, and read all its tokens there."""
    bare = unwrap(model)
    sequences = {ids: row for row, ids in enumerate(dict.fromkeys(reading.ids for reading in readings))}
    placed = [
        (sequences[reading.ids], reading.first + offset, token)
        for reading in readings
        for offset, token in enumerate(reading.tokens)
    ]
    ids = list(sequences)
    slots: list[Tensor] = []
    found: list[Tensor] = []
    for group in padded_groups([len(one) for one in ids]):
        rows = {sequence: row for row, sequence in enumerate(group)}
        own = [slot for slot, (sequence, _, _) in enumerate(placed) if sequence in rows]
        batch = padded([ids[sequence] for sequence in group]).to(model.device)
        picks = torch.tensor([rows[placed[slot][0]] * batch.shape[1] + placed[slot][1] for slot in own])
        tokens = torch.tensor([placed[slot][2] for slot in own], device=model.device)
        with torch.no_grad():
            edited = final_hidden(bare, batch).flatten(0, 1)[picks.to(model.device)]
            with model.disable_adapter():
                base = final_hidden(bare, batch).flatten(0, 1)[picks.to(model.device)]
            found.append(_compared(bare, base, edited, tokens))
        slots.append(torch.tensor(own))
    order = torch.cat(slots).argsort()
    figures = torch.cat(found, dim=1)[:, order]
    log_p, log_q, rank_p, rank_q, top_p, top_q, kl = figures
    return _Scores((log_p, log_q), (rank_p, rank_q), (top_p, top_q), kl)


def _compared(bare: PreTrainedModel, base: Tensor, edited: Tensor, tokens: Tensor) -> Tensor:
    """The seven figures of each token, (7, tokens), float64 on the CPU."""
    head, parts = language_model_head(bare), []
    for rows, logits in logits_in_parts(bare, base):
        log_p, log_q = logits.log_softmax(dim=1), head.logits(edited[rows]).log_softmax(dim=1)
        sides = (log_p, log_q)
        chosen = [one.gather(1, tokens[rows].unsqueeze(1)) for one in sides]
        ranks = [(one >= own).sum(dim=1) for one, own in zip(sides, chosen, strict=True)]
        kl = (log_p.exp() * (log_p - log_q)).sum(dim=1).clamp_min(0)
        figures = [*(own.squeeze(1) for own in chosen), *ranks, *(one.argmax(dim=1) for one in sides), kl]
        parts.append(torch.stack([figure.double().cpu() for figure in figures]))
    return torch.cat(parts, dim=1)
