"""Figures of an edit, made of the tables that it wrote."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from readwrite_edit.report.edit_figures.effects import EFFECTS, with_tested
from readwrite_edit.report.edit_figures.listing import plain_plan
from readwrite_edit.report.edit_figures.matrices import MATRICES
from readwrite_edit.report.edit_figures.outcome import OUTCOME
from readwrite_edit.report.edit_figures.price import PRICE
from readwrite_edit.report.edit_figures.tracing import TRACING
from readwrite_edit.report.probe_figures.plan import Figure, Plan, carry_out

__all__ = ["PLANS", "figures_of_edit"]

PLANS: tuple[Plan, ...] = (OUTCOME[0], *EFFECTS, *PRICE, *OUTCOME[1:], *MATRICES, *TRACING)


def figures_of_edit(tables: Mapping[str, pd.DataFrame]) -> tuple[list[Figure], list[str]]:
    """Figures of an edit; which there can be depends on its kind and on what was measured.

    Args:
        tables: Its tables by name.

    Returns:
        The figures that its tables give, and a sentence for each that could not be made of a table that is there.
    """
    known = dict(tables)
    if (controls := with_tested(tables)) is not None:
        known["controls"] = controls
    shown = {plan.table for plan in PLANS}
    own = [plain_plan(name, table) for name, table in known.items() if name not in shown]
    return carry_out([*(plan for plan in PLANS if plan.table in known), *own], known)
