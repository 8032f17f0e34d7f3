"""A probe's result on the terminal: a table to read, or JSON or CSV for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from readwrite_edit.job.result import Result
from readwrite_edit.report.figures_table import MISSING
from readwrite_edit.report.probe_grid import aligned, geometry_lines
from readwrite_edit.report.probe_page import number_cell, words
from readwrite_edit.report.record import is_number
from readwrite_edit.terminal import printable

WIDTH = 80
_LONGEST_CELL = 28
_MOST_ROWS = 40
_MANY_FIGURES, _GAP = 8, 6
# What a terminal has room for of each main table, and under which heading.
_COLUMNS = {
    "layers": (
        "site", "objective", "layer", "module", "effective_rank", "participation_ratio", "energy_top_1",
        "energy_top_16", "mean_share", "first_position_share", "prediction_relative", "write_relative_isotropic",
        "read_relative_isotropic",
    ),
    "trajectory": (
        "step", "against", "module", "read_relative_isotropic", "read_relative_energy", "write_relative_isotropic",
        "relative_norm",
    ),
    "contrast": ("grade", "side", "module", "quantity", "mean", "low", "high", "n_seeds"),
    "effects": ("layer", "module", "direction", "factor", "matching", "kl", "ratio", "p_value", "q_value"),
    "variants": (
        "variant", "shown", "read_relative_isotropic", "write_relative_isotropic", "asymmetry_ratio", "asymmetry_p",
    ),
}  # fmt: skip
_HEADINGS = {
    "effective_rank": "eff_rank", "participation_ratio": "particip", "energy_top_1": "top_1", "energy_top_16": "top_16",
    "mean_share": "mean", "first_position_share": "first", "prediction_relative": "predict÷k/d",
    "read_relative_isotropic": "read÷k/d", "read_relative_energy": "read÷energy", "relative_norm": "norm/‖W‖",
    "write_relative_isotropic": "write÷k/d", "asymmetry_ratio": "read÷write", "asymmetry_p": "p",
}  # fmt: skip
_ROWS = {"contrast": ("quantity", "relative_isotropic")}
_NO_VERDICT = "no verdict: this probe measures and judges nothing"


def as_text(path: Path, result: Result, *, form: str, verdict_only: bool) -> str:
    """A result as text that is safe to print.

    Args:
        path: Its run folder.
        result: What the probe found.
        form: ``table`` to read, ``json`` or ``csv`` (the main table) for programs.
        verdict_only: The verdict's line and nothing else.
    """
    if verdict_only:
        return printable(" ".join((result.verdict or _NO_VERDICT).split()))
    return {"table": _table, "json": _json, "csv": _csv}[form](path, result)


def _json(_: Path, result: Result) -> str:
    value = {
        "verdict": result.verdict,
        "notes": list(result.notes),
        "figures": finite(result.figures),
        "tables": {result.main: records(result.frame)},
    }
    return strict_json(value)


def strict_json(value: Any) -> str:
    """A value as JSON in ASCII: no NaN, and no character that a terminal would obey."""
    return json.dumps(value, indent=2, allow_nan=False).replace("\x7f", "\\u007f")


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a table as values of strict JSON."""
    return [{str(name): json_value(item) for name, item in row.items()} for row in frame.to_dict("records")]


def finite(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Named numbers; None for all else."""
    return {str(name): item if is_number(item) else None for name, item in figures.items()}


def json_value(value: Any) -> Any:
    """A cell as a value of strict JSON."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool | str):
        return value
    if value is None or value is pd.NA or isinstance(value, float | int):
        return value if is_number(value) else None
    return str(value)


def _csv(_: Path, result: Result) -> str:
    safe = result.frame.rename(columns=lambda name: printable(str(name)))
    safe = safe.map(lambda value: printable(value) if isinstance(value, str) else value)
    text: str = safe.to_csv(index=False)
    return text.rstrip("\n")


def _table(path: Path, result: Result) -> str:
    snapshot = result.main == "geometry" and "step" not in result.frame.columns
    lines = geometry_lines(result.frame, WIDTH) if snapshot else []
    parts = [lines or _frame_lines(result.frame, result.main)]
    parts.append([printable(f"note: {note}") for note in result.notes])
    parts.append(figure_lines(result.figures))
    parts.append([printable(f"verdict: {' '.join(result.verdict.split())}")] if result.verdict else [])
    parts.append(_files(path, result))
    return "\n\n".join("\n".join(part) for part in parts if part)


def figure_lines(figures: Mapping[str, Any]) -> list[str]:
    """Names and numbers, in two columns where there are many."""
    lines = aligned([(printable(words(name)), number_cell(value)) for name, value in figures.items()])
    width, half = max(map(len, lines), default=0), -(-len(lines) // 2)
    if len(lines) < _MANY_FIGURES or 2 * width + _GAP > WIDTH:
        return lines
    pairs = zip_longest(lines[:half], lines[half:], fillvalue="")
    return [f"{left:<{width + _GAP}}{right}".rstrip() for left, right in pairs]


def _files(path: Path, result: Result) -> list[str]:
    tables = ", ".join(sorted(result.tables))
    return [
        printable(f"report   {path / 'report.html'}"),
        printable(f"summary  {path / 'summary.json'}"),
        printable(f"tables   {path}/NAME.parquet and .csv: {tables}"),
    ]


def _frame_lines(frame: pd.DataFrame, name: str) -> list[str]:
    """The columns that vary and fit, the first rows, and what was left out."""
    if not len(frame):
        return [f"{name}: no rows"]
    chosen = _chosen(frame, name)
    columns = [column for column in chosen.columns if len(chosen) == 1 or _distinct(chosen[column]) > 1]
    texts = [(_heading(column), *map(cell, chosen[column].head(_MOST_ROWS))) for column in columns]
    kept = fitting(texts)
    rows, lines = min(len(chosen), _MOST_ROWS), aligned(list(zip(*kept, strict=True)))
    left = [f"{len(frame) - rows} more rows"] if len(frame) > rows else []
    left += [f"{len(frame.columns) - len(kept)} more columns"] if len(frame.columns) > len(kept) else []
    only = [f"{_ROWS[name][0]}: {_ROWS[name][1]}"] if name in _ROWS and len(chosen) < len(frame) else []
    return [*only, *lines, *([f"({' and '.join(left)} in {printable(name)}.csv)"] if left else [])]


def _chosen(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows and columns of a known table that are worth the room; of another one all."""
    column, wanted = _ROWS.get(name, ("", ""))
    found = frame[frame[column] == wanted] if column in frame.columns else frame
    columns = [column for column in _COLUMNS.get(name, ()) if column in frame.columns]
    return (found if len(found) else frame)[columns or list(frame.columns)]


def _heading(column: Any) -> str:
    return _HEADINGS.get(column, printable(str(column)))


def _distinct(column: pd.Series) -> int:
    return len({str(value) for value in column})


def fitting(columns: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """As many of the columns, from the left, as the width holds; at least one."""
    used = -2
    kept: list[tuple[str, ...]] = []
    for column in columns:
        used += 2 + max(map(len, column))
        if kept and used > WIDTH:
            break
        kept.append(column)
    return kept


def cell(value: Any) -> str:
    """A value of a table, short and safe to print."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number_cell(value)
    text = MISSING if value is None or value is pd.NA else printable(str(value))
    return text if len(text) <= _LONGEST_CELL else text[: _LONGEST_CELL - 1] + "…"
