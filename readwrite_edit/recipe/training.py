"""The section train of a recipe: the options of ``trl.DPOConfig`` that are the user's, by their names.

TRL is not imported here: its import takes seconds. A test compares names and
types with the installed DPOConfig, so that a new TRL option is noticed.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from readwrite_edit.recipe.section import (
    LARGEST,
    Count,
    Fraction,
    NonNegative,
    OffIsNo,
    OneOrMany,
    Positive,
    Scalar,
    Section,
    Seed,
    Text,
    conflict,
)

Scheduler = Literal[
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
    "reduce_lr_on_plateau",
    "cosine_with_min_lr",
    "cosine_warmup_with_min_lr",
    "warmup_stable_decay",
    "greedy",
]
NEEDS_EVALUATION = ("reduce_lr_on_plateau", "greedy")
Optimizer = Literal[
    "adamw_torch",
    "adamw_torch_fused",
    "adamw_torch_4bit",
    "adamw_torch_8bit",
    "adamw_anyprecision",
    "adamw_8bit",
    "adamw_bnb_8bit",
    "paged_adamw_8bit",
    "paged_adamw_32bit",
    "ademamix",
    "ademamix_8bit",
    "paged_ademamix_8bit",
    "paged_ademamix_32bit",
    "lion_8bit",
    "lion_32bit",
    "paged_lion_8bit",
    "paged_lion_32bit",
    "rmsprop",
    "rmsprop_bnb",
    "rmsprop_bnb_8bit",
    "rmsprop_bnb_32bit",
    "adafactor",
    "adagrad",
    "sgd",
    "grokadamw",
    "stable_adamw",
    "schedule_free_adamw",
    "schedule_free_radam",
    "schedule_free_sgd",
]
Logger = Literal[
    "none",
    "all",
    "tensorboard",
    "wandb",
    "trackio",
    "mlflow",
    "comet_ml",
    "neptune",
    "clearml",
    "codecarbon",
    "dagshub",
    "dvclive",
    "flyte",
    "kubeflow",
    "swanlab",
    "azure_ml",
]
Interval = Annotated[Literal["no", "steps", "epoch"], OffIsNo]


class Train(Section):
    """How long, how fast, on which batches; names and meanings are those of trl.DPOConfig."""

    max_steps: Annotated[int, Field(ge=-1, le=LARGEST)] = Field(
        default=24, description="Optimiser steps; -1 (the default beside num_train_epochs) trains by epochs."
    )
    num_train_epochs: Positive | None = Field(default=None, description="Passes over the data, instead of max_steps.")
    learning_rate: NonNegative = Field(
        default=1e-3, description="Peak learning rate; bases with few directions bear more."
    )
    lr_scheduler_type: Scheduler = Field(default="constant_with_warmup", description="Course of the learning rate.")
    lr_scheduler_kwargs: dict[str, Scalar] | None = Field(
        default=None, description="Further arguments of the scheduler."
    )
    warmup_steps: NonNegative = Field(default=2.0, description="Steps of warm-up; below 1 a share of all steps.")
    optim: Optimizer = Field(default="adamw_torch_fused", description="Optimiser.")
    optim_args: Text | None = Field(default=None, description="Further arguments of the optimiser.")
    weight_decay: NonNegative = Field(default=0.0, description="Weight decay on the trained B.")
    adam_beta1: Fraction = Field(default=0.9, description="β₁ of Adam.")
    adam_beta2: Fraction = Field(default=0.999, description="β₂ of Adam.")
    adam_epsilon: NonNegative = Field(default=1e-8, description="ε of Adam.")
    max_grad_norm: NonNegative = Field(
        default=1.0, description="Gradients are scaled down to this norm; 0 does not clip."
    )
    neftune_noise_alpha: NonNegative | None = Field(
        default=None, description="Strength of NEFTune noise on embeddings."
    )
    router_aux_loss_coef: NonNegative | None = Field(default=None, description="Load-balancing loss of mixture models.")

    per_device_train_batch_size: Count = Field(default=8, description="Pairs per step on the device.")
    gradient_accumulation_steps: Count = Field(default=1, description="Batches per optimiser step.")
    max_length: Annotated[int, Field(ge=2, le=LARGEST)] | None = Field(
        default=512, description="Longest sequence (prompt and answer) in tokens; longer ones are cut, null cuts none."
    )
    pad_to_multiple_of: Count | None = Field(default=None, description="Pad sequences to a multiple of this length.")
    train_sampling_strategy: Literal["random", "sequential"] = Field(
        default="random", description="Order of the training rows."
    )
    seed: Seed = Field(default=0, description="Seed of the order of rows and of everything random in training.")
    data_seed: Seed | None = Field(default=None, description="A seed of its own for the order of rows.")
    full_determinism: bool = Field(default=False, description="Deterministic kernels, slower.")
    dataset_num_proc: Count | None = Field(default=None, description="Processes that prepare the data.")
    dataloader_num_workers: Annotated[int, Field(ge=0, le=1024)] = Field(
        default=0, description="Processes that load batches."
    )
    dataloader_prefetch_factor: Count | None = Field(default=None, description="Batches loaded ahead by each worker.")
    dataloader_drop_last: bool = Field(default=False, description="Leave out the last, smaller batch of an epoch.")
    dataloader_pin_memory: bool = Field(default=True, description="Pin batches in memory for the GPU.")
    dataloader_persistent_workers: bool = Field(default=False, description="Keep loading processes between epochs.")
    dataloader_in_order: bool = Field(default=True, description="Batches come in the order they were asked for.")
    dataloader_multiprocessing_context: Literal["fork", "spawn", "forkserver"] | None = Field(
        default=None, description="How loading processes are started."
    )

    bf16: bool = Field(default=False, description="bfloat16 mixed precision.")
    fp16: bool = Field(default=False, description="float16 mixed precision.")
    tf32: bool | None = Field(default=None, description="TF32 matrix products; null leaves torch's setting.")
    gradient_checkpointing: bool = Field(default=False, description="Recompute activations: less memory, more time.")
    gradient_checkpointing_kwargs: dict[str, Scalar] | None = Field(
        default=None, description="Options of checkpointing."
    )
    activation_offloading: bool = Field(default=False, description="Keep activations in the CPU's memory.")
    torch_compile: bool = Field(default=False, description="Compile the model with torch.compile.")
    torch_compile_backend: Text | None = Field(default=None, description="Backend of torch.compile.")
    torch_compile_mode: Text | None = Field(default=None, description="Mode of torch.compile.")
    torch_empty_cache_steps: Count | None = Field(
        default=None, description="Empty the accelerator's cache every n steps."
    )
    precompute_ref_batch_size: Count | None = Field(
        default=None, description="Batch of the reference's log-probabilities."
    )

    logging_steps: Count = Field(default=1, description="Steps between two lines of metrics.jsonl.")
    logging_first_step: bool = Field(default=False, description="Log the first step too.")
    include_num_input_tokens_seen: Annotated[Literal["all", "non_padding", "no"], OffIsNo] = Field(
        default="no", description="Count the tokens seen."
    )
    skip_memory_metrics: bool = Field(default=True, description="Do not measure memory (measuring is slow).")
    report_to: Annotated[tuple[Logger, ...], OneOrMany()] = Field(
        default=("none",), description="Loggers beside metrics.jsonl: tensorboard, wandb, trackio, …, or none."
    )
    run_name: Text | None = Field(default=None, description="Name of the run in the loggers.")
    project: Text = Field(default="readwrite-edit", description="Project in the loggers that have projects.")
    trackio_space_id: Text | None = Field(default=None, description="Hub Space of trackio.")
    trackio_bucket_id: Text | None = Field(default=None, description="Hub bucket of trackio.")
    trackio_static_space_id: Text | None = Field(default=None, description="Static Hub Space of trackio.")

    per_device_eval_batch_size: Count = Field(default=8, description="Held-out pairs per batch on the device.")
    eval_strategy: Interval = Field(
        default="no", description="Evaluate during training; the default is 'steps' where eval_steps is given."
    )
    eval_steps: Count | None = Field(
        default=None, description="Steps between two evaluations; null: before and after only."
    )
    eval_delay: NonNegative = Field(default=0.0, description="Steps (or epochs) before the first evaluation.")
    eval_on_start: bool = Field(default=False, description="Evaluate through the trainer before the first step.")
    eval_accumulation_steps: Count | None = Field(
        default=None, description="Batches between moves of results to the CPU."
    )
    save_strategy: Interval = Field(default="steps", description="When to write checkpoints.")
    save_steps: Count = Field(default=8, description="Steps between two checkpoints.")
    save_total_limit: Count | None = Field(default=2, description="Checkpoints to keep; null keeps all.")

    @model_validator(mode="before")
    @classmethod
    def _implied(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        implied: dict[str, Any] = {}
        if value.get("eval_steps") is not None:
            implied["eval_strategy"] = "steps"
        if value.get("num_train_epochs") is not None:
            implied["max_steps"] = -1
        return implied | value

    @model_validator(mode="after")
    def _possible(self) -> Self:
        self._check_length()
        self._check_evaluation()
        if self.fp16 and self.bf16:
            raise conflict(["fp16", "bf16"], "bf16 is on too; expected at most one of the two")
        if self.dataloader_prefetch_factor and not self.dataloader_num_workers:
            raise conflict(
                ["dataloader_prefetch_factor", "dataloader_num_workers"], "expected null without dataloader_num_workers"
            )
        if len(self.report_to) > 1 and {"none", "all"} & set(self.report_to):
            raise conflict(["report_to"], "none and all stand alone; expected a list of loggers")
        return self

    def _check_length(self) -> None:
        if self.max_steps > 0 and self.num_train_epochs is not None:
            why = f"max_steps {self.max_steps} is given too and would win; expected max_steps: -1 beside it"
            raise conflict(["num_train_epochs", "max_steps"], why)
        if self.max_steps < 1 and self.num_train_epochs is None:
            raise conflict(["max_steps", "num_train_epochs"], "expected at least 1 step, or num_train_epochs")

    def _check_evaluation(self) -> None:
        if self.lr_scheduler_type in NEEDS_EVALUATION and self.eval_strategy == "no":
            raise conflict(["lr_scheduler_type", "eval_strategy"], "needs evaluations; expected eval_steps beside it")
