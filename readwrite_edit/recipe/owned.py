"""Options of ``trl.DPOConfig`` that a recipe can not set, each with the reason.

Together with the sections train and objective this covers every field of
DPOConfig: a test compares the three with TRL.
"""

from __future__ import annotations

from collections.abc import Iterable


def _because(reason: str, names: str) -> Iterable[tuple[str, str]]:
    return ((name, reason) for name in names.split())


OWNED: dict[str, str] = dict(
    [
        *_because("the run folder is chosen by readwrite-edit align --run-dir", "output_dir"),
        *_because("a stopped run goes on with readwrite-edit align --resume RUN", "resume_from_checkpoint"),
        *_because(
            "a finished run is uploaded by readwrite-edit export RUN --push user/name",
            "push_to_hub hub_token hub_private_repo hub_model_id hub_strategy hub_always_push hub_revision",
        ),
        *_because("always computed once, before training, and cached by content", "precompute_ref_log_probs"),
        *_because(
            "the reference is the base model, computed once and cached, so it can not follow the policy",
            "sync_ref_model ref_model_mixup_alpha ref_model_sync_steps",
        ),
        *_because("the model is described by the section model", "model_init_kwargs"),
        *_because("use model.device: cpu", "use_cpu"),
        *_because(
            "it casts the model in place, and training would go on with the cast weights: use model.dtype",
            "bf16_full_eval fp16_full_eval",
        ),
        *_because("remote code is never run", "trust_remote_code"),
        *_because("dropout is always off: the cached reference would not match the policy", "disable_dropout"),
        *_because("the loss goes by objective.label_smoothing", "label_smoothing_factor"),
        *_because("the adapter section decides what is trained", "optim_target_modules"),
        *_because("use gradient_checkpointing", "activation_checkpointing"),
        *_because("use gradient_checkpointing_kwargs", "activation_checkpointing_kwargs"),
        *_because(
            "the loss is computed by this project, over completion positions only",
            "use_liger_kernel liger_kernel_config padding_free use_cache",
        ),
        *_because("taken from the tokenizer", "pad_token"),
        *_because("the only mode that TRL keeps is keep_start", "truncation_mode"),
        *_because("a run stops at the first value that is not finite", "logging_nan_inf_filter debug"),
        *_because("every logging_steps steps, for metrics.jsonl", "logging_strategy"),
        *_because("readwrite-edit shows its own progress and log", "disable_tqdm log_level log_level_replica"),
        *_because(
            "a run is one process on one device, the only writer of its folder",
            "log_on_each_node save_on_each_node local_rank average_tokens_across_devices accelerator_config "
            "parallelism_config fsdp fsdp_config deepspeed ddp_find_unused_parameters ddp_bucket_cap_mb "
            "ddp_broadcast_buffers ddp_static_graph ddp_backend ddp_timeout",
        ),
        *_because("align always trains and evaluates", "do_train do_eval do_predict"),
        *_because(
            "the metrics of preference data are fixed",
            "prediction_loss_only eval_do_concat_batches eval_use_gather_object include_for_metrics "
            "batch_eval_metrics label_names remove_unused_columns length_column_name",
        ),
        *_because(
            "the finished adapter is the last state; earlier ones lie in checkpoints/",
            "load_best_model_at_end metric_for_best_model greater_is_better",
        ),
        *_because(
            "resuming must give the same adapter as a run that was not interrupted",
            "save_only_model ignore_data_skip restore_callback_states_from_checkpoint auto_find_batch_size",
        ),
        *_because("a stop request already saves and ends the run", "enable_jit_checkpoint"),
    ]
)
