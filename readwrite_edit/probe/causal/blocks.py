"""The causal probe's measurements, block by block; a killed probe keeps the blocks that it finished."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from readwrite_edit.durable import write_json
from readwrite_edit.job.session import Session
from readwrite_edit.probe.causal.effects import EffectMeter, Effects
from readwrite_edit.probe.causal.plan import BLOCKS, Matrix, Trial, trials_of
from readwrite_edit.probe.causal.tables import Outcome
from readwrite_edit.probe.settings.causal import CausalSettings


@dataclass(frozen=True)
class Blocks:
    """Measured blocks in the run folder; without one nothing is kept."""

    folder: Path | None
    weights: str

    def load(self, name: str, count: int) -> Effects | None:
        """Effects of a block that an earlier segment measured whole, with the same weights and number of edits."""
        try:
            kept = json.loads(self._path(name).read_text(encoding="utf-8")) if self.folder else {}
        except (OSError, ValueError):
            return None
        if kept.get("weights") != self.weights or len(kept["kl"]) != count:
            return None
        return Effects(_numbers(kept["kl"]), _numbers(kept["target_change"]))

    def save(self, name: str, effects: Effects) -> None:
        """Keep a block, whole or not at all."""
        if self.folder is None:
            return
        values = {field: _plain(tensor) for field, tensor in effects._asdict().items()}
        write_json(self._path(name), {"weights": self.weights, **values})

    def _path(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / "blocks" / f"{name}.json"


def _plain(values: Tensor) -> list[list[float | None]]:
    return [[value if math.isfinite(value) else None for value in row] for row in values.tolist()]


def _numbers(rows: list[list[float | None]]) -> Tensor:
    return torch.tensor([[math.nan if value is None else value for value in row] for row in rows], dtype=torch.float64)


def measured_outcomes(
    meter: EffectMeter, matrices: Sequence[Matrix], settings: CausalSettings, blocks: Blocks, session: Session
) -> list[Outcome]:
    """Measure every block that has not been measured, with progress over all edits."""
    plan = [(matrix, block, trials_of(matrix, block, settings)) for matrix in matrices for block in BLOCKS]
    total, done = sum(len(trials) for *_, trials in plan), 0
    outcomes: list[Outcome] = []
    for matrix, block, trials in plan:
        name = f"{matrix.name}-{block}"
        effects = blocks.load(name, len(trials))
        if effects is None:
            parts = []
            for part in _batches(trials, settings.edits):
                parts.append(meter.measure([trial.edit for trial in part]))
                session.advance(done + sum(len(found.kl) for found in parts), total, unit="edit")
            effects = Effects(*map(torch.cat, zip(*parts, strict=True)))
            blocks.save(name, effects)
        done += len(trials)
        outcomes += _outcomes(meter, matrix, trials, effects)
    return outcomes


def _batches(trials: Sequence[Trial], size: int) -> Iterator[list[Trial]]:
    """Trials in their order, no more than ``size`` and one matrix at a time."""
    for _, same in groupby(trials, key=lambda trial: trial.edit.projection):
        members = list(same)
        yield from (members[start : start + size] for start in range(0, len(members), size))


def _outcomes(meter: EffectMeter, matrix: Matrix, trials: Sequence[Trial], effects: Effects) -> Iterator[Outcome]:
    kl, change = effects.kl.numpy(), effects.target_change.numpy()
    energies: list[float] = []
    for projection, same in groupby(trials, key=lambda trial: trial.edit.projection):
        edits = [trial.edit for trial in same]
        unit = meter.input_energy(projection, torch.stack([edit.reads for edit in edits]))
        energies += [edit.epsilon**2 * float(value) for edit, value in zip(edits, unit, strict=True)]
    for index, trial in enumerate(trials):
        yield Outcome(matrix, trial, np.asarray(kl[index]), np.asarray(change[index]), energies[index])
