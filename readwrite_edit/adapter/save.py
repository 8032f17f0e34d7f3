"""Writing an adapter so that stock tools load it, and so that twice the same is the same bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor, uint8

from readwrite_edit.adapter.metadata import METADATA, SCHEMA
from readwrite_edit.durable import whole_folder, write_json

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


def save_adapter(
    model: PeftModel,
    folder: Path,
    *,
    base_model: str,
    revision: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    adapter_name: str = "default",
) -> None:
    """Write an adapter folder whole: weights, configuration and this project's metadata apart.

    Args:
        model: Wrapped model.
        folder: Target; replaced if it exists.
        base_model: What ``base_model_name_or_path`` becomes.
        revision: Revision of the base on the Hub.
        metadata: Written to ``readwrite_edit.json``, which no other tool reads.
        adapter_name: Of the adapter in the model.
    """
    state = get_peft_model_state_dict(model, adapter_name=adapter_name, save_embedding_layers=False)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    with whole_folder(folder) as temporary:
        save_file(tensors, temporary / WEIGHTS, metadata={"format": "pt"})
        write_json(temporary / CONFIG, _plain_config(model, adapter_name, base_model, revision))
        write_json(temporary / METADATA, {"schema": SCHEMA, **(metadata or {})})


def basis_hash(lora_a: Tensor) -> str:
    """SHA-256 over dtype, shape and bytes of a lora_A."""
    plain = lora_a.detach().cpu().contiguous()
    head = f"{plain.dtype}{tuple(plain.shape)}".encode()
    return hashlib.sha256(head + plain.flatten().view(dtype=uint8).numpy().tobytes()).hexdigest()


def _plain_config(model: PeftModel, adapter_name: str, base_model: str, revision: str | None) -> dict[str, Any]:
    config = model.peft_config[adapter_name].to_dict()
    config |= {"base_model_name_or_path": base_model, "revision": revision, "inference_mode": True}
    return {key: _plain(value) for key, value in config.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(value)
    return getattr(value, "value", value)
