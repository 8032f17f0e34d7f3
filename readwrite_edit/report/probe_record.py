"""What a probe left behind, read once: recipe, summary and tables, as far as it got."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from readwrite_edit.report.result_files import ResultRecord, date_of, mapping, read_recipe, read_summary, read_tables
from readwrite_edit.runs import reader

_SUBJECTS = ("base", "tuned", "model", "start", "checkpoints")
_FEW = 3


@dataclass(frozen=True)
class ProbeRecord(ResultRecord):
    """The files of one probe's run folder.

    Attributes:
        probe: Kind of probe.
        command: The command line that asked for it.
        settings: What it measured.
        versions: Packages that measured it.
    """

    probe: str
    command: str
    settings: dict[str, Any]
    versions: dict[str, Any]

    @property
    def subject(self) -> str:
        """The models that were measured."""
        named = [self.settings.get(name) for name in _SUBJECTS]
        return " → ".join(_listed(value) for value in named if value) or self.path.resolve().name


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
