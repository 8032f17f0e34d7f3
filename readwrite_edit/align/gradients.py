"""The objective's gradient at the start, for the gradient arm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from readwrite_edit.adapter import Target
from readwrite_edit.align.trainer import PreferenceTrainer
from readwrite_edit.errors import ModelError
from readwrite_edit.models.pathways import Projection, module_of, role_rows


def starting_gradients(
    trainer: PreferenceTrainer, targets: Sequence[Target], *, rows: int
) -> Callable[[Sequence[Projection]], Tensor]:
    """Gradient of the objective with respect to the base weights, before the first step.

    The adapter is zero then, so this is the direction in which an unrestricted
    update would begin. It goes through the trainer's own loss: any loss type.

    Args:
        trainer: With its adapter at zero and its reference in place.
        targets: Modules whose base weights to differentiate.
        rows: Training rows to sum over.

    Returns:
        Function of projections of one module that gives their gradient stacked, (Σ d_out, d_in), float32.

    Raises:
        ModelError: The base is quantised: its weights have no gradient.
    """
    weights = {target.module: _base_weight(trainer.policy, target) for target in targets}
    dataset = cast(Dataset, trainer.train_dataset)
    samples = dataset.select(range(min(rows, len(dataset)))).to_list()
    size = trainer.args.per_device_train_batch_size
    training = trainer.policy.training
    trainer.policy.eval()
    for weight in weights.values():
        weight.requires_grad_(True)
    try:
        for start in range(0, len(samples), size):
            batch = trainer._prepare_inputs(trainer.data_collator(samples[start : start + size]))
            trainer.compute_loss(trainer.policy, batch).backward()
        gradients = {name: _taken(weight) for name, weight in weights.items()}
    finally:
        _clean_up(trainer, weights.values(), training)
    conv1d = isinstance(_base(trainer.policy, targets[0]), Conv1D)
    return lambda members: torch.cat([_rows(gradients[p.module], p, conv1d) for p in members])


def _rows(gradient: Tensor, projection: Projection, conv1d: bool) -> Tensor:
    oriented = gradient.T if conv1d else gradient
    return oriented[role_rows(projection, oriented.device)]


def _base(model: nn.Module, target: Target) -> nn.Module:
    module = module_of(model, target.projections[0])
    return getattr(module, "base_layer", module)


def _base_weight(model: nn.Module, target: Target) -> Tensor:
    weight: Tensor = _base(model, target).weight  # type: ignore[assignment]
    if not weight.is_floating_point():
        raise ModelError("the gradient basis needs a base whose weights have gradients: leave model.quantization out")
    return weight


def _taken(weight: Tensor) -> Tensor:
    assert weight.grad is not None
    return weight.grad.float()


def _clean_up(trainer: PreferenceTrainer, weights: Any, training: bool) -> None:
    for weight in weights:
        weight.requires_grad_(False)
        weight.grad = None
    trainer.policy.zero_grad(set_to_none=True)
    trainer.policy.train(training)
    trainer._metrics["eval"].clear()
