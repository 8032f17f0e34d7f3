"""The align job: from a recipe to a certified adapter in a run folder."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, set_seed
from transformers.trainer_callback import PrinterCallback

from readwrite_edit.adapter import Target, adapter_config, choose_targets, install_adapter
from readwrite_edit.adapter.targets import stacked_weights
from readwrite_edit.align.bases import basis_choice, captured_energy, save_bases, with_saved_bases
from readwrite_edit.align.beginning import check_resumable, check_unchanged, load_base, provenance_of
from readwrite_edit.align.checkpoints import checkpoint_step, latest_checkpoint
from readwrite_edit.align.evaluations import EvaluationRecorder, before_training
from readwrite_edit.align.finish import finish_run, read_before
from readwrite_edit.align.geometry_log import GeometryLog
from readwrite_edit.align.gradients import starting_gradients
from readwrite_edit.align.measure import measure
from readwrite_edit.align.penalty import penalty
from readwrite_edit.align.prepare import Preparation, prepare, shared_with_training
from readwrite_edit.align.recorder import RunRecorder
from readwrite_edit.align.reference import ReferenceStore
from readwrite_edit.align.tokenised import row_length
from readwrite_edit.align.trainer import (
    NonFiniteError,
    PreferenceTrainer,
    dpo_configuration,
    keep_full_precision,
    log_into,
    trained_to_the_end,
)
from readwrite_edit.align.trouble import as_run_error, drop_unfinished
from readwrite_edit.cache import cache_folder
from readwrite_edit.durable import write_json
from readwrite_edit.errors import RunError
from readwrite_edit.models.pathways import weight_of
from readwrite_edit.progress import progress_bar
from readwrite_edit.recipe import Recipe, dump_recipe, load_recipe
from readwrite_edit.runs.console import tee_console
from readwrite_edit.runs.folder import RunFolder, require_unused
from readwrite_edit.runs.signals import Interruption, heeding_signals
from readwrite_edit.runs.writer import RunWriter
from readwrite_edit.statistics import Statistics
from readwrite_edit.terminal import printable


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        folder: The run folder.
        status: ``finished`` or ``stopped``.
        interrupted: Whether a signal, not a stop request, ended it.
        summary: The end table's figures; empty where it was stopped.
    """

    folder: RunFolder
    status: str
    interrupted: bool
    summary: dict[str, Any]


def start_run(recipe: Recipe, name: str, path: Path) -> Outcome:
    """Train an adapter by a recipe in a new run folder.

    Nothing is written where the recipe, the data or the model is wrong.

    Args:
        recipe: What to do.
        name: Of the recipe, for lists.
        path: Run folder, missing or empty.

    Returns:
        How it ended.

    Raises:
        ReadWriteEditError: Wrong input, or the run failed; the folder then says why.
    """
    require_unused(path, f", or go on with --resume {path}")
    with heeding_signals() as interruption:
        prepared = prepare(recipe)
        model, base_hash = load_base(prepared)
        recipe = recipe.model_copy(update={"provenance": provenance_of(recipe, base_hash, prepared.data_hash)})
        writer = RunWriter.start(
            path, recipe_text=dump_recipe(recipe), recipe_name=name, max_steps=max(recipe.train.max_steps, 0) or None
        )
        return _Run(writer, prepared, model, base_hash, interruption).carry_out(None)


def resume_run(path: Path) -> Outcome:
    """Go on with a stopped or killed run from its newest whole checkpoint.

    Args:
        path: Run folder.

    Returns:
        How it ended.

    Raises:
        ReadWriteEditError: It is finished or in use, or its model or data are no longer those it began with.
    """
    folder = RunFolder(path)
    check_resumable(folder)
    recipe = load_recipe(str(folder.recipe))
    with heeding_signals() as interruption:
        prepared = prepare(recipe)
        model, base_hash = load_base(prepared)
        check_unchanged(recipe, base_hash, prepared.data_hash)
        with RunWriter.resume(path) as writer:
            checkpoint, passed_over = latest_checkpoint(folder.checkpoints)
            for sentence in passed_over:
                say(sentence)
            writer.rewind(checkpoint_step(checkpoint) if checkpoint else 0)
            return _Run(writer, prepared, model, base_hash, interruption).carry_out(checkpoint)


def say(sentence: str) -> None:
    """Tell whoever watches the run; the console log keeps it."""
    sys.stderr.write(printable(sentence) + "\n")


class _Run:
    """One process's share of a run: its ingredients, and the stages that use them."""

    def __init__(
        self,
        writer: RunWriter,
        prepared: Preparation,
        model: PreTrainedModel,
        base_hash: str,
        interruption: Interruption,
    ) -> None:
        self.writer, self.folder = writer, writer.folder
        self.prepared, self.recipe = prepared, prepared.recipe
        self.model, self.base_hash = model, base_hash
        self.interruption = interruption

    def carry_out(self, checkpoint: Path | None) -> Outcome:
        """All stages, with the folder's state true at every end."""
        with self.writer, tee_console(self.folder.console):
            try:
                return self._stages(checkpoint)
            except KeyboardInterrupt:
                drop_unfinished(self.folder.checkpoints)
                self.writer.mark("stopped")
                raise
            except Exception as error:
                drop_unfinished(self.folder.checkpoints)  # on a full disk this makes the room to write the state
                known = as_run_error(error, self.folder.path)
                if known is None:
                    raise
                raise known from error

    def _stages(self, checkpoint: Path | None) -> Outcome:
        for note in self.prepared.notes:
            say(note)
        statistics, protected = measure(self.model, self.prepared, self.base_hash, cache_folder() / "statistics", say)
        trainer, targets = self._trainer(statistics, protected)
        geometry = GeometryLog(
            trainer.policy, self.prepared.pathways, targets, statistics, protected, self.recipe.geometry.k
        )
        recorder = RunRecorder(
            self.writer,
            geometry,
            targets,
            every=self.recipe.geometry.every,
            beta=self.recipe.objective.beta,
            interrupted=lambda: self.interruption.asked,
        )
        trainer.add_callback(recorder)
        before = self._before(trainer)
        evaluations = EvaluationRecorder(
            self.writer,
            trainer,
            self.prepared.texts,
            beta=self.recipe.objective.beta,
            price=geometry.mean_price,
            shared=shared_with_training(self.prepared),
        )
        trainer.add_callback(evaluations)
        runtime_s = self._train(trainer, recorder, checkpoint)
        if recorder.stopped:
            self.writer.mark("stopped")
            say(f"stopped at step {trainer.state.global_step}")
            say(f"go on with: readwrite-edit align --resume {self.folder.path}")
            return Outcome(self.folder, "stopped", self.interruption.asked, {})
        summary = finish_run(
            self.folder, self.writer, self.prepared, trainer, targets, self.base_hash, evaluations, before, runtime_s
        )
        return Outcome(self.folder, "finished", False, summary)

    def _trainer(
        self, statistics: Statistics, protected: Statistics | None
    ) -> tuple[PreferenceTrainer, tuple[Target, ...]]:
        """The trainer with the adapter in place, its basis from the run folder where it was chosen before."""
        ranks = choose_targets(statistics, self.prepared.projections, basis_choice(self.recipe, arm="lora"))
        trainer = PreferenceTrainer(
            self.model,
            dpo_configuration(self.recipe, self.folder.checkpoints, on_cpu=self.model.device.type == "cpu"),
            train_rows=self.prepared.train.rows,
            held_out_rows=sorted(self.prepared.held_out.rows, key=row_length),  # less padding in a batch
            processing_class=self.prepared.tokenizer,
            peft_config=adapter_config(self.model, ranks),
        )
        trainer.remove_callback(PrinterCallback)
        log_into(trainer, self.folder.path / "tensorboard")
        with progress_bar("reference log-probabilities", "row") as advance:
            trainer.use_reference(ReferenceStore(cache_folder() / "reference"), self.base_hash, advance)
        keep_full_precision(trainer)
        targets = self._targets(trainer, ranks, statistics, protected)
        install_adapter(trainer.policy, targets)
        trainer.penalty = penalty(self.recipe.penalty, trainer.policy, targets, self.prepared.protect, protected)
        return trainer, targets

    def _targets(
        self,
        trainer: PreferenceTrainer,
        ranks: tuple[Target, ...],
        statistics: Statistics,
        protected: Statistics | None,
    ) -> tuple[Target, ...]:
        if self.folder.basis.is_file():
            return with_saved_bases(ranks, self.folder.basis)
        choice = basis_choice(self.recipe)
        gradients = None
        if choice.arm == "gradient":
            gradients = starting_gradients(trainer, ranks, rows=self.recipe.adapter.gradient_rows)
        targets = choose_targets(
            statistics,
            self.prepared.projections,
            choice,
            protected=protected,
            weights=stacked_weights(lambda projection: weight_of(trainer.policy, projection)),
            gradients=gradients,
            device=self.model.device,
        )
        save_bases(targets, self.folder.basis)
        for line in captured_energy(targets):
            say(line)
        return targets

    def _before(self, trainer: PreferenceTrainer) -> dict[str, float | None]:
        """Held-out figures of the untrained adapter, measured once for a base, its rows and an objective."""
        path = self.folder.path / "before.json"
        if not path.is_file():
            write_json(path, self._known_before(trainer))
        return read_before(path)

    def _known_before(self, trainer: PreferenceTrainer) -> dict[str, float | None]:
        key = trainer.reference_key_of_held_out(["means over rows", self.recipe.objective.model_dump(mode="json")])
        kept = cache_folder() / "before" / f"{key}.json"
        with suppress(OSError, RunError):
            figures = read_before(kept)
            self.writer.log_metrics(0, {name: v for name, v in figures.items() if v is not None}, kind="eval")
            return figures
        figures = before_training(trainer)  # the trainer's callbacks log it
        with suppress(OSError):  # what can not be kept is measured again the next time
            write_json(kept, figures)
        return figures

    def _train(self, trainer: PreferenceTrainer, recorder: RunRecorder, checkpoint: Path | None) -> float:
        if checkpoint and trained_to_the_end(trainer, checkpoint):
            return 0.0
        if checkpoint is None:
            set_seed(self.recipe.train.seed)  # whatever was measured before, training begins alike
        try:
            with self.interruption.patiently():
                result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except NonFiniteError as error:
            kept = self._keep_last_good(trainer, recorder)
            raise RunError(f"{error}; {kept}") from error
        finally:
            recorder.close()
        return float(result.metrics["train_runtime"])

    def _keep_last_good(self, trainer: PreferenceTrainer, recorder: RunRecorder) -> str:
        """Save the state of the last step whose numbers were finite."""
        step = trainer.state.global_step
        if step == 0:
            return "no step was taken"
        trainer._save_checkpoint(trainer.policy, trial=None)
        recorder.on_save(trainer.args, trainer.state, trainer.control)
        return f"the state after step {step} is kept in {self.folder.checkpoints / f'checkpoint-{step}'}"
