"""The data behind the figures of a comparison as files, so that all of them can be drawn again."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from readwrite_edit.compare.matched import AtBudget, AtLevel, Estimate
from readwrite_edit.compare.points import gain_of
from readwrite_edit.compare.result import Comparison
from readwrite_edit.durable import write_text

Row = tuple[str, ...]
POINTS, MATCHED = "points.csv", "matched.csv"
_MATCHED_HEADING = (
    "kind", "text", "at", "arm", "value", "low", "high", "reached",
    "against", "against_low", "against_high", "p", "p_holm",
)  # fmt: skip


def write_tables(comparison: Comparison, folder: Path) -> None:
    """Write ``points.csv`` and ``matched.csv``."""
    for name, rows in ((POINTS, points_table(comparison)), (MATCHED, matched_table(comparison))):
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows(rows)
        write_text(folder / name, stream.getvalue())


def points_table(comparison: Comparison) -> list[Row]:
    """Every point of every path."""
    heading = ("arm", "seed", "step", "gain", "margin", "loss", "accuracy", "price")
    rows: list[Row] = [(*heading, *(f"kl_{text}" for text in comparison.texts))]
    for point in comparison.points:
        figures = (gain_of(point, comparison.gain), point.margin, point.loss, point.accuracy, point.price)
        values = (*figures, *(point.kl[text] for text in comparison.texts))
        rows.append((point.arm, str(point.seed), str(point.step), *map(_number, values)))
    return rows


def matched_table(comparison: Comparison) -> list[Row]:
    """Everything at equal cost and at equal gain; empty cells where nothing is matched."""
    rows: list[Row] = [_MATCHED_HEADING]
    for text in comparison.texts:
        for at_budget in (one for group in comparison.budgets[text] for one in group):
            kind, at = f"{comparison.gain}_at_kl", at_budget.budget
            rows.append((kind, text, _number(at), *_matched(at_budget, at_budget.gain, at_budget.difference)))
        for at_level in (one for group in comparison.levels[text] for one in group):
            kind, at = f"kl_at_{comparison.gain}", at_level.level
            rows.append((kind, text, _number(at), *_matched(at_level, at_level.cost, at_level.ratio)))
    return rows


def _matched(one: AtBudget | AtLevel, value: Estimate, against: Estimate | None) -> Row:
    other = ("", "", "") if against is None else tuple(map(_number, against))
    return (one.arm, *map(_number, value), _number(one.reached), *other, _number(one.p), _number(one.p_holm))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
