"""Whether two adapters make the same change, whatever it is called and however it is factored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

    from readwrite_edit.geometry import LowRank
    from readwrite_edit.interventions.changes import Change

    Update = Mapping[str, tuple[LowRank, Tensor | None]]  # module to ΔW and its constant

_WEIGHTS = "adapter_model.safetensors"
_PREFIX, _ENDING = "base_model.model.", ".lora_B.weight"
_LARGEST_HEADER = 100_000_000  # as safetensors itself allows
_SAME = 1e-3  # relative distance: far over float32's rounding and the order of sums, far under another edit's


def same_adapter(folder: Path, other: Path) -> bool:
    """Whether two adapters change the same modules by the same; torch is loaded only where the modules are the same.

    Args:
        folder: Of an adapter.
        other: Of another. One that can not be read is not the same: whoever uses it is told why.
    """
    names = _modules(folder / _WEIGHTS)
    return bool(names) and names == _modules(other / _WEIGHTS) and same_update(read_update(folder), read_update(other))


def same_update(one: Update, other: Update) -> bool:
    """Whether ‖ΔW − ΔW′‖_F ≤ 10⁻³ ‖ΔW‖_F over all modules together, and constants alike."""
    if one.keys() != other.keys():
        return False
    import torch

    from readwrite_edit.geometry import LowRank

    apart = size = bias_apart = bias_size = 0.0
    for module, (update, bias) in one.items():
        update_2, bias_2 = other[module]
        both = LowRank(torch.cat([update.B, -update_2.B], dim=1), torch.cat([update.A, update_2.A]))
        apart, size = apart + float(both.squared_norm()), size + float(update.squared_norm())
        zero = torch.zeros(len(update.B), dtype=update.B.dtype)
        constant, constant_2 = zero if bias is None else bias, zero if bias_2 is None else bias_2
        bias_apart += float((constant - constant_2).square().sum())
        bias_size += float(constant.square().sum())
    return apart <= _SAME**2 * size and bias_apart <= _SAME**2 * bias_size


def read_update(folder: Path) -> Update:
    """An adapter's factors by module, float64."""
    from safetensors.torch import load_file

    from readwrite_edit.geometry import LowRank

    tensors = {name: tensor.double() for name, tensor in load_file(folder / _WEIGHTS).items()}
    modules = [name.removesuffix(_ENDING) for name in tensors if name.endswith(_ENDING)]
    return {
        module.removeprefix(_PREFIX): (
            LowRank(tensors[f"{module}{_ENDING}"], tensors[f"{module}.lora_A.weight"]),
            tensors.get(f"{module}.lora_B.bias"),
        )
        for module in modules
    }


def update_of(model: nn.Module, changes: Sequence[Change]) -> Update:
    """The same of changes that are in memory.

    Args:
        model: Bare model, with or without weights.
        changes: Of an edit.
    """
    from readwrite_edit.edit.assembly import assembled
    from readwrite_edit.geometry import LowRank

    return {part.target.module: (LowRank(part.B, part.A), part.bias) for part in assembled(model, changes)}


def _modules(file: Path) -> frozenset[str]:
    """Modules that a file of weights names in its header; none where that can not be read."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length)) if length <= _LARGEST_HEADER else {}
    except (OSError, ValueError, RecursionError):
        return frozenset()
    return frozenset(name for name in header if name.endswith(_ENDING)) if isinstance(header, dict) else frozenset()
