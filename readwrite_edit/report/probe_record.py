"""What a probe left behind, read once: recipe, summary and tables, as far as it got."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from readwrite_edit.report.result_files import date_of, mapping, read_recipe, read_summary, read_tables, sentences
from readwrite_edit.runs import reader

_SUBJECTS = ("base", "tuned", "model", "start", "checkpoints")
_FEW = 3


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
        return sentences(self.summary.get("notes"))

    @property
    def figures(self) -> dict[str, Any]:
        """Name to main number."""
        return mapping(self.summary.get("figures"))


def read_probe(path: Path) -> ProbeRecord:
    """Read a probe's run folder; a table that is damaged becomes a problem, not an error.

    Raises:
        DataError: The recipe or the summary is missing or damaged.
    """
    text, recipe = read_recipe(path / "recipe.yaml", "run the probe again")
    summary = read_summary(path / "summary.json", "resume the probe to write it again")
    tables, problems = read_tables(path, summary)
    if not summary and "geometry" not in tables and (rows := reader.geometry(path)):
        tables["geometry"] = pd.DataFrame(rows)
        problems.append("The geometry is taken from geometry.jsonl, as far as it was measured.")
    return ProbeRecord(
        path=path,
        probe=str(recipe.get("probe", "unknown")),
        command=str(recipe.get("command") or summary.get("command") or ""),
        settings=mapping(recipe.get("settings")),
        versions=mapping(recipe.get("provenance")),
        recipe_text=text,
        summary=summary,
        tables=tables,
        problems=tuple(problems),
        date=date_of(path / "state.json"),
    )


def _listed(value: Any) -> str:
    if not isinstance(value, list):
        return str(value)
    return ", ".join(map(str, value)) if len(value) <= _FEW else f"{value[0]}, …, {value[-1]} ({len(value)} in all)"
