"""What a probe found: tables for other programs, and a few sentences and numbers for the reader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from readwrite_edit.durable import finite_or_none, whole_file, write_json
from readwrite_edit.report import write_report
from readwrite_edit.runs.folder import RunFolder

SCHEMA = 1


@dataclass(frozen=True)
class Result:
    """Tables and summary of one probe; ``docs/probe.md`` documents every column.

    Attributes:
        main: Name of the table to look at first.
        tables: Name to tidy table.
        verdict: The finding in one line; None where the probe draws none.
        figures: Name to main number.
        notes: What the reader must know: what was left out, and why.
    """

    main: str
    tables: Mapping[str, pd.DataFrame]
    verdict: str | None = None
    figures: Mapping[str, float | int | None] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def frame(self) -> pd.DataFrame:
        """The main table."""
        return self.tables[self.main]


def write_result(result: Result, folder: RunFolder, about: Mapping[str, Any]) -> dict[str, Any]:
    """Write tables, then the summary that names them, then the page made of both.

    Args:
        result: What was found.
        folder: Of the run.
        about: What its kind adds to the summary.

    Returns:
        What ``summary.json`` holds.
    """
    write_tables(result, folder.path)
    summary = {
        "schema": SCHEMA,
        "main": result.main,
        "tables": sorted(result.tables),
        "verdict": result.verdict,
        "notes": list(result.notes),
        "figures": finite_or_none(result.figures),
        **about,
    }
    write_json(folder.summary, summary)
    write_report(folder.path)
    return summary


def write_tables(result: Result, folder: Path) -> None:
    """Write each table as Parquet and as CSV, each file whole or not at all."""
    for name, table in result.tables.items():
        with whole_file(folder / f"{name}.parquet") as temporary:
            table.to_parquet(temporary, index=False)
        with whole_file(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)
