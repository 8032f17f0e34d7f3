"""The trajectory probe: deltas of a training's checkpoints, to the first and to the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from readwrite_edit.job.result import Result
from readwrite_edit.job.session import Session
from readwrite_edit.models.architectures import ROLES
from readwrite_edit.probe.checkpoint import Checkpoint, base_of, parse_model
from readwrite_edit.probe.delta.comparison import Comparison, compare, step_dtype
from readwrite_edit.probe.delta.dense import DenseOptions
from readwrite_edit.probe.delta.probe import check_same_input, notes
from readwrite_edit.probe.delta.reference import Reference, prepare_reference
from readwrite_edit.probe.delta.subspaces import Subspaces
from readwrite_edit.probe.delta.tables import NESTED
from readwrite_edit.probe.settings.trajectory import TrajectorySettings
from readwrite_edit.probe.trajectory.checkpoints import Entry, list_checkpoints
from readwrite_edit.probe.trajectory.downloads import Downloads
from readwrite_edit.probe.trajectory.tables import trajectory_result

FIRST, PREVIOUS = "first", "previous"
_RECORDS = "deltas"


@dataclass(frozen=True)
class Step:
    """One delta to measure: positions in the list of checkpoints."""

    before: int
    after: int
    against: str


def probe_trajectory(checkpoints: Sequence[str], **options: Any) -> Result:
    """Geometry of the deltas between the checkpoints of one training.

    Args:
        checkpoints: In the order of training; see ``readwrite-edit probe trajectory --help``.
        **options: Fields of ``TrajectorySettings``.

    Returns:
        Tables ``trajectory`` (one row a step, reference and module) and ``geometry`` (one a matrix).

    Raises:
        ReadWriteEditError: Wrong input; the message says what and what to do.
    """
    return prepare(TrajectorySettings.checked({"checkpoints": list(checkpoints), **options}))(Session())


def prepare(settings: TrajectorySettings) -> Callable[[Session], Result]:
    """List the checkpoints, open those that are here, and get the subspaces ready; returns what measures.

    Of the Hub's only the one that the subspaces are of is downloaded now.

    Raises:
        ReadWriteEditError: A checkpoint is missing, damaged or of another model, or a text or statistics are.
    """
    entries, left_out = list_checkpoints(settings.checkpoints)
    downloads = Downloads()
    for entry in entries:
        if not entry.is_local:
            parse_model(entry.place)
    here = [downloads.fetch(entry) for entry in entries if entry.is_local]
    place = -1 if settings.basis == "last" else 0
    reference = _reference(settings, downloads.fetch(entries[place]))

    def measure(session: Session) -> Result:
        check_same_input(session, sorted({file for checkpoint in here for file in checkpoint.files}))
        for note in left_out:
            session.say(note)
        return _Trajectory(settings, entries, downloads, reference(session), session).result(left_out)

    return measure


def _reference(settings: TrajectorySettings, checkpoint: Checkpoint) -> Reference:
    """Subspaces of a model, or of the base of an adapter."""
    model = checkpoint if checkpoint.kind == "model" else base_of(checkpoint)
    comparison = compare(model, model, modules=settings.modules, layers=settings.layers, unrelated=True)
    reference = prepare_reference(settings.as_delta(), comparison)

    def subspaces(session: Session) -> Subspaces:
        try:
            return reference(session)
        finally:
            comparison.close()

    return subspaces


def steps_to_take(count: int, against: str) -> list[Step]:
    """Deltas in the order in which checkpoints come; the second one's to the first is also that to the one before.

    Args:
        count: Checkpoints.
        against: ``both``, ``first`` or ``previous``.
    """
    steps = []
    for after in range(1, count):
        if against in ("both", FIRST) or after == 1:
            steps.append(Step(0, after, FIRST))
        if against in ("both", PREVIOUS) and after > 1:
            steps.append(Step(after - 1, after, PREVIOUS))
    return steps


class _Trajectory:
    """One process's share of the measuring; what is recorded already is not measured again."""

    def __init__(
        self,
        settings: TrajectorySettings,
        entries: Sequence[Entry],
        downloads: Downloads,
        subspaces: Subspaces,
        session: Session,
    ) -> None:
        self.settings, self.entries, self.downloads = settings, entries, downloads
        self.subspaces, self.session = subspaces, session
        self.steps = steps_to_take(len(entries), settings.against)
        self.records = {(row["before"], row["after"]): row for row in session.recorded(_RECORDS)}

    def result(self, left_out: Sequence[str]) -> Result:
        """Measure what is missing, and make the tables of all."""
        for done, step in enumerate(self.steps):
            self._take(step, done)
            self.session.advance(done + 1, len(self.steps), "delta")
        if self.settings.discard:
            self.downloads.discard_all()
        rows = list(self._rows())
        said = [note for record in self.records.values() for note in record["notes"]]
        return trajectory_result(rows, [*left_out, *dict.fromkeys(said)], self.entries)

    def _take(self, step: Step, done: int) -> None:
        key = step.before, step.after
        if key not in self.records:
            self.records[key] = self._measured(step, done)
            self.session.append(_RECORDS, [self.records[key]])
        if step.against == FIRST or self.settings.against == PREVIOUS:
            self.session.log_geometry(self.entries[step.after].step, self.records[key]["rows"])
        if self.settings.discard and step == self._last_with(step.before):
            self._discard(step.before)

    def _measured(self, step: Step, done: int) -> dict[str, Any]:
        before, after = (self.downloads.fetch(self.entries[place]) for place in (step.before, step.after))
        self.session.say(f"{after.name} against {before.name}")
        # the weights of a pretraining move far from its first checkpoint: an unlike direction is no mistake here
        comparison = compare(before, after, modules=self.settings.modules, layers=self.settings.layers, unrelated=True)
        try:
            return {"before": step.before, "after": step.after, **self._rows_of(comparison, done)}
        finally:
            comparison.close()

    def _rows_of(self, comparison: Comparison, done: int) -> dict[str, Any]:
        settings = self.settings
        d_head = comparison.anatomy.pathways.d_head
        options = DenseOptions(settings.k, step_dtype(settings.step_dtype), settings.spectra, d_head)
        rows, tensors = [], []
        with closing(comparison.measure(self.subspaces, options)) as results:
            for found in results:
                rows += [{name: value for name, value in row.items() if name not in NESTED} for row in found.geometry]
                tensors.append(found.tensor)
                self.session.advance(done, len(self.steps), "delta")
        rows.sort(key=lambda row: (row["layer"], ROLES.index(row["module"])))
        identical = f"{sum(tensor['status'] == 'identical' for tensor in tensors)} tensors are identical in both"
        said = [note for note in notes(comparison, len(rows), tensors) if note != identical]
        return {"rows": rows, "notes": said}

    def _rows(self) -> Iterator[dict[str, Any]]:
        """Geometry rows with their step and reference; the second checkpoint's stand under both references."""
        wanted = {"both": (FIRST, PREVIOUS)}.get(self.settings.against, (self.settings.against,))
        for step in self.steps:
            entry = self.entries[step.after]
            for against in wanted if step.after == 1 else (step.against,):
                place = {"step": entry.step, "checkpoint": entry.name, "against": against}
                yield from (place | row for row in self.records[step.before, step.after]["rows"])

    def _last_with(self, place: int) -> Step:
        return [step for step in self.steps if place in (step.before, step.after)][-1]

    def _discard(self, place: int) -> None:
        """Drop what no delta that is still to come needs; the last checkpoint goes at the end."""
        if not self.entries[place].is_local:
            self.downloads.discard(self.entries[place])
