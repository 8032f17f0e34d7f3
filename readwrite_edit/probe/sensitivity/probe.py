"""The sensitivity probe: how the verdict on a delta moves with the definitions behind it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pandas as pd

from readwrite_edit.job.result import Result
from readwrite_edit.job.session import Session
from readwrite_edit.probe.delta.comparison import Comparison, compare, step_dtype
from readwrite_edit.probe.delta.dense import DenseOptions
from readwrite_edit.probe.delta.probe import check_same_input, checkpoints, input_files, notes
from readwrite_edit.probe.delta.reference import Reference, prepare_reference
from readwrite_edit.probe.delta.tables import geometry_table
from readwrite_edit.probe.delta.verdict import verdict_of
from readwrite_edit.probe.sensitivity.variants import Variant, variants
from readwrite_edit.probe.settings.sensitivity import SensitivitySettings

Row = dict[str, Any]


def probe_sensitivity(base: str, tuned: str | None = None, **options: Any) -> Result:
    """Verdict and its numbers under one changed definition at a time.

    Args:
        base: As for ``probe_delta``.
        tuned: As for ``probe_delta``.
        **options: Fields of ``SensitivitySettings``.

    Returns:
        Table ``variants``, one row a definition, and ``geometry`` of all of them.

    Raises:
        ReadWriteEditError: Wrong input.
    """
    settings: SensitivitySettings = SensitivitySettings.checked({"base": base, "tuned": tuned, **options})
    return prepare(settings)(Session())


@dataclass(frozen=True)
class _Ready:
    variant: Variant
    reference: Reference


def prepare(settings: SensitivitySettings) -> Callable[[Session], Result]:
    """Match the checkpoints once and check every variant's text; returns what measures."""
    base, tuned = checkpoints(settings)
    comparison = compare(base, tuned, modules=settings.modules, layers=settings.layers, unrelated=settings.unrelated)
    inputs = input_files(settings, comparison.model, base, tuned)
    ready = [_Ready(variant, prepare_reference(variant.settings, comparison)) for variant in variants(settings)]

    def measure(session: Session) -> Result:
        check_same_input(session, inputs)
        found = {row["variant"]: row for row in session.recorded("variants")}
        with closing(comparison):
            for number, one in enumerate(ready, start=1):
                if one.variant.name not in found:
                    row = _measured(one, comparison, session, number)
                    session.append("variants", [row])
                    found[one.variant.name] = row
                session.advance(number, len(ready), "variant")
        return _result([found[one.variant.name] for one in ready], comparison)

    return measure


def _measured(one: _Ready, comparison: Comparison, session: Session, number: int) -> Row:
    settings = one.variant.settings
    options = DenseOptions(settings.k, step_dtype(settings.step_dtype), "none", comparison.anatomy.pathways.d_head)
    rows = [row for found in comparison.measure(one.reference(session), options) for row in found.geometry]
    session.log_geometry(number, rows)
    verdict = verdict_of(geometry_table(rows))
    return {
        "group": one.variant.group,
        "variant": one.variant.name,
        "k": settings.k,
        "matrices": len(rows),
        **verdict.figures,
        "verdict": verdict.sentence,
    }


def _result(rows: list[Row], comparison: Comparison) -> Result:
    table = pd.DataFrame(rows)
    agree = int((table["shown"] == table["shown"].iloc[0]).sum()) - 1
    ratios = table["asymmetry_ratio"].astype(float)
    sentence = (
        f"{agree} of {len(table) - 1} changed definitions give the verdict of the definitions as given "
        f"({'shown' if rows[0]['shown'] else 'not shown'}); read over write {ratios.iloc[0]:.3g} as given, "
        f"{ratios.min():.3g} to {ratios.max():.3g} over all"
    )
    figures = {"variants": len(table) - 1, "agreeing": agree}
    return Result(
        "variants", {"variants": table}, sentence, figures, tuple(notes(comparison, int(table["matrices"].iloc[0]), []))
    )
