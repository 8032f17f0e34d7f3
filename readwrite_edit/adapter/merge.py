"""The adapter folded into the weights, and what the storage dtype's rounding keeps of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from readwrite_edit.adapter.install import low_rank_update
from readwrite_edit.adapter.targets import Target
from readwrite_edit.errors import AdapterError
from readwrite_edit.models.pathways import weight_of


def merge_adapter(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Load an adapter onto its base and fold it into the weights.

    Args:
        model: The bare base model; it is modified.
        folder: Adapter folder.

    Returns:
        The merged model, without any trace of PEFT.

    Raises:
        AdapterError: The adapter does not fit, or the merged weights are not finite.
    """
    try:
        merged = PeftModel.from_pretrained(model, str(folder)).merge_and_unload(safe_merge=True)
    except (RuntimeError, ValueError, KeyError) as error:
        raise AdapterError(f"the adapter in {folder} can not be merged: {str(error).splitlines()[0]}") from None
    return merged


def rounding_loss(model: nn.Module, targets: Sequence[Target], dtype: torch.dtype) -> float:
    """Share of the whole update's norm that storing merged weights in a dtype would eat.

    Computes ‖ΔW − (round(W + ΔW) − round(W))‖_F / ‖ΔW‖_F over all targets.

    Args:
        model: Wrapped model.
        targets: Its adapted modules.
        dtype: Storage dtype, such as ``torch.bfloat16``.

    Returns:
        0 when nothing is lost or there is no update, above 1 when rounding moves more than the update does.
    """
    lost = total = torch.zeros((), dtype=torch.float64)
    for target in targets:
        update = low_rank_update(model, target).dense().float().cpu()
        if target.rows is not None:
            update = torch.cat([update[start:stop] for start, stop in _spans(target)])
        weight = torch.cat([weight_of(model, p).float().cpu() for p in target.projections])
        kept = _round(weight + update, dtype) - _round(weight, dtype)
        lost = lost + (update - kept).double().square().sum()
        total = total + update.double().square().sum()
    return float((lost / total).sqrt()) if total > 0 else 0.0


def _spans(target: Target) -> list[tuple[int, int]]:
    """Row ranges in the order in which the projections' weights are stacked."""
    return [span for projection in target.projections for span in projection.rows or ()]


def _round(weight: Tensor, dtype: torch.dtype) -> Tensor:
    return weight.to(dtype).float()
