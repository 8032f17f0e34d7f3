"""The page of a comparison: the plane of each text, tables at equal cost and gain, and whether it is fair."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from markupsafe import Markup

from readwrite_edit.compare.cautions import basis_of, cautions
from readwrite_edit.compare.files import KIND, MATCHED, PAGE, POINTS
from readwrite_edit.compare.result import Comparison
from readwrite_edit.compare.text import arms_table, at_equal_cost, at_equal_gain, extent_table, gain_word
from readwrite_edit.durable import write_text
from readwrite_edit.report.compare_plane import plane_of
from readwrite_edit.report.template import rendered
from readwrite_edit.terminal import printable

_FIRM = "\N{NO-BREAK SPACE}"
_MADE_WITH = ("readwrite-edit", "numpy", "matplotlib")


@dataclass(frozen=True)
class Table:
    """Cells of a table; rows that begin with blanks belong to the row above."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class TextPart:
    """What there is to show of one text.

    Attributes:
        name: Of the text.
        svg: Its plane.
        at_cost: Gains at equal cost; None where the baseline cost nothing.
        at_gain: Costs at equal gain; None where the baseline gained nothing.
    """

    name: str
    svg: Markup
    at_cost: Table | None
    at_gain: Table | None


def write_comparison(comparison: Comparison, folder: Path, *, command: str) -> Path:
    """Write ``report.html`` into a folder: self-contained, nothing is fetched when it is opened.

    Args:
        comparison: Of the arms.
        folder: Made if missing.
        command: That makes the page again.

    Returns:
        Path of the page.
    """
    write_text(folder / PAGE, render(comparison, command=command))
    return folder / PAGE


def render(comparison: Comparison, *, command: str) -> str:
    """The page's HTML; the same comparison gives the same text."""
    page = rendered(
        "compare.html",
        {
            "found": comparison,
            "kind": KIND,
            "basis": basis_of(comparison),
            "cautions": list(cautions(comparison)),
            "word": gain_word(comparison),
            "unfair": [check for check in comparison.checks if check.passed is False],
            "arms": _table(arms_table(comparison)),
            "extent": _table(extent_table(comparison)),
            "texts": [_part(comparison, text, number) for number, text in enumerate(comparison.texts)],
            "definitions": definitions(comparison),
            "left_out": [f"{one.name}: {one.reason}" for one in comparison.left_out],
            "commands": [("make this page and its tables again", command)],
            "files": (POINTS, MATCHED),
            "versions": [("Python", platform.python_version()), *((name, version(name)) for name in _MADE_WITH)],
        },
    )
    return printable(page, keep_newlines=True)


def definitions(comparison: Comparison) -> list[tuple[str, str]]:
    """Each figure of the page in a sentence."""
    seeds, rows = len(comparison.seeds), comparison.rows
    return [
        ("margin", "β times the growth, over the base, of the log-probability of the chosen answer less that of the "
         "rejected one; mean over the held-out rows."),
        ("fall of the loss", "log 2 less the mean sigmoid DPO loss on the held-out rows; 0 for the untrained model."),
        ("KL", "KL(trained ‖ base) over the whole vocabulary in nats, mean over the predicted positions of a text."),
        ("path", "An arm's evaluations from the untrained model (0, 0) on, taken as straight between two of them in "
         "the gain and in the root of the KL."),
        ("gain at equal KL", "The best gain on a run's path at no more than that KL, mean over seeds."),
        ("KL at equal gain", "The least KL on a run's path at which it has that gain, mean over seeds."),
        ("Pareto front", "Evaluations (means over seeds, ringed) than which none is at once cheaper and better."),
        ("[ , ]", f"95 % percentile interval of {comparison.draws:,} bootstrap draws of {seeds} seeds, {rows} rows and "
         "the sequences of the text, the same draws for all arms."),
        ("p", "Two-sided bootstrap p-value of no paired difference; in brackets adjusted by Holm's method for the arms "
         "of that column."),
        ("~", "Before that arm's first evaluation (of a difference or a ratio: or the baseline's), on the straight "
         "line from the untrained model, which is assumed: nothing was measured there."),
        ("parameters, adapter bytes", "Trained numbers, and the size of the adapter's file."),
        ("minutes a run", "From a run's start to its end, with evaluations, mean over the runs that were not "
         "interrupted."),
    ]  # fmt: skip


def _part(comparison: Comparison, text: str, number: int) -> TextPart:
    at_cost, at_gain = (of(comparison, text, full=True) for of in (at_equal_cost, at_equal_gain))
    svg = Markup(plane_of(comparison, text, prefix=f"plane-{number}"))  # matplotlib escapes what it draws
    return TextPart(
        name=text,
        svg=svg,
        at_cost=_table(at_cost) if comparison.budgets[text] else None,
        at_gain=_table(at_gain) if comparison.levels[text] else None,
    )


def _table(rows: Sequence[Sequence[str]]) -> Table:
    header, *body = [[row[0], *map(_unbroken, row[1:])] for row in rows]
    return Table(header, body)


def _unbroken(cell: str) -> str:
    """A cell that may be broken before its p-value alone."""
    value, comma, p = cell.replace(" ", _FIRM).partition(f",{_FIRM}p")
    return f"{value}, p{p}" if comma else value
