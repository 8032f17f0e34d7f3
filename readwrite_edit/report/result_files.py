"""The files that probes and edits leave in a run folder, read as far as they got; every string in them is data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from readwrite_edit.errors import DataError
from readwrite_edit.report.record import is_number
from readwrite_edit.runs.state import StateError, load_state
from readwrite_edit.terminal import printable

_LATEST_S = 4e9  # what counts as a time: a clock gone wrong must not break a report


@dataclass(frozen=True)
class ResultRecord:
    """What a probe and an edit leave behind alike; every string in it is data.

    Attributes:
        path: The run folder.
        recipe_text: The recipe as it stands in the file.
        summary: Verdict, notes and figures; empty where the run did not finish.
        tables: Name to table.
        problems: What could not be read, a sentence each.
        date: When the run gave its last sign (UTC), or an empty text.
    """

    path: Path
    recipe_text: str
    summary: dict[str, Any]
    tables: dict[str, pd.DataFrame]
    problems: tuple[str, ...]
    date: str

    @property
    def verdict(self) -> str:
        """The finding in one line, safe to print, or an empty text."""
        return printable(str(self.summary.get("verdict") or ""))

    @property
    def notes(self) -> list[str]:
        """What the reader must know, safe to print."""
        return [printable(note) for note in sentences(self.summary.get("notes"))]

    @property
    def figures(self) -> dict[str, Any]:
        """Name to main number."""
        return mapping(self.summary.get("figures"))


def read_recipe(file: Path, again: str) -> tuple[str, dict[str, Any]]:
    """A run's recipe, as text and as values.

    Args:
        file: ``recipe.yaml``.
        again: What to do where it is damaged.

    Raises:
        DataError: It is missing or damaged.
    """
    try:
        text = file.read_text(encoding="utf-8")
        recipe = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        problem = " ".join(str(error).split())
        raise DataError(f"{file} can not be read ({problem}); restore it or {again}") from error
    if not isinstance(recipe, dict):
        raise DataError(f"{file} is damaged: expected a mapping, found {type(recipe).__name__}; {again}")
    return text, recipe


def read_summary(file: Path, again: str) -> dict[str, Any]:
    """A run's summary; empty where it has written none.

    Args:
        file: ``summary.json``.
        again: What to do where it is damaged.

    Raises:
        DataError: It is damaged.
    """
    if not file.exists():
        return {}
    try:
        summary = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file} is damaged ({error}); {again}") from error
    if not isinstance(summary, dict):
        raise DataError(f"{file} is damaged: expected an object, found {type(summary).__name__}; {again}")
    return summary


def read_tables(path: Path, summary: dict[str, Any]) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """A run's tables by name, and a sentence for each that is damaged, or missing though the summary names it."""
    tables, problems = {}, []
    for file in sorted(path.glob("*.parquet")):
        try:
            tables[file.stem] = _printable(pd.read_parquet(file))
        except Exception as error:  # pyarrow has no one kind of error for a damaged file
            problems.append(f"Table {file.stem} can not be read ({type(error).__name__}).")
    named = summary.get("tables")
    for name in named if isinstance(named, list) else []:
        if not (path / f"{name}.parquet").is_file():
            problems.append(f"Table {name} is missing.")
    return tables, problems


def _printable(table: pd.DataFrame) -> pd.DataFrame:
    """The table with control characters in its texts made visible: names come from other people's files."""
    return table.map(lambda value: printable(value) if isinstance(value, str) else value)


def date_of(state: Path) -> str:
    """When a run gave its last sign (UTC), or an empty text."""
    try:
        seconds = load_state(state).heartbeat_s
    except StateError:
        return ""
    known = is_number(seconds) and 0 < seconds < _LATEST_S
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC") if known else ""


def mapping(value: Any) -> dict[str, Any]:
    """A mapping with texts as keys; empty for anything else."""
    return {str(name): item for name, item in value.items()} if isinstance(value, dict) else {}


def sentences(value: Any) -> list[str]:
    """A list as texts; empty for anything else."""
    return [str(item) for item in value] if isinstance(value, list) else []
