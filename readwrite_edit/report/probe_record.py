"""What a probe left behind, read once: recipe, summary and tables, as far as it got."""

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
from readwrite_edit.runs import reader
from readwrite_edit.runs.state import StateError, load_state
from readwrite_edit.terminal import printable

_SUBJECTS = ("base", "tuned", "model", "start", "checkpoints")
_FEW = 3
_LATEST_S = 4e9  # what counts as a time: a clock gone wrong must not break a report


@dataclass(frozen=True)
class ProbeRecord:
    """The files of one probe's run folder; every string in them is data.

    Attributes:
        path: The run folder.
        probe: Kind of probe.
        command: The command line that asked for it.
        settings: What it measured.
        versions: Packages that measured it.
        recipe_text: The recipe as it stands in the file.
        summary: Verdict, notes and figures; empty where the probe did not finish.
        tables: Name to table.
        problems: What could not be read, a sentence each.
        date: When it gave its last sign (UTC), or an empty text.
    """

    path: Path
    probe: str
    command: str
    settings: dict[str, Any]
    versions: dict[str, Any]
    recipe_text: str
    summary: dict[str, Any]
    tables: dict[str, pd.DataFrame]
    problems: tuple[str, ...]
    date: str

    @property
    def subject(self) -> str:
        """The models that were measured."""
        named = [self.settings.get(name) for name in _SUBJECTS]
        return " → ".join(_listed(value) for value in named if value) or self.path.resolve().name

    @property
    def verdict(self) -> str:
        """The finding in one line, or an empty text."""
        return str(self.summary.get("verdict") or "")

    @property
    def notes(self) -> list[str]:
        """What the reader must know."""
        notes = self.summary.get("notes")
        return [str(note) for note in notes] if isinstance(notes, list) else []

    @property
    def figures(self) -> dict[str, Any]:
        """Name to main number."""
        return _mapping(self.summary.get("figures"))


def read_probe(path: Path) -> ProbeRecord:
    """Read a probe's run folder; a table that is damaged becomes a problem, not an error.

    Raises:
        DataError: The recipe or the summary is missing or damaged.
    """
    text, recipe = _read_recipe(path / "recipe.yaml")
    summary = _read_summary(path / "summary.json")
    tables, problems = _read_tables(path, summary)
    return ProbeRecord(
        path=path,
        probe=str(recipe.get("probe", "unknown")),
        command=str(recipe.get("command") or summary.get("command") or ""),
        settings=_mapping(recipe.get("settings")),
        versions=_mapping(recipe.get("provenance")),
        recipe_text=text,
        summary=summary,
        tables=tables,
        problems=problems,
        date=_date(path / "state.json"),
    )


def _read_recipe(file: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = file.read_text(encoding="utf-8")
        recipe = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        problem = " ".join(str(error).split())
        raise DataError(f"{file} can not be read ({problem}); restore it or run the probe again") from error
    if not isinstance(recipe, dict):
        raise DataError(f"{file} is damaged: expected a mapping, found {type(recipe).__name__}; run the probe again")
    return text, recipe


def _read_summary(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    try:
        summary = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file} is damaged ({error}); resume the probe to write it again") from error
    if not isinstance(summary, dict):
        raise DataError(f"{file} is damaged: expected an object, found {type(summary).__name__}; resume the probe")
    return summary


def _read_tables(path: Path, summary: dict[str, Any]) -> tuple[dict[str, pd.DataFrame], tuple[str, ...]]:
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
    if not summary and "geometry" not in tables and (rows := reader.geometry(path)):
        tables["geometry"] = pd.DataFrame(rows)
        problems.append("The geometry is taken from geometry.jsonl, as far as it was measured.")
    return tables, tuple(problems)


def _printable(table: pd.DataFrame) -> pd.DataFrame:
    """The table with control characters in its texts made visible: names come from other people's files."""
    return table.map(lambda value: printable(value) if isinstance(value, str) else value)


def _date(state: Path) -> str:
    try:
        seconds = load_state(state).heartbeat_s
    except StateError:
        return ""
    known = is_number(seconds) and 0 < seconds < _LATEST_S
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC") if known else ""


def _mapping(value: Any) -> dict[str, Any]:
    return {str(name): item for name, item in value.items()} if isinstance(value, dict) else {}


def _listed(value: Any) -> str:
    if not isinstance(value, list):
        return str(value)
    return ", ".join(map(str, value)) if len(value) <= _FEW else f"{value[0]}, …, {value[-1]} ({len(value)} in all)"
