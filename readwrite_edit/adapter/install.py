"""Putting a read-subspace adapter into a model, and keeping its basis frozen there.

Setting ``requires_grad`` of lora_A to False does not hold: every exit of
``PeftModel.disable_adapter()``, which DPO calls at each step, switches it on
again. PEFT's own register of frozen weights is consulted by all such paths, so
the basis is entered there. The register is not saved with a model: freeze again
after each load.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from readwrite_edit.adapter.targets import Target
from readwrite_edit.errors import AdapterError
from readwrite_edit.geometry import LowRank
from readwrite_edit.models.pathways import unwrap

_MASKED = "_readwrite_edit_rows_masked"


def adapter_config(model: PreTrainedModel, targets: Sequence[Target]) -> LoraConfig:
    """The stock PEFT configuration that makes room for the targets.

    ``lora_alpha`` equals the rank in every module, so that the update is B A
    unscaled, also in loaders that ignore ``rank_pattern``.

    Args:
        model: The bare model.
        targets: What to adapt.

    Returns:
        A LoRA configuration; hand it to a TRL trainer or to ``get_peft_model``.
    """
    largest = max(target.rank for target in targets)
    pattern = {target.module: target.rank for target in targets if target.rank != largest}
    conv1d = isinstance(model.get_submodule(targets[0].module), Conv1D)
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=largest,
        lora_alpha=largest,
        rank_pattern=dict(pattern),
        alpha_pattern=dict(pattern),
        target_modules=_module_names(model, targets),
        lora_dropout=0.0,
        bias="none",
        fan_in_fan_out=conv1d,
        init_lora_weights=True,
    )


def build_adapter(model: PreTrainedModel, targets: Sequence[Target]) -> PeftModel:
    """Wrap a model with a read-subspace adapter that is ready to train.

    For TRL's ``DPOTrainer`` pass :func:`adapter_config` as ``peft_config`` and
    call :func:`install_adapter` on ``trainer.model`` instead: given a model that
    is wrapped already it keeps a second adapter as its reference.

    Args:
        model: The bare model; it is modified, as by ``get_peft_model``.
        targets: What to adapt.

    Returns:
        The wrapped model; its adapter changes nothing yet.
    """
    wrapped = get_peft_model(model, adapter_config(model, targets))
    install_adapter(wrapped, targets)
    return wrapped


def install_adapter(model: nn.Module, targets: Sequence[Target], adapter_name: str = "default") -> None:
    """Write the bases into lora_A, zero lora_B, freeze the one and mask the other's rows.

    Args:
        model: Wrapped by PEFT with :func:`adapter_config` of the same targets.
        targets: What to adapt.
        adapter_name: Of the adapter in the model.

    Raises:
        AdapterError: A target is not adapted in this model or has another rank.
    """
    for target in targets:
        lora_a, lora_b = _factors(lora_layer(model, target, adapter_name), adapter_name)
        with torch.no_grad():
            if target.basis is not None:
                lora_a.copy_(target.basis.T)
            lora_b.zero_()
    freeze_basis(model, targets, adapter_name)


def freeze_basis(model: nn.Module, targets: Sequence[Target], adapter_name: str = "default") -> None:
    """Freeze lora_A through PEFT's register, and keep the other projections' rows of lora_B at zero.

    Neither survives saving and loading: call this after each load that is to be
    trained further. It is harmless to repeat.

    Args:
        model: Wrapped model.
        targets: Its adapted modules.
        adapter_name: Of the adapter in the model.
    """
    _mask_rows(model, targets, adapter_name)
    for target in targets:
        if target.basis is None:
            continue
        layer = lora_layer(model, target, adapter_name)
        layer.frozen_peft_weight_names = {**layer.frozen_peft_weight_names, adapter_name: ("lora_A",)}
        layer._freeze_non_trainable_peft_weights(adapter_name)


def lora_layer(model: nn.Module, target: Target, adapter_name: str = "default") -> LoraLayer:
    """The LoRA layer of a target, checked for the adapter and its shape.

    Raises:
        AdapterError: There is no such layer, or its rank is another.
    """
    layer = unwrap(model).get_submodule(target.module)
    if not isinstance(layer, LoraLayer) or adapter_name not in layer.lora_A:
        raise AdapterError(
            f"'{target.module}' has no LoRA layer '{adapter_name}'; wrap the model with its adapter_config"
        )
    rank = _factors(layer, adapter_name)[0].shape[0]
    if rank != target.rank:
        raise AdapterError(f"'{target.module}' has a LoRA layer of rank {rank}, expected {target.rank}")
    return layer


def low_rank_update(model: nn.Module, target: Target, adapter_name: str = "default") -> LowRank:
    """The current update of a module as its factors, detached."""
    lora_a, lora_b = factors_of(model, target, adapter_name)
    return LowRank(lora_b.detach(), lora_a.detach())


def factors_of(model: nn.Module, target: Target, adapter_name: str = "default") -> tuple[nn.Parameter, nn.Parameter]:
    """lora_A (rank, d_in) and lora_B (d_out, rank) of a target, with their gradients."""
    return _factors(lora_layer(model, target, adapter_name), adapter_name)


def _factors(layer: LoraLayer, adapter_name: str) -> tuple[nn.Parameter, nn.Parameter]:
    """lora_A (rank, d_in) and lora_B (d_out, rank) of a layer."""
    lora_a: Any = layer.lora_A[adapter_name]
    lora_b: Any = layer.lora_B[adapter_name]
    return lora_a.weight, lora_b.weight


def changeable_rows(rows: Iterable[tuple[int, int]], d_out: int) -> Tensor:
    """Boolean mask over output features, shape (d_out,)."""
    mask = torch.zeros(d_out, dtype=torch.bool)
    for start, stop in rows:
        mask[start:stop] = True
    return mask


def _mask_rows(model: nn.Module, targets: Sequence[Target], adapter_name: str) -> None:
    """Keep the gradient of rows that must not change at exactly zero.

    B starts at zero there, so AdamW's moments and weight decay stay zero too.
    """
    for target in targets:
        if target.rows is None:
            continue
        weight = _factors(lora_layer(model, target, adapter_name), adapter_name)[1]
        frozen = ~changeable_rows(target.rows, weight.shape[0]).unsqueeze(1)
        if not getattr(weight, _MASKED, False):
            weight.register_hook(_zero_rows(frozen))
            setattr(weight, _MASKED, True)


def _zero_rows(frozen: Tensor) -> Callable[[Tensor], Tensor]:
    """A gradient hook; fills rather than multiplies, so that NaN · 0 can not get through."""
    return lambda gradient: gradient.masked_fill(frozen.to(gradient.device), 0)


def _module_names(model: PreTrainedModel, targets: Sequence[Target]) -> list[str]:
    """Short module names where they select just the targets, else full ones; sorted."""
    wanted = {target.module for target in targets}
    short = {name.rpartition(".")[2] for name in wanted}
    selected = {name for name, module in model.named_modules() if name.rpartition(".")[2] in short}
    return sorted(short if selected == wanted else wanted)
