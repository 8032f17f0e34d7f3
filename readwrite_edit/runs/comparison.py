"""Runs side by side: where their recipes differ, their last figures, and their geometry, as plain data."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from readwrite_edit.runs.absence import SUMMARY, damage, unread_text
from readwrite_edit.runs.folder import FolderError, RunFolder
from readwrite_edit.runs.geometry_grid import MEASURES, GeometryGrid, Measure, grid
from readwrite_edit.runs.reader import RunView, read_run, read_summary
from readwrite_edit.runs.records import Found, Record, last_snapshot, read_geometry, read_metrics
from readwrite_edit.runs.regular import read_head
from readwrite_edit.runs.state import is_finite

FEWEST, MOST = 2, 4
_LARGEST_RECIPE = 1 << 20
_SAYS_NOTHING = ("provenance.recipe_sha256",)  # differs wherever anything else does


@dataclass(frozen=True)
class Row:
    """One thing, run by run.

    Attributes:
        name: Of the thing; of a recipe its dotted key.
        values: By the position of the run; a run that has none is missing. Strings among them are data.
    """

    name: str
    values: Mapping[int, Any]

    @property
    def differs(self) -> bool:
        """Whether the runs that have it disagree."""
        return len({repr(value) for value in self.values.values()}) > 1


@dataclass(frozen=True)
class GeometryRow:
    """Mean of one quantity over the layers of one module, run by run.

    Attributes:
        module: ``q_proj``, …; empty for the mean over all matrices.
        measure: The quantity.
        means: By the position of the run; a run without a figure is missing.
    """

    module: str
    measure: Measure
    means: Mapping[int, float]

    def change(self, position: int) -> float | None:
        """The run's mean less the first run's; None where either has none."""
        before, after = self.means.get(0), self.means.get(position)
        return None if before is None or after is None else after - before


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two to four runs side by side.

    Attributes:
        views: The runs.
        recipe: Keys whose values differ, in the order of the recipes.
        unread: By position, a sentence on each file of a run that could not be read, or not wholly.
        metrics: Last value of each metric, as ``train loss``; NaN is None.
        before: Figures of the base, as the end tables give them.
        after: Figures at the end (of probes and edits: their figures).
        grids: Last snapshot of each run's geometry.
        geometry: Means of each quantity that at least one run has, for all matrices and by module.
    """

    views: tuple[RunView, ...]
    recipe: tuple[Row, ...]
    unread: Mapping[int, tuple[str, ...]]
    metrics: tuple[Row, ...]
    before: tuple[Row, ...]
    after: tuple[Row, ...]
    grids: tuple[GeometryGrid, ...]
    geometry: tuple[GeometryRow, ...]


def compare(paths: Sequence[Path]) -> Comparison:
    """Put runs side by side; what is missing or broken in one is missing from its column.

    Args:
        paths: Two to four run folders.

    Raises:
        FolderError: There are fewer or more, one is no run, or two are the same.
    """
    if not FEWEST <= len(paths) <= MOST:
        raise FolderError(f"{len(paths)} runs: expected {FEWEST} to {MOST} to compare")
    if twice := same_run(paths):
        first, second = map(str, twice)
        named = f"{first} twice" if first == second else f"{first} and {second}, which are the same run"
        raise FolderError(f"{named}: expected different runs to compare; leave one out")
    sides = [_side(path) for path in paths]
    for view in (side.view for side in sides):
        if view.status == "broken":
            raise FolderError(f"{view.path}: {view.reason}: it can not be compared")
    grids = tuple(grid(last_snapshot(side.recorded.records)) for side in sides)
    recipe, no_recipe = recipe_differences(paths)
    unread = {at: (*([no_recipe[at]] if at in no_recipe else []), *side.unread()) for at, side in enumerate(sides)}
    return Comparison(
        views=tuple(side.view for side in sides),
        recipe=recipe,
        unread={at: sentences for at, sentences in unread.items() if sentences},
        metrics=_rows([_last_metrics(side.logged.records) for side in sides]),
        before=_rows([_figures(side.end.get("before")) for side in sides]),
        after=_rows([_figures(side.end.get("after") or side.end.get("figures")) for side in sides]),
        grids=grids,
        geometry=tuple(geometry_rows(grids)),
    )


@dataclass(frozen=True)
class _Side:
    """The files of one run but its recipe, as far as they can be read."""

    view: RunView
    logged: Found
    recorded: Found
    end: Mapping[str, Any]
    no_end: str

    def unread(self) -> tuple[str, ...]:
        """A sentence on each that can not be read, or not wholly."""
        lines = [
            damage(found.cursor, len(found.records), live=self.view.live) for found in (self.logged, self.recorded)
        ]
        end = unread_text(SUMMARY, self.no_end) if self.no_end else ""
        return tuple(sentence for sentence in (*lines, end) if sentence)


def _side(path: Path) -> _Side:
    return _Side(read_run(path), read_metrics(path), read_geometry(path), *read_summary(path))


def same_run(paths: Sequence[Path]) -> tuple[Path, Path] | None:
    """The first two paths that lead to one folder; None where all differ."""
    seen: dict[str, Path] = {}
    for path in paths:
        real = os.path.realpath(path)
        if real in seen:
            return seen[real], path
        seen[real] = path
    return None


def recipe_differences(paths: Sequence[Path]) -> tuple[tuple[Row, ...], dict[int, str]]:
    """Where the recipes of runs differ, by dotted key.

    Args:
        paths: Run folders.

    Returns:
        Keys whose values are not the same in all of them, and by position why a recipe could not be read; a recipe
        that could not is left out of the comparison.
    """
    recipes: dict[int, dict[str, Any]] = {}
    unread: dict[int, str] = {}
    for position, path in enumerate(paths):
        try:
            recipes[position] = dict(flat(recipe_values(path)))
        except FolderError as error:
            unread[position] = str(error)
    names = dict.fromkeys(name for recipe in recipes.values() for name in recipe)
    rows = (Row(name, {at: recipe[name] for at, recipe in recipes.items() if name in recipe}) for name in names)
    different = (row for row in rows if row.differs or len(row.values) < len(recipes))
    return tuple(row for row in different if row.name not in _SAYS_NOTHING), unread


def geometry_rows(grids: Sequence[GeometryGrid]) -> Iterator[GeometryRow]:
    """Means by quantity, for all matrices and then by module; quantities that no run has are left out."""
    modules = dict.fromkeys(module for one in grids for module in one.modules)
    for measure in MEASURES:
        for module in ("", *modules):
            found = {at: _mean(one, module, measure) for at, one in enumerate(grids)}
            means = {at: value for at, value in found.items() if value is not None}
            if means:
                yield GeometryRow(module, measure, means)


def _mean(one: GeometryGrid, module: str, measure: Measure) -> float | None:
    return one.module_mean(module, measure) if module else one.mean(measure)


def recipe_values(path: Path) -> Any:
    """The recipe of a run as plain values.

    Raises:
        FolderError: It can not be read.
    """
    import yaml

    from readwrite_edit.recipe.yaml_nodes import read_document

    file = RunFolder(path).recipe
    try:
        data = read_head(file, _LARGEST_RECIPE + 1)
        if len(data) > _LARGEST_RECIPE:
            raise FolderError(f"{file} is larger than 1 MiB")
        return read_document(data.decode("utf-8")).value
    except OSError as error:
        raise FolderError(f"{file} can not be read: {error.strerror or error}") from None
    except (ValueError, yaml.YAMLError):
        raise FolderError(f"{file} is not plain YAML") from None


def flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each plain value, or list of plain values, under its dotted key."""
    if isinstance(value, dict) and value:
        items = value.items()
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        items = dict(enumerate(value)).items()
    else:
        yield prefix, value
        return
    for key, item in items:
        yield from flat(item, f"{prefix}.{key}" if prefix else str(key))


def _last_metrics(records: Sequence[Record]) -> dict[str, Any]:
    """The last value of each metric, training before evaluation."""
    latest: dict[str, dict[str, Any]] = {"train": {}, "eval": {}}
    for record in records:
        if record["kind"] in latest:
            latest[record["kind"]].update(_figures(record["values"]))
    return {f"{kind} {name}": value for kind, values in latest.items() for name, value in values.items()}


def _figures(found: Any) -> dict[str, float | None]:
    """Numbers by name, None for those that were not finite; whatever else a file holds there is left out."""
    if not isinstance(found, dict):
        return {}
    return {name: value for name, value in found.items() if value is None or is_finite(value)}


def _rows(columns: Sequence[Mapping[str, Any]]) -> tuple[Row, ...]:
    names = dict.fromkeys(name for column in columns for name in column)
    return tuple(Row(name, {at: column[name] for at, column in enumerate(columns) if name in column}) for name in names)
