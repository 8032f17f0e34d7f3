"""The factors of LoRA adapters, module by module, as updates of a base model."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError, safe_open
from torch import Tensor

from readwrite_edit.errors import AdapterError
from readwrite_edit.geometry import LowRank
from readwrite_edit.models.pathways import Projection, role_rows
from readwrite_edit.probe.checkpoint import ADAPTER_CONFIG, Checkpoint, read_adapter_config
from readwrite_edit.probe.delta.anatomy import Anatomy
from readwrite_edit.probe.delta.pairing import Misfit

_CONSTANT = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_B(?:\.default)?\.bias")
_FACTOR = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<factor>[AB])(?:\.default)?\.weight")


@dataclass(frozen=True)
class Factors:
    """An adapter's updates.

    Attributes:
        modules: Name of the weight to (B scaled, A), float64: ΔW = B A.
        misfits: What in the adapter is no such update.
        constants: Name of the weight to what is added to the output whatever the input, scaled, float64 (lora_bias).
    """

    modules: Mapping[str, LowRank]
    misfits: tuple[Misfit, ...] = ()
    constants: Mapping[str, Tensor] = field(default_factory=dict)

    def minus(self, other: Factors) -> Factors:
        """The updates of this adapter less those of another: [B, −B′] [A; A′]."""
        return Factors(
            {
                name: _difference(self.modules.get(name), other.modules.get(name))
                for name in {**self.modules, **other.modules}
            },
            (*self.misfits, *other.misfits),
        )

    def of(self, projection: Projection) -> LowRank | None:
        """The update of one projection: its rows of B; None where its module is not adapted."""
        update = self.modules.get(f"{projection.module}.weight")
        return update if update is None else LowRank(update.B[role_rows(projection)], update.A)


def read_factors(checkpoint: Checkpoint, anatomy: Anatomy, *, constants: bool = False) -> Factors:
    """Read an adapter for a base model.

    Args:
        checkpoint: An adapter.
        anatomy: Of its base.
        constants: Read constants (lora_bias) too, instead of refusing an adapter that has them.

    Raises:
        AdapterError: The file is damaged, or none of its modules is one of the base.
    """
    config = read_adapter_config(checkpoint.folder, constants=constants)
    tensors = _tensors(checkpoint)
    added = _take_constants(tensors, anatomy) if constants else {}
    found: dict[str, dict[str, Tensor]] = {}
    misfits = []
    for name, tensor in tensors.items():
        match = _FACTOR.fullmatch(name)
        if match is None:
            misfits.append(Misfit(name, "extra", "in the adapter, but no factor of an update B A; not measured"))
            continue
        found.setdefault(match["module"], {})[match["factor"]] = tensor
    modules: dict[str, LowRank] = {}
    for module, parts in found.items():
        own = anatomy.canonical(f"{module}.weight")
        problem = _problem(own, parts, anatomy)
        if problem:
            misfits.append(Misfit(own, problem[0], problem[1]))
        else:
            scale = _scale(checkpoint, config, module, parts["A"].shape[0])
            modules[own] = LowRank(parts["B"].double() * scale, parts["A"].double())
            if own in added:
                added[own] = added[own] * scale
    if not modules:
        detail = misfits[0].detail if misfits else "it holds no tensors"
        raise AdapterError(f"{checkpoint.name}: no module of this adapter fits the base ({detail}); is the base wrong?")
    return Factors(modules, tuple(misfits), {own: added[own] for own in modules if own in added})


def _tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    (path,) = checkpoint.files
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"{path}: not a whole safetensors file ({error}); copy or download it again") from error
    bad = next((name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor.float()).all())), None)
    if bad is not None:
        raise AdapterError(f"{path}: {bad} holds NaN or infinity; the adapter is damaged")
    return tensors


def _take_constants(tensors: dict[str, Tensor], anatomy: Anatomy) -> dict[str, Tensor]:
    """Take the constants out of an adapter's tensors; returns them by the name of the weight, float64."""
    named = {name: match["module"] for name in tensors if (match := _CONSTANT.fullmatch(name))}
    return {anatomy.canonical(f"{module}.weight"): tensors.pop(name).double() for name, module in named.items()}


def _problem(own: str, parts: Mapping[str, Tensor], anatomy: Anatomy) -> tuple[str, str] | None:
    if own not in anatomy.shapes:
        return "extra", "adapted, but not in BASE; not measured"
    if parts.keys() != {"A", "B"}:
        return "missing", f"the adapter holds only lora_{next(iter(parts))} of it; not measured"
    shape = anatomy.shapes[own][::-1] if own in anatomy.transposed else anatomy.shapes[own]
    left, right = parts["B"].shape, parts["A"].shape
    if len(left) != 2 or len(right) != 2 or (left[0], right[1]) != tuple(shape) or left[1] != right[0]:
        return "reshaped", f"{list(shape)} in BASE, {list(left)} times {list(right)} in the adapter; not measured"
    return None


def _scale(checkpoint: Checkpoint, config: Mapping[str, Any], module: str, found: int) -> float:
    """PEFT's scaling of one module: alpha/r, or alpha/√r with rsLoRA, patterns applied."""
    rank = _pattern(config, "rank_pattern", module, config.get("r", 8))
    alpha = _pattern(config, "alpha_pattern", module, config.get("lora_alpha", 8))
    if rank != found or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise AdapterError(
            f"{checkpoint.name}: {module} has factors of rank {found}, its {ADAPTER_CONFIG} gives rank {rank!r} and "
            f"alpha {alpha!r}; the two files do not belong together"
        )
    return float(alpha / (found**0.5 if config.get("use_rslora") else found))


def _pattern(config: Mapping[str, Any], name: str, module: str, default: Any) -> Any:
    pattern = config.get(name)
    return pattern.get(get_pattern_key(list(pattern), module), default) if isinstance(pattern, dict) else default


def _difference(ours: LowRank | None, theirs: LowRank | None) -> LowRank:
    if ours is None or theirs is None:
        present = ours or theirs
        assert present is not None
        return present if theirs is None else LowRank(-present.B, present.A)
    return LowRank(torch.cat([ours.B, -theirs.B], dim=1), torch.cat([ours.A, theirs.A]))
