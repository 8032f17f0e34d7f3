"""What becomes of the facts of edits once all are in force together, measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from readwrite_edit.edit.ledger import Entry, Fact
from readwrite_edit.interventions.changes import Change, Variant
from readwrite_edit.interventions.forward import copies, edited, final_hidden
from readwrite_edit.models.language_head import language_model_head
from readwrite_edit.models.pathways import Pathways

FACTS_AN_ENTRY = 20
_COLUMNS = ("entry", "prompt", "target", "base_logprob", "alone_logprob", "stacked_logprob", "change")


@dataclass(frozen=True)
class Loaded:
    """A base in memory."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    pathways: Pathways


def measured_facts(
    loaded: Loaded,
    entries: Sequence[Entry],
    edits: Mapping[str, Sequence[Change]],
    stacked: Variant,
    *,
    each: int = FACTS_AN_ENTRY,
) -> pd.DataFrame:
    """Log-probability of the entries' targets in the base, with each edit alone, and with all together.

    Args:
        loaded: The bare base.
        entries: Edits, with the facts that they make.
        edits: Name to changes.
        stacked: All together.
        each: Facts measured of an entry, the first.

    Returns:
        One row a fact: ``entry``, ``prompt``, ``target``, ``base_logprob``, ``alone_logprob``, ``stacked_logprob``
        (nats per token of the target, teacher-forced) and ``change`` (stacked less alone).
    """
    rows: list[dict[str, Any]] = []
    for entry in entries:
        for fact in entry.facts[:each]:
            base, alone, together = _logprobs(loaded, fact, ((), edits[entry.name], stacked))
            found = {"base_logprob": base, "alone_logprob": alone, "stacked_logprob": together}
            rows.append(
                {"entry": entry.name, "prompt": fact.filled, "target": fact.target, **found, "change": together - alone}
            )
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def _logprobs(loaded: Loaded, fact: Fact, variants: Sequence[Variant]) -> list[float]:
    """Mean log-probability of the target's tokens with each variant."""
    prompt, target = _tokens(loaded.tokenizer, fact)
    if not prompt or not target:
        return [float("nan")] * len(variants)
    ids = torch.tensor([[*prompt, *target]], device=loaded.model.device)
    with torch.no_grad():
        with edited(loaded.model, variants):
            hidden = final_hidden(loaded.model, copies(ids, len(variants)))
        scored = hidden[:, len(prompt) - 1 : -1]
        logprobs = language_model_head(loaded.model).logits(scored).float().log_softmax(dim=-1)
    chosen = logprobs.gather(2, ids[:, len(prompt) :, None].expand(len(variants), -1, 1))
    return [float(mean) for mean in chosen.mean(dim=(1, 2))]


def _tokens(tokenizer: PreTrainedTokenizerBase, fact: Fact) -> tuple[list[int], list[int]]:
    """Tokens of the prompt, and those that the target adds; a space goes between where neither brings one."""
    prompt, target = fact.filled, fact.target
    joined = prompt + (target if target[:1].isspace() or prompt[-1:].isspace() else f" {target}")
    before, whole = list(tokenizer(prompt)["input_ids"]), list(tokenizer(joined)["input_ids"])
    same = next((place for place, (a, b) in enumerate(zip(before, whole, strict=False)) if a != b), len(before))
    return whole[:same], whole[same:]
