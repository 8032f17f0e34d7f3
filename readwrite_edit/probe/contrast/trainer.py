"""TRL's DPO trainer with every parameter of the model trained, and the start policy as its reference."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from transformers.trainer_callback import PrinterCallback

from readwrite_edit.align.reference import ReferenceStore
from readwrite_edit.align.trainer import PreferenceTrainer
from readwrite_edit.align.trl_names import DPOConfig
from readwrite_edit.cache import cache_folder

OPTIMIZERS: Mapping[str, str] = {"adamw": "adamw_torch_fused", "sgd": "sgd"}


class FullParameterTrainer(PreferenceTrainer):
    """Stock TRL losses on a bare model; use ``full_parameter_trainer``, which readies the reference."""

    def _precompute_ref_logps(self, dataset: Dataset, *_args: Any, **_kwargs: Any) -> Dataset:
        """Left to ``use_reference``, which keeps what it computes and batches rows of like length.

        The option that leads here is on all the same: without it TRL would load
        a second model by the policy's path and take that for the reference.
        """
        return dataset


def full_parameter_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Mapping[str, Any]],
    *,
    held_out_rows: Sequence[Mapping[str, Any]] = (),
    loss_type: Sequence[str] = ("sigmoid",),
    loss_weights: Sequence[float] | None = None,
    steps: int = 1,
    batch_size: int = 4,
    learning_rate: float = 1e-5,
    optimizer: str = "adamw",
    max_length: int | None = 256,
    weights_hash: str,
    store: ReferenceStore | None = None,
    callbacks: list[TrainerCallback] | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> FullParameterTrainer:
    """A trainer whose reference is the model as it is now; nothing of it stays on the disk.

    Rows are taken in their order, again from the first where there are fewer
    than the steps need; gradients are not clipped, the learning rate is
    constant, dropout is off. On a CPU only completions go through the head.

    Args:
        model: Bare model; all its parameters will be trained.
        tokenizer: Of the model.
        rows: Tokenised rows, see ``tokenise_pairs``.
        held_out_rows: Likewise, for ``evaluate``.
        loss_type: TRL's names; ``sft`` is the negative log-likelihood of the chosen answer.
        loss_weights: One a loss; 1 each by default.
        steps: Optimiser steps.
        batch_size: Pairs in a batch.
        learning_rate: Of every step.
        optimizer: ``adamw`` (no weight decay) or ``sgd`` (no momentum).
        max_length: Longest sequence in tokens; the collator cuts the rest.
        weights_hash: Of the model, under which its log-probabilities are kept.
        store: Where they are kept; the cache by default.
        callbacks: As for any trainer.
        progress: Called with (rows done, rows in all) while the reference is computed.
        **options: Further options of ``trl.DPOConfig``, such as ``beta``.

    Returns:
        The trainer, with the reference's log-probabilities beside every row.
    """
    arguments = {
        **_quiet(on_cpu=model.device.type == "cpu"),
        "loss_type": list(loss_type),
        "loss_weights": None if loss_weights is None else list(loss_weights),
        "max_steps": steps,
        "per_device_train_batch_size": batch_size,
        "per_device_eval_batch_size": batch_size,
        "learning_rate": learning_rate,
        "optim": OPTIMIZERS[optimizer],
        "max_length": max_length,
        **options,
    }
    model.requires_grad_(True)
    with tempfile.TemporaryDirectory() as folder:  # the trainer makes its folder, and then writes nothing there
        configuration = DPOConfig(output_dir=folder, **arguments)
        configuration._n_gpu = min(configuration.n_gpu, 1)  # TRL refuses the data parallelism of more
        trainer = FullParameterTrainer(
            model,
            configuration,
            train_rows=rows,
            held_out_rows=held_out_rows,
            processing_class=tokenizer,
            peft_config=None,
            callbacks=callbacks,
        )
    trainer.remove_callback(PrinterCallback)
    trainer.use_reference(store or ReferenceStore(cache_folder() / "reference"), weights_hash, progress)
    return trainer


def release(model: PreTrainedModel) -> PreTrainedModel:
    """Take a trainer's traces off a model: its answer to TRL's call and its gradients.

    Returns:
        The model, in eval mode.
    """
    model.__dict__.pop("forward", None)
    model.zero_grad(set_to_none=True)
    return model.requires_grad_(False).eval()


def _quiet(*, on_cpu: bool) -> dict[str, Any]:
    """Options under which nothing is saved, printed or left to TRL's own defaults."""
    return {
        "use_cpu": on_cpu,
        "dataloader_pin_memory": not on_cpu,
        "precompute_ref_log_probs": True,
        "train_sampling_strategy": "sequential",
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "max_grad_norm": 0.0,
        "bf16": False,
        "gradient_checkpointing": False,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "eval_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
