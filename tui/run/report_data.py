"""What a run found, read from its files for the Report pane: end table, certificate, figures, answers, tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from readwrite_edit.runs.folder import RunFolder
from readwrite_edit.runs.reader import RunView, read_summary
from readwrite_edit.runs.regular import read_head
from readwrite_edit.runs.state import is_finite
from readwrite_edit.runs.wording import number_text
from readwrite_edit.terminal import printable

MOST_ROWS = 5000
_LARGEST_TABLE_BYTES = 1 << 23
_MOST_TABLES, _MOST_COLUMNS = 60, 80
_LONGEST_CELL = 48
_KINDS = {"before": dict, "after": dict, "figures": dict, "certificate": dict, "generations": list, "notes": list,
          "alarms": list, "tables": list}  # fmt: skip


@dataclass(frozen=True)
class ReportData:
    """The result of a run as far as there is one; every text in it is data.

    Attributes:
        view: The run.
        summary: ``summary.json``; parts that are not what this version writes are left out.
        tables: Names of the CSV files, the main one first.
        page: ``report.html``, where it was written.
        problem: Why ``summary.json`` can not be read, as a clause; empty where it can, or there is none.
        signature: Changes with the files.
    """

    view: RunView
    summary: Mapping[str, Any] = field(default_factory=dict)
    tables: tuple[str, ...] = ()
    page: Path | None = None
    problem: str = ""
    signature: tuple[Any, ...] = ()


def read_report(view: RunView) -> ReportData:
    """Read what a run left behind; for a worker. What can not be read is missing."""
    folder = RunFolder(view.path)
    end, problem = read_summary(view.path)
    found = {name: value for name, value in end.items() if _is_known(name, value)}
    if end and not found:
        problem = "nothing in it is what this version writes"
    names = sorted(path.stem for path in _csv_files(view.path))[:_MOST_TABLES]
    main = found.get("main")
    page = folder.report if folder.report.is_file() else None
    tables = tuple(sorted(names, key=lambda name: name != main))
    return ReportData(view, found, tables, page, problem, (view.status, repr(found), tables, page, problem))


def _csv_files(path: Path) -> list[Path]:
    try:
        return [file for file in path.iterdir() if file.suffix == ".csv" and file.is_file()]
    except OSError:
        return []


def _is_known(name: str, value: Any) -> bool:
    return isinstance(value, _KINDS[name]) if name in _KINDS else value is not None


@dataclass(frozen=True)
class TableText:
    """A table as aligned lines that are safe to show.

    Attributes:
        name: Of the file without ``.csv``.
        heading: The names of the columns.
        lines: The rows.
        left_out: What is not there, in words; empty where nothing is missing.
    """

    name: str
    heading: str
    lines: tuple[str, ...]
    left_out: str = ""


def read_table(view: RunView, name: str) -> TableText:
    """Read a CSV file of a run; for a worker. What can not be read is said in ``left_out``."""
    file = view.path / f"{name}.csv"
    try:
        data = read_head(file, _LARGEST_TABLE_BYTES)
    except OSError as error:
        return TableText(name, "", (), f"it can not be read: {error.strerror or error}")
    whole = len(data) < _LARGEST_TABLE_BYTES
    rows, problem = _rows(data if whole else data[: data.rfind(b"\n") + 1])
    if not rows:
        return TableText(name, "", (), problem or "it is empty")
    shown = [[_cell(value) for value in row[:_MOST_COLUMNS]] for row in rows[: MOST_ROWS + 1]]
    heading, *lines = _aligned(shown)
    left = len(rows) - 1 - MOST_ROWS
    more = ["further rows"] if not whole else [f"{left} rows"] if left > 0 else []
    more += [f"{len(rows[0]) - _MOST_COLUMNS} columns"] if len(rows[0]) > _MOST_COLUMNS else []
    left_out = f"{' and '.join(more)} are left out: {file} holds all" if more else ""
    return TableText(name, heading, tuple(lines), "; ".join(text for text in (problem, left_out) if text))


def _rows(data: bytes) -> tuple[list[list[str]], str]:
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(data.decode("utf-8", "replace"), newline="")):
            rows.append(row)
    except csv.Error as error:
        return rows, f"row {len(rows) + 1} can not be read ({error})"
    return [row for row in rows if row], ""


def _cell(text: str) -> str:
    """A value, short and safe to show: numbers in four digits."""
    try:
        number = float(text)
    except ValueError:
        shown = printable(text)
        return shown if len(shown) <= _LONGEST_CELL else shown[: _LONGEST_CELL - 1] + "…"
    if not is_finite(number):
        return text
    whole = text.lstrip("-").isdigit()
    return text[:_LONGEST_CELL] if whole else number_text(number)


def _aligned(rows: list[list[str]]) -> list[str]:
    """Columns of equal width; those that hold numbers to the right."""
    count = max(map(len, rows))
    rows = [row + [""] * (count - len(row)) for row in rows]
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [all(_is_number(cell) for cell in column[1:]) and len(column) > 1 for column in columns]
    fit = [f"{{:{'>' if flush else '<'}{width}}}" for width, flush in zip(widths, right, strict=True)]
    return ["  ".join(form.format(cell) for form, cell in zip(fit, row, strict=True)).rstrip() for row in rows]


def _is_number(cell: str) -> bool:
    try:
        return not cell or float(cell) is not None
    except ValueError:
        return False
