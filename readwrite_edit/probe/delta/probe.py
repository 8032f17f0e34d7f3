"""The delta probe: where a checkpoint differs from another, in what it reads and in what it writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from readwrite_edit.errors import ModelError
from readwrite_edit.job.result import Result
from readwrite_edit.job.session import Session
from readwrite_edit.probe.checkpoint import Checkpoint, base_of, resolve_checkpoint
from readwrite_edit.probe.delta.comparison import Comparison, compare, foreign_base, step_dtype
from readwrite_edit.probe.delta.dense import DenseOptions
from readwrite_edit.probe.delta.reference import check_given_files, foreign_statistics, prepare_reference
from readwrite_edit.probe.delta.tables import curves_table, geometry_table, heads_table, tensors_table
from readwrite_edit.probe.delta.verdict import verdict_of
from readwrite_edit.probe.settings.delta import DeltaSettings
from readwrite_edit.terminal import printable

Row = dict[str, Any]
_FEW = 4


def probe_delta(base: str, tuned: str | None = None, **options: Any) -> Result:
    """Geometry of the difference of two checkpoints.

    Args:
        base: Hub id (``owner/name@revision``), folder, .gguf file or ``bundled:NAME``; or a run or an adapter alone.
        tuned: The same, or an adapter or a run on ``base``.
        **options: Fields of ``DeltaSettings``.

    Returns:
        Tables ``geometry`` (one row a layer × matrix), ``curves``, ``heads`` and ``tensors``, and the verdict.

    Raises:
        ReadWriteEditError: Wrong input; the message says what and what to do.

    Source: arXiv 2605.16600; the definitions of k, centring and normalisation are this project's.
    """
    settings: DeltaSettings = DeltaSettings.checked({"base": base, "tuned": tuned, **options})
    return prepare(settings)(Session())


def prepare(settings: DeltaSettings) -> Callable[[Session], Result]:
    """Open and match the checkpoints, the statistics and the texts; returns what measures."""
    check_given_files(settings)
    base, tuned = checkpoints(settings)
    comparison = compare(base, tuned, modules=settings.modules, layers=settings.layers, unrelated=settings.unrelated)
    reference = prepare_reference(settings, comparison)
    inputs = input_files(settings, comparison.model, base, tuned)
    doubts = [*foreign_statistics(settings, comparison.model), *foreign_base(base, tuned)]
    d_head = comparison.anatomy.pathways.d_head

    def measure(session: Session) -> Result:
        check_same_input(session, inputs)
        for doubt in doubts:
            session.say(doubt)
        subspaces = reference(session)
        options = DenseOptions(settings.k, step_dtype(settings.step_dtype), settings.spectra, d_head)
        tensors = {row["name"]: row for row in session.recorded("tensors")}
        geometry = {_key(row): row for row in session.recorded_geometry()}
        done = frozenset(tensors)
        # the reading thread ends before the files are closed under it
        with closing(comparison), closing(comparison.measure(subspaces, options, done)) as results:
            for found in results:
                session.log_geometry(0, found.geometry)
                session.append("tensors", [found.tensor])
                geometry |= {_key(row): row for row in found.geometry}
                tensors[found.name] = found.tensor
                session.advance(len(tensors), comparison.count, "tensor")
        return _result(list(geometry.values()), list(tensors.values()), comparison, doubts)

    return measure


def checkpoints(settings: DeltaSettings) -> tuple[Checkpoint, Checkpoint]:
    """Base and tuned checkpoint; a run or an adapter alone brings its base."""
    base = resolve_checkpoint(settings.base)
    if settings.tuned is not None:
        return base, resolve_checkpoint(settings.tuned)
    if base.kind == "model":
        raise ModelError(f"{settings.base} is a model: name TUNED too (only a run or an adapter stands alone)")
    return base_of(base), base


def check_same_input(session: Session, files: Sequence[Path]) -> None:
    """Note the files that a probe reads; refuse to go on with files that are no longer those.

    Raises:
        ModelError: A file changed since the probe began.
    """
    rows = [{"file": str(p), "bytes": p.stat().st_size, "modified_ns": p.stat().st_mtime_ns} for p in files]
    before = {row["file"]: row for row in session.recorded("inputs")}
    changed = [row["file"] for row in rows if before and before.get(row["file"]) != row]
    if changed:
        raise ModelError(f"{changed[0]} is no longer the file that this probe began with: start a new one")
    if not before:
        session.append("inputs", rows)


def input_files(settings: DeltaSettings, *checkpoints: Checkpoint) -> list[Path]:
    """Weights, statistics and texts; what is built in or kept by its content is no file of the user's."""
    named = (settings.text, settings.frequency, settings.statistics, settings.gradients)
    given = {Path(name).absolute() for name in named if name is not None and Path(name).is_file()}
    return sorted(given.union(*(checkpoint.files for checkpoint in checkpoints)))


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["layer"], row["module"], row["path"]


def _result(geometry: list[Row], tensors: list[Row], comparison: Comparison, doubts: Sequence[str]) -> Result:
    roles = {role: place for place, role in enumerate(comparison.anatomy.pathways.roles)}
    geometry.sort(key=lambda row: (row["layer"], roles[row["module"]]))
    table = geometry_table(geometry)
    tables = {
        "geometry": table,
        "curves": curves_table(geometry),
        "heads": heads_table(geometry),
        "tensors": tensors_table([*tensors, *(misfit.row() for misfit in comparison.misfits)]),
    }
    verdict = verdict_of(table)
    said = (*doubts, *notes(comparison, len(geometry), tensors))
    return Result("geometry", tables, verdict.sentence, verdict.figures, said)


def notes(comparison: Comparison, measured: int, tensors: Sequence[Row]) -> list[str]:
    """What was not measured, and what else changed, in sentences; ``measured`` counts matrices."""
    found = [f"{misfit.name}: {misfit.detail}" for misfit in comparison.misfits]
    bad = [row for row in tensors if row["status"] == "not finite"]
    found += [f"{row['name']}: {row['detail']}; not measured" for row in bad]
    if missing := len(comparison.selected) - measured:
        found.append(f"{missing} of {len(comparison.selected)} matrices were not measured")
    others = [row["name"] for row in tensors if row["status"] == "changed"]
    if others:
        listed = ", ".join(others[:_FEW]) + (", …" if len(others) > _FEW else "")
        found.append(f"{len(others)} tensors changed beside the matrices to measure: {listed}")
    if same := sum(row["status"] == "identical" for row in tensors):
        found.append(f"{same} tensors are identical in both")
    return [printable(sentence) for sentence in found]
