"""The merged model as a folder that stock transformers loads."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from readwrite_edit.adapter.merge import merge_adapter
from readwrite_edit.adapter.save import METADATA
from readwrite_edit.durable import write_json
from readwrite_edit.errors import ExportError
from readwrite_edit.export.finished import FinishedRun
from readwrite_edit.models.fingerprint import weights_hash
from readwrite_edit.models.loading import build_meta_model, load_model, load_tokenizer
from readwrite_edit.models.source import ModelSource, parse_source

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def write_merged(run: FinishedRun, folder: Path) -> None:
    """Fold a run's adapter into its base and save model, tokenizer and configuration.

    The weights have the dtype that the run trained in, in which its certificate
    compared the merged model with the adapter.

    Args:
        run: A finished run.
        folder: Existing folder to write into.

    Raises:
        ModelError: The base can not be loaded any more.
        AdapterError: The adapter does not fit it.
        ExportError: The base has changed since the run, or the merged weights are not finite.
    """
    source = _source(run)
    model = load_model(source, dtype=run.base["dtype"], device="cpu")
    _check_same_base(run, source, model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # transformers about its own names
        merged = merge_adapter(model, run.adapter)
    bad = [name for name, weight in merged.named_parameters() if not bool(torch.isfinite(weight).all())]
    if bad:
        raise ExportError(f"merged weights of {source} hold NaN or infinity in {bad[0]}: check the base model")
    merged.save_pretrained(folder)
    load_tokenizer(source).save_pretrained(folder)
    write_json(folder / METADATA, run.metadata | {"merged": True})


def merged_bytes(run: FinishedRun) -> int:
    """Bytes that the merged weights will take, from the configuration alone."""
    itemsize = torch.zeros((), dtype=getattr(torch, run.base["dtype"])).element_size()
    return sum(weight.numel() for weight in build_meta_model(_source(run)).parameters()) * itemsize


def _source(run: FinishedRun) -> ModelSource:
    return parse_source(run.base["source"], run.base["revision"])


def _check_same_base(run: FinishedRun, source: ModelSource, model: PreTrainedModel) -> None:
    if run.base["quantization"]:
        return  # the recorded hash is that of the quantised weights; what is merged into are the full ones
    expected, found = run.base["weights_hash"], weights_hash(model)
    if expected != found:
        raise ExportError(
            f"{source} is another base than the run's: its weights hash to {found[:12]}, the run recorded"
            f" {expected[:12]}; put the original model back, or export without --merge"
        )
