"""Measure an edit and its controls, and say where it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from readwrite_edit.edit.context import Context
from readwrite_edit.edit.controls.families import Control, Family, families_of
from readwrite_edit.edit.controls.parts import Part, parts_of
from readwrite_edit.edit.controls.tables import controls_table, effects_table, verdict
from readwrite_edit.edit.measure.finite import require_finite
from readwrite_edit.edit.plan import Effect, Plan
from readwrite_edit.evaluate.intervals import Array

_FACTOR_BYTES = 1 << 28  # of the factors of all controls that are made at a time
_LEAST, _MOST = 8, 256
_NO_CONTROLS = "no controls"

Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Compared:
    """An edit beside its controls.

    Attributes:
        tables: ``controls``, one row a control, and ``effects``, one row a family and matching; none without controls.
        figures: Name to number.
        notes: What was left out, and why.
        verdict: Where the edit stands, in one line.
    """

    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    verdict: str = _NO_CONTROLS

    def with_cost(self, cost: str) -> Compared:
        """The same with what the edit cost, in words, behind the verdict."""
        return replace(self, verdict=f"{self.verdict}; {cost}")


def compare(context: Context, plan: Plan, *, advance: Advance | None = None) -> Compared:
    """Rank an edit among matched ones that did not have to work.

    The model must be as it was when the plan's effect was made: without an adapter.

    Args:
        context: Of the edit.
        plan: The edit, with the statistic that controls are ranked by.
        advance: Called with (edits measured, edits in all); by default the session's.

    Returns:
        Tables and a verdict; neither where controls are switched off or nothing was aimed at.

    Raises:
        DataError: There are no statistics of what the edit reads.
        RunError: The edited model's outputs are not finite.
    """
    settings = context.recipe.controls
    if settings.count == 0:
        return Compared(notes=("no controls: they were switched off (controls.count: 0)",))
    if plan.effect is None:
        return Compared(notes=("no controls: the edit aims at nothing that could be compared",))
    tell = advance or context.session.advance
    tested = parts_of(context, plan)
    families, notes = families_of(context, tested, settings)
    effect = plan.effect.measure([plan.changes])[0].double().numpy()
    require_finite(float(effect.sum()), "behind the prompts that controls are compared on")
    found: list[tuple[Control, Array]] = []
    total = sum(family.total for family in families)
    for controls in _made(families, settings.per_pass or _at_a_time(tested)):
        found += zip(controls, _measured(plan.effect, controls), strict=True)
        tell(len(found), total)
    effects = effects_table(plan.effect, effect, found, seed=settings.seed)
    figures = {"effect": float(effect.mean()), "controls": float(len(found))}
    return Compared(
        tables={"controls": controls_table(plan.effect, found), "effects": effects},
        figures=figures | _p_values(effects),
        notes=(*notes, *_left_out(found, total)),
        verdict=verdict(plan.effect, effects),
    )


def _made(families: Sequence[Family], size: int) -> Iterator[list[Control]]:
    """All controls, some at a time: those of many large matrices would fill the memory."""
    for family in families:
        step = max(1, size // len(family.matchings))
        for start in range(0, family.size, step):
            yield family.make(range(start, min(start + step, family.size)))


def _at_a_time(parts: Sequence[Part]) -> int:
    """As many controls as fit into memory well, so that passes of short prompts are large all the same."""
    numbers = sum(one.rank * sum(one.change.update.shape) for one in parts)
    return max(_LEAST, min(_MOST, _FACTOR_BYTES // (8 * numbers)))


def _measured(effect: Effect, controls: Sequence[Control]) -> Array:
    """T of controls on each observation, (controls, observations)."""
    if not controls:
        return np.zeros((0, len(effect.observations)))
    return effect.measure([control.changes for control in controls]).double().numpy()


def _left_out(found: Sequence[object], total: int) -> tuple[str, ...]:
    if len(found) == total:
        return ()
    return (f"left out: {total - len(found)} controls that read nothing on the statistics' text",)


def _p_values(effects: pd.DataFrame) -> dict[str, float]:
    """Of the random families, ``p_FAMILY_MATCHING``."""
    rows = effects[effects["family"].str.startswith("random")]
    return {f"p_{row.family}_{row.matching}": float(row.p_value) for row in rows.itertuples()}
