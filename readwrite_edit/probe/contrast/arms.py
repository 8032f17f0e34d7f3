"""One arm of the contrast probe: trained from the start, measured, and put back."""

from __future__ import annotations

import gc
import hashlib
import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from readwrite_edit.durable import whole_folder
from readwrite_edit.models.loading import quiet
from readwrite_edit.models.pathways import Pathways, Projection, weight_of
from readwrite_edit.probe.contrast.trainer import FullParameterTrainer, full_parameter_trainer, release
from readwrite_edit.probe.delta.matrix import DenseSums
from readwrite_edit.probe.delta.rows import geometry_row
from readwrite_edit.probe.delta.subspaces import Side, Subspaces
from readwrite_edit.probe.settings.contrast import ContrastSettings

Row = Mapping[str, Any]
_LARGEST_BATCH = 8
_CURVES = ("read_curve", "write_curve", "read_energy_curve", "write_energy_curve", "heads")


@dataclass(frozen=True)
class Arm:
    """One training of the family (1 − g)·cross-entropy + g·preference loss.

    Attributes:
        grade: g, 0 for cross-entropy alone and 1 for the preference loss alone.
        seed: Of the choice and order of the rows.
    """

    grade: float
    seed: int

    @property
    def name(self) -> str:
        """Of its file and folder, such as ``grade-0.25-seed-0``."""
        return f"grade-{self.grade:g}-seed-{self.seed}"

    def losses(self, preference: str) -> tuple[list[str], list[float]]:
        """TRL's names and weights; a loss of weight 0 is left out."""
        weighted = (("sft", 1 - self.grade), (preference, self.grade))
        names, weights = zip(*(pair for pair in weighted if pair[1] > 0), strict=True)
        return list(names), list(weights)

    def rows(self, rows: Sequence[Row], count: int) -> list[Row]:
        """The rows that it trains on, in their order: the same for every grade."""
        return random.Random(self.seed).sample(rows, min(count, len(rows)))


@dataclass(frozen=True)
class ArmRecord:
    """What is kept of a finished arm.

    Attributes:
        grade: Of the arm.
        seed: Of the arm.
        rows_sha256: Hash of the rows in their order.
        loss: Of each step, before it; every arm's own mixture.
        grad_norm: Of each step.
        held_out: Figures on the held-out rows after the last step.
        norm: ‖Δ‖ over all parameters.
        relative_norm: ‖Δ‖/‖start‖.
        geometry: Rows of the measured matrices.
    """

    grade: float
    seed: int
    rows_sha256: str
    loss: list[float]
    grad_norm: list[float]
    held_out: dict[str, float | None]
    norm: float
    relative_norm: float
    geometry: list[dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """Plain values; numbers that are not finite become None."""
        return asdict(self) | {"grad_norm": [value if math.isfinite(value) else None for value in self.grad_norm]}


class StartWeights:
    """The weights that every arm begins with, and the difference to them.

    Args:
        model: As loaded.
        pathways: Of the model.
        projections: Matrices to measure.
        subspaces: What to measure them against.
        k: Dimension of the subspaces.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        pathways: Pathways,
        projections: Sequence[Projection],
        subspaces: Subspaces,
        k: int,
    ) -> None:
        self.model, self.k, self.d_head = model, k, pathways.d_head
        self.weights = {name: weight.detach().cpu().clone() for name, weight in model.named_parameters()}
        self.matrices = {projection: _matrix(model, projection).clone() for projection in projections}
        self.sides: dict[Projection, tuple[Side | None, Side | None]] = {
            projection: (subspaces.read(projection), subspaces.write(projection)) for projection in projections
        }

    def restore(self) -> None:
        """Give the model its first weights again."""
        for name, weight in self.model.named_parameters():
            weight.data.copy_(self.weights[name])

    def norms(self) -> tuple[float, float]:
        """‖Δ‖ and ‖start‖ over all parameters."""
        delta = start = 0.0
        for name, weight in self.model.named_parameters():
            delta += float(torch.linalg.vector_norm(weight.detach().cpu() - self.weights[name])) ** 2
            start += float(torch.linalg.vector_norm(self.weights[name])) ** 2
        return math.sqrt(delta), math.sqrt(start)

    def geometry(self) -> list[dict[str, Any]]:
        """Rows of the measured matrices, without curves and heads."""
        return [self._row(projection) for projection in self.matrices]

    def _row(self, projection: Projection) -> dict[str, Any]:
        (read, write), start = self.sides[projection], self.matrices[projection]
        sums = DenseSums(projection, read, write, self.d_head, keep=False)
        sums.add(0, start, _matrix(self.model, projection) - start, torch.float32)
        row = geometry_row(projection, sums.energies(None), read, write, self.k)
        return {name: value for name, value in row.items() if name not in _CURVES} | {"step_dtype": "float32"}


class StepWatch(TrainerCallback):
    """Collects losses and gradient norms, and lets the probe know of each step.

    Args:
        on_step: Called with the step and its loss and gradient norm; what it raises ends training.
    """

    def __init__(self, on_step: Callable[[int, Mapping[str, float]], None]) -> None:
        self.on_step = on_step
        self.loss: list[float] = []
        self.grad_norm: list[float] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """One step's line; the lines of evaluations and of the end have no loss."""
        if "loss" in logs:
            self.loss.append(float(logs["loss"]))
            self.grad_norm.append(float(logs["grad_norm"]))
            self.on_step(state.global_step, {"loss": self.loss[-1], "grad_norm": self.grad_norm[-1]})


@dataclass
class ArmTrainer:
    """Trains arms, one after the other, on one model.

    Attributes:
        start: The weights that all begin with; the model is put back to them after each.
        settings: Of the probe.
        tokenizer: Of the model.
        rows: Tokenised training rows that seeds draw from.
        held_out: Tokenised held-out rows.
        weights_hash: Of the start.
        kept: Folder of the models that are kept; None keeps none.
    """

    start: StartWeights
    settings: ContrastSettings
    tokenizer: PreTrainedTokenizerBase
    rows: Sequence[Row]
    held_out: Sequence[Row]
    weights_hash: str
    kept: Path | None = field(default=None)

    def train(self, arm: Arm, on_step: Callable[[int, Mapping[str, float]], None]) -> ArmRecord:
        """Train one arm and measure it.

        Raises:
            NonFiniteError: The loss is not finite.
            Exception: Whatever ``on_step`` raises; nothing is recorded then.
        """
        rows = arm.rows(self.rows, self.settings.steps * self.settings.batch_size)
        watch = StepWatch(on_step)
        try:
            trainer = self._trainer(arm, rows, watch)
            trainer.train()
            held_out = _held_out(trainer)
            del trainer
            return self._record(arm, rows, watch, held_out)
        finally:
            release(self.start.model)
            self.start.restore()
            gc.collect()  # a trainer is full of cycles, and holds gradients and moments of every weight

    def _trainer(self, arm: Arm, rows: Sequence[Row], watch: StepWatch) -> FullParameterTrainer:
        settings = self.settings
        loss_type, loss_weights = arm.losses(settings.loss)
        return full_parameter_trainer(
            self.start.model,
            self.tokenizer,
            rows,
            held_out_rows=self.held_out,
            loss_type=loss_type,
            loss_weights=loss_weights,
            steps=settings.steps,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            optimizer=settings.optimizer,
            max_length=settings.max_length,
            beta=settings.beta,
            per_device_eval_batch_size=_LARGEST_BATCH,
            weights_hash=self.weights_hash,
            callbacks=[watch],
        )

    def _record(self, arm: Arm, rows: Sequence[Row], watch: StepWatch, held_out: dict[str, float | None]) -> ArmRecord:
        if self.kept is not None and self.settings.keeps(arm.grade, arm.seed):
            _save(self.start.model, self.tokenizer, self.kept / arm.name)
        norm, start_norm = self.start.norms()
        return ArmRecord(
            grade=arm.grade,
            seed=arm.seed,
            rows_sha256=hashlib.sha256(json.dumps([dict(row) for row in rows]).encode()).hexdigest(),
            loss=watch.loss,
            grad_norm=watch.grad_norm,
            held_out=held_out,
            norm=norm,
            relative_norm=norm / start_norm,
            geometry=self.start.geometry(),
        )


def _held_out(trainer: FullParameterTrainer) -> dict[str, float | None]:
    """What the arm learned, in nats: rewards are β times the change of a log-probability since the start."""
    found = trainer.evaluate()
    beta = trainer.beta
    figures = {
        "loss": found["eval_loss"],
        "chosen": found["eval_rewards/chosen"] / beta,
        "margin": found["eval_rewards/margins"] / beta,
        "accuracy": found["eval_rewards/accuracies"],
    }
    return {name: float(value) if math.isfinite(value) else None for name, value in figures.items()}


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    with quiet(), whole_folder(folder) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)


def _matrix(model: PreTrainedModel, projection: Projection) -> Tensor:
    return weight_of(model, projection).float().cpu().contiguous()
