"""The runs of a comparison, by arm: what differs between arms is compared, what differs within one is its seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from readwrite_edit.evaluate.records import Evaluation, Found, find_evaluations
from readwrite_edit.runs.comparison import flat, recipe_values
from readwrite_edit.runs.folder import FolderError
from readwrite_edit.runs.reader import RunView, read_run, summary
from readwrite_edit.sweep.clashes import SEED_KEYS
from readwrite_edit.sweep.progress import duration_s
from readwrite_edit.sweep.record import SweepRecord, read_record, record_path
from readwrite_edit.terminal import counted

_OWN = "provenance."
_MOST_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run with its evaluations.

    Attributes:
        name: Of its folder.
        arm: That it belongs to.
        chosen: Its value on the axis that is chosen on; empty without such an axis.
        seed: Of its order of rows.
        path: Its folder.
        sweep: Folder of the sweep that it was named by; None of a run that was named itself.
        evaluations: By step; at least one.
        recipe: Dotted key to plain value, without provenance.
        base: Hash of the base's weights; empty where the recipe does not say.
        data: Hash of the preference rows as they were read; empty likewise.
        parameters: Trained ones; None where its end table does not say.
        adapter_bytes: Of the adapter's file; None likewise.
        duration_s: From start to end; None where it was resumed.
    """

    name: str
    arm: str
    chosen: str
    seed: int
    path: Path
    sweep: Path | None
    evaluations: tuple[Evaluation, ...]
    recipe: Mapping[str, Any]
    base: str
    data: str
    parameters: int | None
    adapter_bytes: int | None
    duration_s: float | None


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A run that can not be compared.

    Attributes:
        name: Of its folder.
        reason: Why.
        arm: That it was planned for; empty of a run that was named itself.
        chosen: Its value on the axis that is chosen on; empty without such an axis.
        seed: That it was planned with.
        sweep: Folder of the sweep that it was named by; None of a run that was named itself.
        twice: Whether another run that is compared stands for it: nothing is missing then.
    """

    name: str
    reason: str
    arm: str = ""
    chosen: str = ""
    seed: int = 0
    sweep: Path | None = None
    twice: bool = False


def collect(paths: Sequence[Path]) -> tuple[list[Run], list[LeftOut]]:
    """The runs that users name: each a run, or the folder of a sweep.

    Raises:
        FolderError: A path is neither, or none of the runs can be compared.
    """
    found: list[Run | LeftOut] = []
    alone: list[Path] = []
    for path in {path.resolve(): path for path in paths}.values():
        record = read_record(path)
        if record is None:
            alone.append(path)
        else:
            found += sweep_runs(path, record)
    runs, left_out = _once(_apart([*found, *_grouped(alone)]))
    if not runs:
        why = f": {left_out[0].name}: {left_out[0].reason}" if left_out else ": no run of the sweep has begun"
        more = f" (and {counted(len(left_out) - 1, 'more run')})" if len(left_out) > 1 else ""
        raise FolderError(f"nothing to compare{why}{more}")
    return runs, left_out


def sweep_runs(folder: Path, record: SweepRecord) -> list[Run | LeftOut]:
    """The runs of a sweep's folder."""
    found = [_load(folder / one.name, one.arm, one.chosen, one.seed) for one in record.runs.values()]
    return [replace(one, sweep=folder) for one in found]


def _grouped(paths: Sequence[Path]) -> list[Run | LeftOut]:
    """Single runs: those whose recipes differ by seeds alone are one arm, named after the first of them."""
    found: list[Run | LeftOut] = []
    arms: dict[str, str] = {}
    for path in paths:
        view = read_run(path)
        if view.status == "broken":
            no_sweep = f"no sweep: it has no {record_path(path).name}"
            raise FolderError(f"{path}: {view.reason}, and {no_sweep}; name the folder of a run or of a sweep")
        one = _load(path, "", "", 0)
        if isinstance(one, Run):
            recipe = sorted((key, value) for key, value in one.recipe.items() if key not in SEED_KEYS)
            same = repr((one.base, one.data, recipe))
            name = str(path) if one.name in arms.values() else one.name
            seed = one.recipe.get(SEED_KEYS[0])
            one = replace(one, arm=arms.setdefault(same, name), seed=_count(seed) or 0)
        found.append(one)
    return found


def _apart(found: Sequence[Run | LeftOut]) -> list[Run | LeftOut]:
    """Arms of one name from different places are different arms: the path of the place tells them apart."""
    places: dict[str, set[Path | None]] = {}
    for one in found:
        if isinstance(one, Run):
            places.setdefault(one.arm, set()).add(one.sweep)
    return [
        replace(one, arm=f"{one.sweep}/{one.arm}")
        if one.sweep is not None and len(places.get(one.arm, ())) > 1
        else one
        for one in found
    ]


def _once(found: Sequence[Run | LeftOut]) -> tuple[list[Run], list[LeftOut]]:
    """The runs, and those that are left out: of an arm, a value and a seed the first one is kept."""
    kept: dict[tuple[str, str, int], Run] = {}
    left_out = []
    for one in found:
        if isinstance(one, LeftOut):
            left_out.append(one)
            continue
        first = kept.setdefault((one.arm, one.chosen, one.seed), one)
        if first is not one:
            reason = f"it has the arm and the seed of {first.path}"
            left_out.append(LeftOut(name=one.name, reason=reason, twice=True))
    return list(kept.values()), left_out


def _name_of(path: Path) -> str:
    return path.resolve().name


def _load(path: Path, arm: str, chosen: str, seed: int) -> Run | LeftOut:
    evaluations, why = _usable(path)
    if why:
        return LeftOut(name=_name_of(path), reason=why, arm=arm, chosen=chosen, seed=seed)
    end, recipe = summary(path), dict(flat(recipe_values(path)))
    return Run(
        name=_name_of(path),
        arm=arm,
        chosen=chosen,
        seed=seed,
        path=path,
        sweep=None,
        evaluations=tuple(evaluations),
        recipe={key: value for key, value in recipe.items() if not key.startswith(_OWN)},
        base=str(recipe.get(f"{_OWN}weights_sha256", "")),
        data=str(recipe.get(f"{_OWN}data_sha256", "")),
        parameters=_count(end.get("trainable_parameters")),
        adapter_bytes=_count(end.get("adapter_bytes")),
        duration_s=duration_s(path),
    )


def _usable(path: Path) -> tuple[list[Evaluation], str]:
    """All evaluations of a run, and why it can not be compared; empty where it can."""
    view = read_run(path)
    if view.status != "finished":
        return [], _unfinished(path, view)
    if view.kind != "align":
        return [], f"of kind {view.kind}; only alignments have evaluations to compare"
    found = find_evaluations(path)
    return found.evaluations, _unusable(found)


def _unusable(found: Found) -> str:
    """Why evaluations can not be compared; a path without the damaged ones would give other figures."""
    if found.damaged:
        return f"its evaluations.jsonl is damaged: {found.damage(_MOST_NAMED)}"
    if not found.evaluations:
        return "it has no evaluations.jsonl with evaluations; runs of earlier versions have none"
    if any(one.rows is None or not one.texts for one in found.evaluations):
        return "it was evaluated without held-out rows, or without texts"
    if len({_material(one) for one in found.evaluations}) > 1:
        return "its evaluations are not of one set of rows and texts: the file was changed"
    return ""


def _unfinished(path: Path, view: RunView) -> str:
    """Why a run has no end to compare."""
    if not path.exists() or view.status == "queued":
        return "not started yet"
    words = {"failed": "it failed", "stopped": f"it was stopped at step {view.step}", "broken": "it can not be read"}
    said = words.get(view.status, f"it is {view.status}")
    return f"{said}: {view.reason}" if view.reason else said


def _material(one: Evaluation) -> tuple[object, ...]:
    """What an evaluation was made on, and with which β."""
    rows = one.rows.ids if one.rows is not None else ()
    return one.beta, rows, tuple((name, text.ids, text.positions) for name, text in sorted(one.texts.items()))


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
