"""What a run left behind, read once: recipe, figures, geometry and end table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeGuard

import yaml

from readwrite_edit.errors import DataError
from readwrite_edit.runs import reader
from readwrite_edit.runs.state import is_finite

_SUMMARY_KINDS = {"before": dict, "after": dict, "certificate": dict, "generations": list, "alarms": list}
_LATEST_S = 4e9  # what counts as a time: a clock gone wrong must not break a report


@dataclass(frozen=True)
class RunRecord:
    """The files of one run folder.

    Attributes:
        path: The run folder.
        name: The recipe's name.
        recipe: Resolved recipe.
        recipe_text: The recipe as it stands in the file.
        summary: End table, certificate and generations; empty where the run did not finish.
        metrics: Lines of ``metrics.jsonl``, those a resume superseded left out.
        geometry: Lines of ``geometry.jsonl``, likewise.
    """

    path: Path
    name: str
    recipe: dict[str, Any]
    recipe_text: str
    summary: dict[str, Any]
    metrics: list[dict[str, Any]]
    geometry: list[dict[str, Any]]

    def section(self, name: str) -> dict[str, Any]:
        """A section of the recipe, empty where it has none."""
        section = self.recipe.get(name)
        return section if isinstance(section, dict) else {}

    @property
    def base_model(self) -> str:
        """The base model as the recipe names it."""
        return str(self.section("model").get("path", "unknown"))

    @property
    def date(self) -> str:
        """When the run wrote its last figures (UTC), or an empty text."""
        times = [line["time"] for line in self.metrics if is_number(line.get("time")) and 0 < line["time"] < _LATEST_S]
        return datetime.fromtimestamp(max(times), UTC).strftime("%Y-%m-%d %H:%M UTC") if times else ""

    @property
    def matrices(self) -> list[dict[str, Any]]:
        """The last snapshot of the geometry, one entry per adapted matrix."""
        return reader.last_snapshot(self.geometry)

    @property
    def alarms(self) -> list[str]:
        """Alarms of the end table, or of the log where the run did not finish."""
        if "alarms" in self.summary:
            return [str(alarm) for alarm in self.summary["alarms"]]
        return [f"step {line['step']}: {line.get('message', '')}" for line in self.metrics if line["kind"] == "alarm"]


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether a value from a file is a finite number (JSON's true and false are not)."""
    return is_finite(value)


def read_record(path: Path) -> RunRecord:
    """Read a run folder.

    Args:
        path: Run folder; one that is still running or failed reads as far as it got.

    Raises:
        DataError: There is no run there, or one of its files is damaged.
    """
    recipe_file = path / "recipe.yaml"
    if not recipe_file.is_file():
        raise DataError(f"{path} is not a run folder: it has no recipe.yaml; give a folder that `align` made")
    text = recipe_file.read_text(encoding="utf-8")
    return RunRecord(
        path=path,
        name=reader.read_run(path).recipe or path.resolve().name,
        recipe=_parse_recipe(recipe_file, text),
        recipe_text=text,
        summary=_read_summary(path / "summary.json"),
        metrics=reader.metrics(path),
        geometry=reader.geometry(path),
    )


def _parse_recipe(file: Path, text: str) -> dict[str, Any]:
    try:
        recipe = yaml.safe_load(text)
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise DataError(f"{file} is damaged ({problem}); restore it or run the recipe again") from error
    if not isinstance(recipe, dict):
        raise DataError(f"{file} is damaged: expected a mapping, found {type(recipe).__name__}; run the recipe again")
    return recipe


def _read_summary(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    try:
        summary = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{file} is damaged ({error}); resume the run to write it again") from error
    if not isinstance(summary, dict):
        raise DataError(f"{file} is damaged: expected an object, found {type(summary).__name__}; resume the run")
    summary = {name: value for name, value in summary.items() if value is not None}
    _check_summary(file, summary)
    return summary


def _check_summary(file: Path, summary: dict[str, Any]) -> None:
    odd = [name for name, kind in _SUMMARY_KINDS.items() if not isinstance(summary.get(name, kind()), kind)]
    certificate = {} if odd else summary.get("certificate", {})
    if certificate and not isinstance(certificate.get("passed"), bool):
        odd.append("certificate")
    if not odd and not _entries_have(summary.get("generations", []), {"prompt", "before", "after"}):
        odd.append("generations")
    if not odd and not _entries_have(certificate.get("checks", []), {"name", "passed", "detail"}):
        odd.append("checks")
    if odd:
        raise DataError(f"{file} is damaged: {odd[0]!r} is not what this version writes; resume the run")


def _entries_have(entries: Any, keys: set[str]) -> bool:
    return isinstance(entries, list) and all(isinstance(entry, dict) and keys <= entry.keys() for entry in entries)
