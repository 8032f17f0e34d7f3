"""All measurements of an edit, before (adapter off) and after (adapter on)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from peft import PeftModel

from readwrite_edit.edit.context import Context
from readwrite_edit.edit.measure.generations import generations_of
from readwrite_edit.edit.measure.metrics import metrics_table
from readwrite_edit.edit.measure.prompts import prompts_table
from readwrite_edit.edit.measure.texts import measure_texts
from readwrite_edit.edit.plan import Plan, Prompt


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        tables: ``prompts``, ``metrics``, ``texts`` and ``damage``, as far as there was something to measure.
        figures: Name to number: each metric after the edit, ``kl_TEXT`` and ``perplexity_TEXT``.
        generations: ``prompt``, ``before`` and ``after``, side by side.
        notes: What was not measured, and why.
        certified: Whether the edit is one that is certified and measured.
    """

    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    generations: Sequence[Mapping[str, str]] = ()
    notes: tuple[str, ...] = ()
    certified: bool = True

    @property
    def cost(self) -> str:
        """KL to the base on each neutral text, as the verdict tells it."""
        told = [f"{kl:.2g} on {name[3:]}" for name, kl in self.figures.items() if name.startswith("kl_")]
        if told:
            return f"cost: KL to the base {', '.join(told)} (nats per token)"
        why = "no neutral text was read" if self.certified else "measure.certify: false"
        return f"its cost was not measured ({why})"

    @classmethod
    def nothing(cls) -> Measured:
        """For an edit that is neither certified nor measured; its price says so."""
        return cls(certified=False)


def measure(context: Context, plan: Plan, model: PeftModel) -> Measured:
    """Measure an edit.

    Args:
        context: Of the edit.
        plan: The edit, with its prompts.
        model: The context's model with the edit as its only adapter, switched on; left as it was.

    Raises:
        DataError: A neutral text is missing or empty.
        RunError: The edited model's outputs are not finite.
    """
    tables: dict[str, pd.DataFrame] = {}
    figures: dict[str, float] = {}
    notes = list(_missing(plan.prompts))
    if plan.prompts:
        tables["prompts"] = prompts_table(model, context.tokenizer, plan.prompts)
        tables["metrics"] = metrics_table(tables["prompts"], seed=context.recipe.controls.seed)
        figures |= {str(row.metric): float(row.after) for row in tables["metrics"].itertuples()}
    found = measure_texts(context, plan.changes, model)
    tables |= found.tables
    figures |= found.figures
    generations: list[dict[str, Any]] = generations_of(context, plan.prompts, model)
    return Measured(tables, figures, tuple(generations), (*notes, *found.notes))


def _missing(prompts: Sequence[Prompt]) -> list[str]:
    kinds = {prompt.kind for prompt in prompts}
    if not prompts:
        return ["no prompts: the edit is measured on neutral texts alone"]
    notes = []
    if "locality" not in kinds:
        notes.append(
            "locality was not measured: no prompts were given on which nothing should change (locality: [...]); the "
            "neutral texts alone say what else changed"
        )
    aimed = [prompt for prompt in prompts if prompt.kind != "locality"]
    if "paraphrase" not in kinds and any(prompt.target for prompt in aimed):
        notes.append("generalisation was not measured: no paraphrases were given (paraphrases: [...])")
    if any(prompt.target and not prompt.true for prompt in aimed):
        notes.append("success (target likelier than true) is measured only where what is true was given")
    return notes
