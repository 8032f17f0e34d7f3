"""TRL's DPO trainer, given tokenised rows, cached references and a faster answer on CPUs.

Every loss, metric and option is TRL's own; what differs is where its inputs
come from. The names of TRL that this relies on are in ``trl_names``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, TrainerState
from transformers.integrations import TensorBoardCallback
from transformers.trainer import TRAINER_STATE_NAME

from readwrite_edit.align.completion_head import install_completion_head
from readwrite_edit.align.reference import Progress, ReferenceStore, reference_key, score_rows
from readwrite_edit.align.trl_names import REFERENCE_COLUMNS, DPOConfig, DPOTrainer, FusedCausalLMOutput
from readwrite_edit.errors import RunError
from readwrite_edit.evaluate.metrics import row_means
from readwrite_edit.evaluate.records import RowScores, row_id
from readwrite_edit.models.pathways import unwrap
from readwrite_edit.recipe import Recipe, dpo_arguments


class NonFiniteError(RunError):
    """Training met NaN or infinity; the weights are still those of the step before."""


class PreferenceTrainer(DPOTrainer):
    """DPO on rows that are tokenised already.

    Args:
        model: Bare model.
        args: TRL's configuration.
        train_rows: With ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``.
        held_out_rows: Likewise.
        processing_class: Tokenizer.
        peft_config: Of the adapter to train; None where a subclass trains without one.
        callbacks: As for any trainer.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: DPOConfig,
        *,
        train_rows: Sequence[Mapping[str, Any]],
        held_out_rows: Sequence[Mapping[str, Any]],
        processing_class: PreTrainedTokenizerBase,
        peft_config: LoraConfig | None,
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        self.dpo = args
        self._answers: list[tuple[Tensor, Tensor]] = []
        self.penalty: Callable[[int], Tensor] | None = None
        super().__init__(
            model=model,
            args=args,
            train_dataset=Dataset.from_list([dict(row) for row in train_rows]),
            eval_dataset=Dataset.from_list([dict(row) for row in held_out_rows]),
            processing_class=processing_class,
            peft_config=peft_config,
            callbacks=callbacks,
        )
        if self.accelerator.device.type == "cpu":
            install_completion_head(unwrap(self.policy))

    def _prepare_dataset(self, dataset: Dataset, *_args: Any, **_kwargs: Any) -> Dataset:
        """The rows are tokenised and chosen before the trainer is built."""
        return dataset

    @property
    def policy(self) -> PeftModel:
        """The model with its adapter."""
        return cast(PeftModel, self.model)

    @property
    def _held_out(self) -> Dataset:
        return cast(Dataset, self.eval_dataset)

    @property
    def row_scores(self) -> RowScores:
        """What the last evaluation says of each held-out row, in the order of the rows."""
        chosen, rejected = (torch.cat(column).tolist() for column in zip(*self._answers, strict=True))
        rows = self._held_out.to_list()
        reference = [tuple(row[name] for row in rows) for name in REFERENCE_COLUMNS]
        return RowScores(
            ids=tuple(map(row_id, rows)),
            chosen=tuple(chosen),
            rejected=tuple(rejected),
            reference_chosen=reference[0],
            reference_rejected=reference[1],
        )

    def reference_key_of_held_out(self, more: object) -> str:
        """A key of the held-out rows, of the base and its arithmetic, and of whatever else is named."""
        columns = ("prompt_ids", "chosen_ids", "rejected_ids")
        return reference_key(self._held_out.select_columns(columns).to_list(), **self._context, more=more)

    def use_reference(self, store: ReferenceStore, weights_hash: str, progress: Progress | None = None) -> None:
        """Give both data sets the reference's log-probabilities, from the store where it has them.

        Args:
            store: Where they are kept.
            weights_hash: Of the base model.
            progress: Called with (rows done, rows in all) while they are computed.
        """
        self._context = {
            "weights": weights_hash,
            "dtype": str(self.policy.dtype),
            "autocast": self.accelerator.mixed_precision,
            "device": self.accelerator.device.type,
            "max_length": self.dpo.max_length,
            "truncation": self.dpo.truncation_mode,
            "ld_alpha": self.ld_alpha,
        }
        self.train_dataset = self._with_reference(self.train_dataset, store, self._context, progress)
        self.eval_dataset = self._with_reference(self.eval_dataset, store, self._context, progress)
        self.precompute_ref_logps = True

    def _with_reference(
        self, dataset: Dataset, store: ReferenceStore, context: Mapping[str, Any], progress: Progress | None
    ) -> Dataset:
        rows = dataset.to_list()
        key = reference_key(rows, **context)
        scores = store.load(key)
        if scores is None:
            batch_size = self.dpo.precompute_ref_batch_size or self.dpo.per_device_eval_batch_size
            chosen, rejected = score_rows(rows, self._score_batch, batch_size=batch_size, progress=progress)
            scores = chosen.float(), rejected.float()
            store.save(key, *scores)
        for name, values in zip(REFERENCE_COLUMNS, scores, strict=True):
            dataset = dataset.add_column(name, values.tolist())
        return dataset

    def _score_batch(self, rows: Sequence[Mapping[str, Any]]) -> tuple[Tensor, Tensor]:
        training = self.policy.training
        self.policy.eval()
        batch = self._prepare_inputs(self.data_collator([dict(row) for row in rows]))
        scores = self.compute_ref_log_probs(self.policy, batch)
        self.policy.train(training)
        return scores

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """One evaluation; ``row_scores`` then holds what was averaged.

        TRL averages over batches, of which the last may be smaller. What is known
        of each row is averaged over the rows instead; the loss is already.
        """
        self._answers.clear()
        output = super().evaluation_loop(*args, **kwargs)
        self._metrics["eval"] |= {name: [mean] for name, mean in row_means(self.row_scores, beta=self.beta).items()}
        return output

    def prediction_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """One batch of an evaluation, whose log-probabilities are kept as they pass."""
        passed: list[FusedCausalLMOutput] = []
        handle = model.register_forward_hook(lambda _module, _inputs, output: passed.append(output))
        try:
            result = super().prediction_step(model, inputs, *args, **kwargs)
        finally:
            handle.remove()
        sums = answer_log_probs(cast(Tensor, passed[0].log_probs), inputs["completion_mask"], self.ld_alpha)
        chosen, rejected = sums.double().cpu().chunk(2)
        self._answers.append((chosen, rejected))
        return result

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """TRL's loss, and in training the penalty on top; ``penalty`` in the metrics says how much of it that is."""
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        if self.penalty is None or not model.training:
            return loss
        more = self.penalty(self.state.global_step)
        self._metrics["train"]["penalty"].append(float(more.detach()))
        return loss + more

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """One forward and backward pass; refuses to go on from a loss that is not finite."""
        loss = super().training_step(model, inputs, *args, **kwargs)
        if not bool(torch.isfinite(loss)):
            raise NonFiniteError(
                f"the loss is {float(loss)} at step {self.state.global_step + 1}; lower the learning rate"
            )
        return loss


def answer_log_probs(log_probs: Tensor, completion_mask: Tensor, ld_alpha: float | None) -> Tensor:
    """Log-probabilities of whole answers from those of their tokens, as TRL's loss sums them.

    Args:
        log_probs: Of each next token, zero outside the answers, shape (2 · rows, time − 1): chosen, then rejected.
        completion_mask: 1 in the answers, shape (2 · rows, time).
        ld_alpha: Weight of tokens beyond the shorter of a row's two answers; None weighs all alike.

    Returns:
        Shape (2 · rows,).

    Source: LD-DPO, arXiv 2409.06411.
    """
    mask = completion_mask[:, 1:].to(log_probs.device)
    log_probs = log_probs[:, -mask.shape[1] :]
    if ld_alpha is None:
        return log_probs.sum(dim=1)
    shared = torch.minimum(*mask.sum(dim=1).chunk(2)).repeat(2)
    beyond = mask.cumsum(dim=1) > shared.unsqueeze(1)
    return (log_probs * torch.where(beyond, ld_alpha, 1.0)).sum(dim=1)


def dpo_configuration(recipe: Recipe, checkpoints: Path, *, on_cpu: bool) -> DPOConfig:
    """TRL's configuration of a recipe's run, with what a run must not leave open."""
    arguments = dpo_arguments(recipe)
    if arguments["save_total_limit"] is not None:
        # the trainer deletes an old checkpoint before the new one is sealed: one more must always remain
        arguments["save_total_limit"] = max(2, arguments["save_total_limit"])
    configuration = DPOConfig(
        output_dir=str(checkpoints),
        disable_tqdm=True,
        logging_nan_inf_filter=False,  # it would hide what the run must stop at
        use_cpu=on_cpu,
        **arguments,
    )
    configuration._n_gpu = min(configuration.n_gpu, 1)  # TRL refuses the data parallelism that more would switch on
    return configuration


def log_into(trainer: PreferenceTrainer, folder: Path) -> None:
    """Let TensorBoard's files, where they are asked for, lie in a folder and not in the current one.

    transformers takes the run's folder only once training begins, and the evaluation before it has opened a file.
    """
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback):
            callback.logging_dir = str(folder)


def keep_full_precision(trainer: PreferenceTrainer) -> None:
    """Undo TRL's cast of LoRA weights on a quantised base: stock PEFT loads them in float32."""
    for name, parameter in trainer.policy.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.float()


def trained_to_the_end(trainer: PreferenceTrainer, checkpoint: Path) -> bool:
    """Whether a checkpoint is of the last step; its adapter is then loaded, and no step is left to take."""
    state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
    if state.global_step < state.max_steps:
        return False
    trainer._load_from_checkpoint(str(checkpoint))
    trainer.state = state
    return True
