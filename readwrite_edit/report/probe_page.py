"""The report of a probe: its verdict, its figures with the command that made them, its settings."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from readwrite_edit.report.figures_table import MISSING
from readwrite_edit.report.probe_figures import TextTable, figures_of
from readwrite_edit.report.probe_modules import HEADER, module_rows
from readwrite_edit.report.probe_record import ProbeRecord, read_probe
from readwrite_edit.report.record import is_number
from readwrite_edit.report.template import rendered

_BY_MODULE = ("delta",)


def render_probe(run_path: Path) -> str:
    """The page of a probe's run folder; one that did not finish is shown as far as it got.

    Raises:
        DataError: The recipe or the summary is missing or damaged.
    """
    record = read_probe(run_path)
    figures, absent = figures_of(record.probe, record.tables)
    contents = {
        "record": record,
        "figures": figures,
        "absent": [*record.problems, *absent],
        "modules": _modules(record),
        "numbers": [(words(name), number_cell(value)) for name, value in record.figures.items()],
        "settings": _settings(record),
        "tables": table_sizes(record.tables),
        "commands": _commands(record),
        "versions": list(record.versions.items()),
        "own_version": version("readwrite-edit"),
        "matplotlib_version": version("matplotlib"),
    }
    return rendered("probe.html", contents)


def words(name: str) -> str:
    """A name of a figure or setting as words."""
    return name.replace("_", " ")


def number_cell(value: Any) -> str:
    """A number of the summary to four digits; a dash for a missing one."""
    if not is_number(value):
        return MISSING
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _modules(record: ProbeRecord) -> TextTable | None:
    rows = module_rows(record.tables["geometry"]) if record.probe in _BY_MODULE and "geometry" in record.tables else []
    return TextTable(HEADER, [row.cells for row in rows]) if rows else None


def _settings(record: ProbeRecord) -> list[tuple[str, str]]:
    shown = {name: value for name, value in record.settings.items() if value is not None}
    return [(words(name), setting(value)) for name, value in shown.items()]


def setting(value: Any) -> str:
    """A value of a recipe as a cell."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def table_sizes(tables: Mapping[str, pd.DataFrame]) -> list[tuple[str, str]]:
    """Name and size of each table."""
    return [(name, f"{len(table):,} rows × {len(table.columns)}") for name, table in tables.items()]


def _commands(record: ProbeRecord) -> list[tuple[str, str]]:
    run = shlex.quote(str(record.path))
    again = [("measure the same again", record.command)] if record.command else []
    resume = [] if record.summary else [("go on where it stopped", f"readwrite-edit probe resume {run}")]
    return [*again, *resume, ("look at the run", f"readwrite-edit runs show {run}")]
