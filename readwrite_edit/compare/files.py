"""The data behind the figures of a comparison as files, so that all of them can be drawn again."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from readwrite_edit.compare.matched import AtBudget, AtLevel, Estimate
from readwrite_edit.compare.points import gain_of
from readwrite_edit.compare.result import Comparison
from readwrite_edit.durable import write_text
from readwrite_edit.runs.regular import read_head
from readwrite_edit.terminal import printable

Row = tuple[str, ...]
_LARGEST_HEAD = 1 << 20
POINTS, MATCHED, PAGE = "points.csv", "matched.csv", "report.html"
KIND = "Comparison at equal cost and at equal gain"
_POINTS_HEADING = ("arm", "seed", "step", "gain", "margin", "loss", "accuracy", "price")
_MATCHED_HEADING = (
    "kind", "text", "at", "arm", "value", "low", "high", "reached",
    "against", "against_low", "against_high", "p", "p_holm", "assumed",
)  # fmt: skip


def strangers(folder: Path) -> list[str]:
    """Names in a folder that a comparison would write to, of files that no comparison has written."""
    marks = {POINTS: ",".join(_POINTS_HEADING), MATCHED: ",".join(_MATCHED_HEADING[:5]), PAGE: KIND}
    return [name for name, mark in marks.items() if (folder / name).exists() and not _holds(folder / name, mark)]


def _holds(path: Path, mark: str) -> bool:
    """Whether a file that can be read holds a text."""
    try:
        return mark.encode() in read_head(path, _LARGEST_HEAD)
    except OSError:
        return False


def write_tables(comparison: Comparison, folder: Path) -> None:
    """Write ``points.csv`` and ``matched.csv``."""
    for name, rows in ((POINTS, points_table(comparison)), (MATCHED, matched_table(comparison))):
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows([printable(cell) for cell in row] for row in rows)
        write_text(folder / name, stream.getvalue())


def points_table(comparison: Comparison) -> list[Row]:
    """Every point of every path."""
    rows: list[Row] = [(*_POINTS_HEADING, *(f"kl_{text}" for text in comparison.texts))]
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
    tests = (one.p, one.p_holm, one.assumed)
    return (one.arm, *map(_number, value), _number(one.reached), *other, *map(_number, tests))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
