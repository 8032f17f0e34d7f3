"""What edits do to each other once they are in force together: by their factors, and measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from readwrite_edit.edit.ledger import Entry, Fact
from readwrite_edit.geometry import LowRank
from readwrite_edit.interventions.changes import Change, Variant
from readwrite_edit.interventions.forward import copies, edited, final_hidden
from readwrite_edit.models.language_head import language_model_head
from readwrite_edit.models.pathways import Pathways, Projection

FACTS_AN_ENTRY = 20
_CONFLICTS = ("entry", "other", "shared_matrices", "interference")
_FACTS = ("entry", "prompt", "target", "base_logprob", "alone_logprob", "stacked_logprob", "change")

Edits = Mapping[str, Sequence[Change]]


@dataclass(frozen=True)
class Loaded:
    """A base in memory."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    pathways: Pathways


def interference(edits: Edits) -> pd.DataFrame:
    """How much each edit changes of what another sets, pair by pair, without the model.

    Computes sqrt(Σ ‖ΔW_j A_i⁺‖²_F) / sqrt(Σ ‖ΔW_i A_i⁺‖²_F): A_i⁺ holds the shortest
    inputs that edit i answers to one by one, so that this is what j writes on
    them beside what i writes. Sums run over the matrices that i changes; 0 where
    the two share none, or where j reads nothing that i reads. A constant of an
    edit does not count.

    Args:
        edits: Name to changes.

    Returns:
        One row an ordered pair: ``entry`` (i), ``other`` (j), ``shared_matrices``, ``interference``.
    """
    updates = {name: _by_projection(changes) for name, changes in edits.items()}
    rows = [
        {"entry": name, "other": other, **_of_pair(own, updates[other])}
        for name, own in updates.items()
        for other in updates
        if other != name
    ]
    return pd.DataFrame(rows, columns=list(_CONFLICTS))


def measured_facts(
    loaded: Loaded, entries: Sequence[Entry], edits: Edits, stacked: Variant, *, each: int = FACTS_AN_ENTRY
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
    return pd.DataFrame(rows, columns=list(_FACTS))


def _by_projection(changes: Sequence[Change]) -> dict[Projection, LowRank]:
    found: dict[Projection, LowRank] = {}
    for change in changes:
        A, B = change.update.A.double(), change.update.B.double()
        known = found.get(change.projection)
        if known is not None:
            A, B = torch.cat([known.A, A]), torch.cat([known.B, B], dim=1)
        found[change.projection] = LowRank(B, A)
    return found


def _of_pair(own: Mapping[Projection, LowRank], other: Mapping[Projection, LowRank]) -> dict[str, float]:
    written = disturbed = 0.0
    for projection, update in own.items():
        inputs = torch.linalg.pinv(update.A)
        written += _energy(update, inputs)
        if projection in other:
            disturbed += _energy(other[projection], inputs)
    ratio = (disturbed / written) ** 0.5 if written > 0 else float("nan")
    return {"shared_matrices": len(own.keys() & other.keys()), "interference": ratio}


def _energy(update: LowRank, inputs: Tensor) -> float:
    """‖B A X‖²_F."""
    return float((update.B @ (update.A @ inputs)).square().sum())


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
