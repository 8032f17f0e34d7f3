"""The runs of a comparison, by arm: what differs between arms is compared, what differs within one is its seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from readwrite_edit.evaluate.records import Evaluation, read_evaluations
from readwrite_edit.runs.comparison import flat, recipe_values
from readwrite_edit.runs.folder import FolderError
from readwrite_edit.runs.reader import read_run, summary
from readwrite_edit.sweep.grid import SEED_KEYS
from readwrite_edit.sweep.progress import duration_s
from readwrite_edit.sweep.record import SweepRecord, read_record, record_path

_OWN = "provenance."


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run with its evaluations.

    Attributes:
        name: Of its folder.
        arm: That it belongs to.
        chosen: Its value on the axis that is chosen on; empty without such an axis.
        seed: Of its order of rows.
        path: Its folder.
        evaluations: By step; at least one.
        recipe: Dotted key to plain value, without provenance.
        base: Hash of the base's weights; empty where the recipe does not say.
        parameters: Trained ones; None where its end table does not say.
        adapter_bytes: Of the adapter's file; None likewise.
        duration_s: From start to end; None where it was resumed.
    """

    name: str
    arm: str
    chosen: str
    seed: int
    path: Path
    evaluations: tuple[Evaluation, ...]
    recipe: Mapping[str, Any]
    base: str
    parameters: int | None
    adapter_bytes: int | None
    duration_s: float | None


@dataclass(frozen=True)
class LeftOut:
    """A run that can not be compared, and why."""

    name: str
    reason: str


def collect(paths: Sequence[Path]) -> tuple[list[Run], list[LeftOut]]:
    """The runs that users name: each a run, or the folder of a sweep.

    Raises:
        FolderError: A path is neither, or none of the runs can be compared.
    """
    runs: list[Run] = []
    left_out: list[LeftOut] = []
    alone: list[Path] = []
    for path in paths:
        record = read_record(path)
        if record is None:
            alone.append(path)
        else:
            found, without = sweep_runs(path, record)
            runs += found
            left_out += without
    found, without = _grouped(alone)
    runs += found
    left_out += without
    if not runs:
        why = f": {left_out[0].name}: {left_out[0].reason}" if left_out else ""
        raise FolderError(f"nothing to compare{why}")
    return runs, left_out


def sweep_runs(folder: Path, record: SweepRecord) -> tuple[list[Run], list[LeftOut]]:
    """The runs of a sweep's folder."""
    runs: list[Run] = []
    left_out: list[LeftOut] = []
    for planned in record.runs.values():
        found = _load(folder / planned.name, planned.arm, planned.chosen, planned.seed)
        if isinstance(found, Run):
            runs.append(found)
        else:
            left_out.append(found)
    return runs, left_out


def _grouped(paths: Iterable[Path]) -> tuple[list[Run], list[LeftOut]]:
    """Single runs: those whose recipes differ by seeds alone are one arm, named after the first of them."""
    runs: list[Run] = []
    left_out: list[LeftOut] = []
    arms: dict[str, str] = {}
    for path in paths:
        view = read_run(path)
        if view.status == "broken":
            hint = "" if record_path(path).exists() else f", and no sweep: it has no {record_path(path).name}"
            raise FolderError(f"{path}: {view.reason}{hint}")
        found = _load(path, "", "", 0)
        if isinstance(found, LeftOut):
            left_out.append(found)
            continue
        same = repr(sorted((key, value) for key, value in found.recipe.items() if key not in SEED_KEYS))
        arm = arms.setdefault(same, found.name)
        runs.append(_load_as(found, arm))
    return runs, left_out


def _load_as(run: Run, arm: str) -> Run:
    seed = run.recipe.get(SEED_KEYS[0], 0)
    return Run(**{**vars(run), "arm": arm, "seed": seed if isinstance(seed, int) else 0})


def _load(path: Path, arm: str, chosen: str, seed: int) -> Run | LeftOut:
    view = read_run(path)
    if view.status != "finished":
        return LeftOut(path.name, "not started yet" if not path.exists() else f"it is {view.status}")
    if view.kind != "align":
        return LeftOut(path.name, f"of kind {view.kind}; only alignments have evaluations to compare")
    evaluations = tuple(one for one in read_evaluations(path) if one.rows is not None and one.texts)
    if not evaluations:
        return LeftOut(path.name, "it has no evaluations.jsonl that can be read; runs of earlier versions have none")
    end, recipe = summary(path), dict(flat(recipe_values(path)))
    return Run(
        name=path.name,
        arm=arm,
        chosen=chosen,
        seed=seed,
        path=path,
        evaluations=evaluations,
        recipe={key: value for key, value in recipe.items() if not key.startswith(_OWN)},
        base=str(recipe.get(f"{_OWN}weights_sha256", "")),
        parameters=_count(end.get("trainable_parameters")),
        adapter_bytes=_count(end.get("adapter_bytes")),
        duration_s=duration_s(path),
    )


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
