"""What was found for each fact, as a table and figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
from transformers import PreTrainedTokenizerBase

from readwrite_edit.edit.associate.insertion import Form, Inserted
from readwrite_edit.edit.associate.questions import Asked
from readwrite_edit.edit.associate.values import Values
from readwrite_edit.edit.settings.associate import Associate
from readwrite_edit.models.pathways import Projection


def facts_table(
    asked: Sequence[Asked],
    settings: Associate,
    projections: Sequence[Projection],
    values: Values,
    inserted: Inserted,
    tokenizer: PreTrainedTokenizerBase,
) -> pd.DataFrame:
    """One row a fact; of several layers the last one's key and residual.

    Args:
        asked: Facts.
        settings: What was asked for.
        projections: The matrices.
        values: What was to be added to its output.
        inserted: The edit.
        tokenizer: Writes tokens as text.
    """
    residual, form = inserted.residuals.norm(dim=1), inserted.forms[-1]
    rows: list[dict[str, Any]] = []
    for index, one in enumerate(asked):
        own, after = one.bare, float(inserted.margin[index])
        rows.append(
            {
                "item": index,
                "subject": one.fact.subject,
                "prompt": own.text,
                "target": one.fact.target,
                "target_tokens": len(own.target),
                "subject_token": str(tokenizer.decode([own.ids[own.subject[1]]])),
                "subject_position": own.subject[1],
                "layer": projections[-1].layer,
                "module": projections[-1].role,
                "value": settings.value,
                "margin_before": float(values.margin_before[index]),
                "margin_value": float(values.margin[index]),
                "margin_after": after,
                "reached": None if math.isnan(after) else after >= settings.margin,
                "output_norm": float(values.usual[index]),
                "step_norm": float(values.step[index].norm()),
                "residual_norm": float(residual[index]),
                "key_gain": float(inserted.gain[index]) if form.null_space is None else None,
                "predicted_damage": _damage(residual[index], inserted.gain[index], form),
                "linearisations": int(values.linearisations[index]),
                "passes": int(values.passes[index]),
            }
        )
    return pd.DataFrame(rows)


def figures_of(table: pd.DataFrame, inserted: Inserted) -> dict[str, float]:
    """Name to number, over all facts."""
    return {
        "facts": len(table),
        "facts_followed": int(table["margin_after"].notna().sum()),
        "facts_reached": int(table["reached"].eq(True).sum()),
        "margin_before": float(table["margin_before"].median()),
        "margin_after": float(table["margin_after"].median()),
        "linearisations": float(table["linearisations"].mean()),
        "passes_with_edit": inserted.passes,
        "ridge": inserted.forms[-1].ridge or 0.0,
        "shrinkage": max(form.metric.shrinkage for form in inserted.forms),
    }


def _damage(residual: Any, gain: Any, form: Form) -> float | None:
    """‖r‖²/(kᵀC⁻¹k): the price of the fact if it were alone; another one holds within a null space."""
    return None if form.null_space is not None else float(residual.square() / gain)
