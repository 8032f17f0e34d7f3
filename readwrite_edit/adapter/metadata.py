"""The format of ``readwrite_edit.json``, which travels with an adapter: what must be in it, and of which kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from readwrite_edit.errors import AdapterError
from readwrite_edit.models.identity import Base
from readwrite_edit.models.pathways import unwrap

METADATA = "readwrite_edit.json"
SCHEMA = 1


class _Section(BaseModel):
    model_config = ConfigDict(strict=True)


class _Base(Base):  # without a hash of its weights, as without logits, where it was never loaded
    device: str
    attn_implementation: str | None
    tf32: bool


class _Module(_Section):
    rows: list[tuple[int, int]] | None
    basis_sha256: str | None


class _Logits(_Section):
    input_ids: list[list[int]]
    sha256: str
    top_ids: list[list[list[int]]]
    top_values: list[list[list[float]]]
    dtype: str
    device: str


class _Edit(_Section):
    kind: str
    name: str | None


class _Metadata(_Section):
    base: _Base
    modules: dict[str, _Module]
    logits: _Logits | None
    rounding_loss: float | None
    edit: _Edit | None = None
    whiten: bool = False


def read_metadata(folder: Path) -> dict[str, Any]:
    """The project's metadata of an adapter, with everything that a certificate needs.

    Raises:
        AdapterError: There is none, it is damaged, or of a newer schema.
    """
    path = folder / METADATA
    try:
        text = path.read_text(encoding="utf-8")
        metadata = json.loads(text)
    except (FileNotFoundError, NotADirectoryError):
        raise AdapterError(f"{path} does not exist: the adapter was not made by readwrite-edit") from None
    except (OSError, ValueError, RecursionError) as error:
        raise AdapterError(f"{path} can not be read: {error}") from None
    number = metadata.get("schema") if isinstance(metadata, dict) else None
    if not isinstance(number, int) or isinstance(number, bool):
        raise AdapterError(f"{path} has no schema number: the file is damaged or not ours")
    if number > SCHEMA:
        raise AdapterError(f"{path} has schema {number}, this version reads up to {SCHEMA}; upgrade")
    try:
        _Metadata.model_validate_json(text)
    except ValidationError as error:
        raise AdapterError(f"{path} {_first_fault(error)}: the file is damaged or not ours") from None
    if metadata["logits"] is not None and metadata["base"]["weights_hash"] is None:
        raise AdapterError(f"{path} lacks base.weights_hash: the file is damaged or not ours")
    return metadata


def base_fields(base: Base, model: nn.Module) -> dict[str, Any]:
    """``base`` of the metadata: which model it was, and what else its logits depend on.

    Args:
        base: Its record.
        model: The model as it lies in memory, bare or wrapped; on the meta device it counts as one on the CPU.
    """
    bare: Any = unwrap(model)
    device = next(bare.parameters()).device.type
    return {
        **base.as_dict(),
        "device": "cpu" if device == "meta" else device,
        "attn_implementation": bare.config._attn_implementation,
        "tf32": torch.backends.cuda.matmul.allow_tf32,
    }


def require_record(folder: Path, metadata: dict[str, Any]) -> None:
    """Refuse an adapter that was written without its base in memory: nothing says what it computes.

    Raises:
        AdapterError: It was.
    """
    if metadata["logits"] is None or metadata["rounding_loss"] is None:
        raise AdapterError(
            f"the adapter in {folder} was written without its base in memory (measure.certify: false): there is no "
            "record of its logits to check it by; make it again with measure.certify: true"
        )


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(map(str, fault["loc"]))
    return f"lacks {place}" if fault["type"] == "missing" else f"has a wrong {place} ({fault['msg']})"
