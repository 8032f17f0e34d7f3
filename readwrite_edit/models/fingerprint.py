"""Hash of a model's weights: the same model in another process, or another model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from readwrite_edit.errors import ModelError
from readwrite_edit.models.pathways import unwrap

_BLOCK_BYTES = 1 << 26
_THREADS = 4


def weights_hash(model_or_state: nn.Module | Mapping[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of all weights, sorted by name.

    Tied weights count once, under the first of their names. Of a model that
    PEFT has wrapped, only the base is hashed: the value is that of the model
    before.

    Args:
        model_or_state: A model, or a mapping of names to tensors.

    Returns:
        64 hexadecimal digits; stable across processes and devices.

    Raises:
        ModelError: A weight is on the meta device, where it has no value.
    """
    weights = dict(_distinct(_named_weights(model_or_state)))
    whole = hashlib.sha256()
    # Hashing releases the interpreter lock, so threads share the work.
    with ThreadPoolExecutor(_THREADS) as pool:
        for name, digest in zip(weights, pool.map(_digest, weights.values()), strict=True):
            tensor = weights[name]
            whole.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
            whole.update(digest)
    return whole.hexdigest()


def _named_weights(model_or_state: nn.Module | Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    if not isinstance(model_or_state, nn.Module):
        return model_or_state
    bare = unwrap(model_or_state)
    named = dict(bare.named_parameters(remove_duplicate=False))
    if bare is model_or_state:
        return named
    return {name.replace(".base_layer.", "."): weight for name, weight in named.items() if ".lora_" not in name}


def _distinct(named: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    seen = set()
    for name in sorted(named):
        tensor = named[name].detach()
        if tensor.is_meta:
            raise ModelError(f"{name} is on the meta device: load the model's weights before hashing them")
        place = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride())
        if tensor.numel() == 0 or place not in seen:
            seen.add(place)
            yield name, tensor


def _digest(tensor: Tensor) -> bytes:
    digest = hashlib.sha256()
    flat = tensor.reshape(-1)
    step = max(1, _BLOCK_BYTES // max(1, flat.element_size()))
    for start in range(0, flat.numel(), step):
        block = flat[start : start + step].contiguous().cpu()
        digest.update(block.view(torch.uint8).numpy())  # type: ignore[arg-type]
    return digest.digest()
