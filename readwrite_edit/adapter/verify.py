"""Checking a certificate again: an adapter folder, and the base it names."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from readwrite_edit.adapter.certify import Certificate, certify_folder
from readwrite_edit.adapter.metadata import read_metadata, require_record
from readwrite_edit.adapter.save import CONFIG
from readwrite_edit.errors import AdapterError
from readwrite_edit.models.fingerprint import weights_hash
from readwrite_edit.models.loading import load_model, model_folder
from readwrite_edit.models.source import parse_source

_BASES = "basis.safetensors"


def verify_adapter(path: Path, *, base: str | None = None, exact: bool = False) -> Certificate:
    """Check the certificate of an adapter on this machine.

    Args:
        path: Adapter folder, or a run folder that holds one.
        base: Model path; the one that the adapter records by default.
        exact: Demand logits equal bit for bit.

    Returns:
        The certificate.

    Raises:
        AdapterError: It is no adapter of this project, is damaged, or belongs to another base.
        ModelError: The base can not be loaded.
    """
    folder = path if (path / CONFIG).is_file() or not (path / "adapter").is_dir() else path / "adapter"
    metadata = read_metadata(folder)
    require_record(folder, metadata)  # before the base is loaded
    recorded = metadata["base"]
    source = parse_source(base) if base else parse_source(recorded["source"], recorded["revision"])
    model = load_model(source, dtype=recorded["dtype"], quantization=recorded["quantization"])
    found = weights_hash(model)
    del model
    torch.cuda.empty_cache()  # the fresh process loads the base a second time
    bases = _saved_bases(folder.parent / _BASES)
    return certify_folder(folder, str(model_folder(source)), found, bases=bases, exact=exact)


def _saved_bases(path: Path) -> dict[str, Tensor]:
    """The bases that lie beside the adapter in its run folder, if it still lies there."""
    if not path.is_file():
        return {}
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"{path} is damaged or cut short: {error}") from None
