"""The price of an edit, as ``edit --dry-run --json`` gives it, as lines of text; whatever the answer holds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.text import Text

from readwrite_edit.terminal import printable

_MISSING = "–"
_PREFLIGHT = (
    ("matrix", "matrix"), ("rank", "rank"), ("norm", "‖ΔW‖"), ("relative_norm", "÷‖W‖"),
    ("predicted_damage", "damage"), ("relative_damage", "÷output"), ("condition", "condition"),
    ("under_step_fraction", "<step"),
)  # fmt: skip
_OVERLAPS = (
    ("entry", "earlier edit"), ("matrix", "matrix"), ("cosine", "cosine"), ("output_cosine", "outputs"),
    ("read_overlap", "inputs"), ("changes_earlier", "adds there"),
)  # fmt: skip
_LEGEND = "damage: tr(ΔW C ΔWᵀ) on the statistics' text · ÷output: of the matrix's own · <step: a merged copy loses"
_MOST_ROWS = 200


def price_text(answer: str) -> Text | None:
    """What an edit would cost; None where the answer is not of that form."""
    try:
        price = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    if not isinstance(price, dict) or not isinstance(price.get("tables"), dict):
        return None
    tables = price["tables"]
    parts = [
        Text.assemble((_said(price.get("title") or price.get("edit")), "bold")),
        Text(f"why  {_said(price['why'])}") if price.get("why") else Text(),
        Text("\n").join([*grid(tables.get("preflight"), _PREFLIGHT), Text(_LEGEND, "dim")]),
        Text("\n").join(_overlaps(tables.get("overlaps"))),
        Text("\n").join(Text(f"note  {_said(note)}", "italic") for note in _list(price.get("notes"))),
        Text("\n").join(_figures(price.get("figures"))),
    ]
    return Text("\n\n").join(part for part in parts if part.plain)


def grid(rows: object, columns: Sequence[tuple[str, str]]) -> list[Text]:
    """Rows of a table in columns; a column that holds nothing is left out.

    Args:
        rows: As they stand in JSON.
        columns: Names in a row, with their headings.
    """
    found = [_with_matrix(row) for row in _list(rows) if isinstance(row, dict)]
    shown = found[:_MOST_ROWS]
    cells = [[heading, *(cell(row.get(name)) for row in shown)] for name, heading in columns]
    known = [column for column in cells if set(column[1:]) - {_MISSING}]
    if not known:
        return []
    widths = [max(map(len, column)) for column in known]
    lines = []
    for number in range(len(shown) + 1):
        words = [
            column[number].ljust(width) if place == 0 else column[number].rjust(width)
            for place, (column, width) in enumerate(zip(known, widths, strict=True))
        ]
        lines.append(Text("  ".join(words).rstrip(), "dim" if number == 0 else ""))
    left = len(found) - len(shown)
    return [*lines, *([Text(f"({left} more rows)", "dim")] if left else [])]


def cell(value: object) -> str:
    """A value of a table in a few characters."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return _MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else printable(str(value))


def _with_matrix(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "matrix": f"layer {row.get('layer')} {row.get('module')}"}


def _overlaps(rows: object) -> list[Text]:
    lines = grid(rows, _OVERLAPS)
    return [Text("earlier edits in the same matrices", "bold"), *lines] if lines else []


def _figures(figures: object) -> Iterable[Text]:
    """Name and number, two a line."""
    known = [(_said(name), cell(value)) for name, value in (figures.items() if isinstance(figures, dict) else ())]
    width = max((len(name) for name, _ in known), default=0)
    pairs = [f"{name:<{width}}  {value:<10}" for name, value in known if value != _MISSING]
    return (Text("   ".join(pairs[start : start + 2]).rstrip(), "dim") for start in range(0, len(pairs), 2))


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _said(value: object) -> str:
    return printable(" ".join(str(value).split()))
