"""TRL's preference losses of a model's own log-probabilities, without a trainer.

Several losses share one forward pass. Each is TRL's own code, called with as
much of a trainer as it uses; where a release moves that, the tests against the
real trainer fail.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from readwrite_edit.align.completion_head import completion_log_probs
from readwrite_edit.align.tokenised import row_length
from readwrite_edit.align.trl_names import REFERENCE_COLUMNS, DataCollatorForPreference, DPOTrainer, FusedCausalLMOutput
from readwrite_edit.models.language_head import LanguageModelHead
from readwrite_edit.recipe.objective import Objective

Batch = Mapping[str, Tensor]
Scores = tuple[Tensor, Tensor]


def pair_batches(
    rows: Sequence[Mapping[str, list[int]]], *, pad_token_id: int, batch_size: int, max_length: int
) -> list[Batch]:
    """Collate tokenised pairs of like length, longest first, by TRL's collator.

    Returns:
        Batches of ``input_ids``, ``attention_mask`` and ``completion_mask``, (2 · pairs, time): the
        chosen answers, then the rejected.
    """
    collate = DataCollatorForPreference(pad_token_id=pad_token_id, max_length=max_length)
    ordered = sorted(rows, key=row_length, reverse=True)
    starts = range(0, len(ordered), batch_size)
    return [collate([dict(row) for row in ordered[start : start + batch_size]]) for start in starts]


def labels_of(batch: Batch) -> Tensor:
    """Token ids where they have a loss, else −100; (batch, time)."""
    return batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)


def completion_outputs(model: PreTrainedModel, batch: Batch, head: LanguageModelHead) -> FusedCausalLMOutput:
    """What TRL's losses read of a model: per-token log-probabilities of the answers, (batch, time − 1).

    Args:
        model: Bare model.
        batch: See ``pair_batches``.
        head: Of the model.
    """
    labels = labels_of(batch)[:, 1:]
    mask = labels != -100
    passed = model.base_model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
    ).last_hidden_state
    outputs = completion_log_probs(passed[:, :-1][mask], labels[mask], head)
    fields = {name: value.new_zeros(mask.shape).masked_scatter(mask, value) for name, value in vars(outputs).items()}
    return FusedCausalLMOutput(loss=None, label_mask=mask, **fields)


def sequence_scores(outputs: FusedCausalLMOutput) -> Scores:
    """Log-probabilities of chosen and rejected answers, (pairs,) each, without gradient."""
    chosen, rejected = cast(Tensor, outputs.log_probs).detach().sum(dim=1).chunk(2)
    return chosen, rejected


def preference_loss(objective: Objective, batch: Batch, outputs: FusedCausalLMOutput, reference: Scores) -> Tensor:
    """TRL's loss of one batch of pairs, a scalar.

    Args:
        objective: With one loss type or several.
        batch: See ``pair_batches``.
        outputs: Of the policy.
        reference: Of the reference, see ``sequence_scores``.
    """
    trainer: Any = _as_much_of_a_trainer(objective, batch["input_ids"].device)
    inputs = {**batch, **dict(zip(REFERENCE_COLUMNS, reference, strict=True))}
    loss: Tensor = DPOTrainer._compute_loss(trainer, lambda **_inputs: outputs, inputs, False)
    return loss


def units_of(objective: Objective, batch: Batch) -> int:
    """What TRL's loss of a batch is the mean over: tokens of chosen answers under sft, else pairs.

    The loss times its units adds up over batches to the same sum however rows are batched.
    """
    pairs = len(batch["input_ids"]) // 2
    if objective.loss_type == ("sft",):
        return int(batch["completion_mask"][:pairs, 1:].sum())
    return pairs


def _as_much_of_a_trainer(objective: Objective, device: torch.device) -> SimpleNamespace:
    accelerator = SimpleNamespace(device=device, gather=_same, gather_for_metrics=_same)
    weights = objective.loss_weights or (1.0,) * len(objective.loss_type)
    return SimpleNamespace(
        model=SimpleNamespace(training=False),
        accelerator=accelerator,
        args=SimpleNamespace(discopop_tau=objective.discopop_tau),
        loss_types=list(objective.loss_type),
        loss_weights=list(weights),
        beta=objective.beta,
        label_smoothing=objective.label_smoothing,
        f_divergence_type=objective.f_divergence_type,
        f_alpha_divergence_coef=objective.f_alpha_divergence_coef,
        ld_alpha=objective.ld_alpha,
        use_weighting=objective.use_weighting,
        precompute_ref_logps=True,
        aux_loss_enabled=False,
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
    )


def _same(value: Any) -> Any:
    return value
