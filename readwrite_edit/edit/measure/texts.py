"""Neutral texts: KL to the base and perplexity, and the damage that the closed form predicted beside what happened."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from peft import PeftModel

from readwrite_edit.align.texts import check_text, load_text, supports_chat
from readwrite_edit.edit.context import Context
from readwrite_edit.edit.measure.finite import require_finite
from readwrite_edit.edit.overlaps import by_matrix
from readwrite_edit.evaluate.energy import Energy, Matrix, added_energy
from readwrite_edit.evaluate.texts import text_metrics
from readwrite_edit.geometry import LowRank, output_energy
from readwrite_edit.interventions.changes import Change

_MAX_LENGTH = 256


@dataclass(frozen=True)
class OnTexts:
    """Tables ``texts`` and ``damage``, figures and notes; empty where no text is read."""

    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def check_texts(context: Context) -> None:
    """Refuse neutral texts that can not be read, before anything is measured or without measuring anything.

    Raises:
        DataError: A text is missing, unreadable or empty.
    """
    for text in context.recipe.measure.texts if context.recipe.measure.tokens else ():
        check_text(text)


def measure_texts(context: Context, changes: Sequence[Change], model: PeftModel) -> OnTexts:
    """Read each neutral text once with the edit and once without.

    Args:
        context: Of the edit.
        changes: The edit.
        model: With the edit as its adapter.

    Raises:
        DataError: A text is missing or empty.
        RunError: The edited model's outputs are not finite on a text.
    """
    options, matrices = context.recipe.measure, list(by_matrix(changes).values())
    texts, damage, notes = [], [], []
    for text in options.texts if options.tokens else ():
        if text.format == "chat" and not supports_chat(context.tokenizer):
            notes.append(f"'{text.name}' was left out: the model's tokenizer has no chat template")
            continue
        sequences = load_text(text, context.tokenizer, tokens=options.tokens, max_length=_MAX_LENGTH)
        with added_energy(model, matrices, first_position=context.recipe.statistics.first_position) as energy:
            found = text_metrics(model, sequences, progress=context.session.advance)
        require_finite(found["kl"], f"on the text '{text.name}'")
        texts.append(
            {
                "text": text.name,
                "format": text.format,
                "tokens": sum(map(len, sequences)),
                "kl": found["kl"],
                "perplexity_before": found["base_perplexity"],
                "perplexity_after": found["perplexity"],
            }
        )
        damage += [_damage(context, text.name, matrix, energy[index]) for index, matrix in enumerate(matrices)]
    if not texts:
        return OnTexts(notes=(*notes, "no neutral text was read: what else changed is not known"))
    tables = {"texts": pd.DataFrame(texts), "damage": pd.DataFrame(damage)}
    return OnTexts(tables, _figures(tables), tuple(notes))


def _damage(context: Context, text: str, matrix: Matrix, energy: Energy) -> dict[str, Any]:
    projection, update = matrix
    predicted = math.nan
    if context.has_statistics(projection):
        C = context.statistics([projection]).second_moment(projection.site)
        predicted = float(output_energy(LowRank(update.B.to(C), update.A.to(C)), C)) * projection.d_out
    return {
        "text": text,
        "layer": projection.layer,
        "module": projection.role,
        "path": projection.module,
        "predicted": predicted,
        "measured": energy.mean,
        "ratio": energy.mean / predicted if predicted else math.nan,
        "tokens": energy.tokens,
    }


def _figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for row in tables["texts"].itertuples():
        figures |= {
            f"kl_{row.text}": float(row.kl),
            f"perplexity_{row.text}": float(row.perplexity_after),
            f"perplexity_{row.text}_before": float(row.perplexity_before),
        }
    for text, rows in tables["damage"].groupby("text", sort=False):
        figures[f"measured_damage_{text}"] = float(rows["measured"].sum(skipna=False))
    return figures
