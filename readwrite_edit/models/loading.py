"""Configuration, tokenizer and model of a source, loaded without running anybody's code.

Whatever the source, loading ends in a folder that has been checked: the Hub's
cache, the cache of converted GGUF files, or the user's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from readwrite_edit.errors import ModelError
from readwrite_edit.models.conversion import bundled_gguf, converted
from readwrite_edit.models.folder import check_config, check_weights
from readwrite_edit.models.hub import fetch_description, fetch_model
from readwrite_edit.models.source import ModelSource

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from readwrite_edit.recipe.sections import Model

DTYPES = ("auto", "float32", "bfloat16", "float16")
QUANTIZATIONS = ("nf4", "int8")


def load_config(source: ModelSource) -> PreTrainedConfig:
    """Configuration of a model.

    Raises:
        ModelError: Not found, not reachable, or of a kind that needs foreign code.
    """
    folder = _description(source)
    with _reported(source, "configuration"):
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def load_tokenizer(source: ModelSource) -> PreTrainedTokenizerBase:
    """Tokenizer of a model; where it has no padding token, the end-of-sequence token pads.

    Raises:
        ModelError: There is none, or it can not be read.
    """
    folder = _description(source)
    with _reported(source, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if tokenizer.pad_token is None and tokenizer.eos_token is None:
        raise ModelError(f"{source}: its tokenizer has neither a padding nor an end-of-sequence token")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(
    source: ModelSource,
    *,
    dtype: str = "auto",
    quantization: str | None = None,
    device: str | None = None,
    attn_implementation: str | None = None,
) -> PreTrainedModel:
    """Causal language model, in eval mode.

    Args:
        source: Where from.
        dtype: One of ``DTYPES``; ``auto`` is float32 on the CPU and the checkpoint's own elsewhere.
        quantization: None, ``nf4`` or ``int8`` (bitsandbytes).
        device: Such as ``cpu`` or ``cuda:0``; None takes the first CUDA device, else the CPU.
        attn_implementation: transformers' name of one; None leaves the choice to it.

    Raises:
        ModelError: Not found, unsafe, damaged, incomplete, or an option that does not fit, a GPU that is not there.
    """
    _check_options(dtype, quantization)
    check_device(device)
    folder = model_folder(source)
    device = device or default_device()
    with _reported(source, "model"):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=_torch_dtype(dtype, device),
            device_map=None if device == "cpu" and not quantization else {"": device},
            quantization_config=_quantization_config(quantization),
            attn_implementation=attn_implementation,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    model, report = loaded
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise ModelError(f"{source}: {len(missing)} weights are missing, such as {missing[0]!r}; copy the model again")
    if quantization == "nf4" and device == "cpu":
        _keep_layout(model)
    return model.eval()


def _keep_layout(model: PreTrainedModel) -> None:
    """Keep bitsandbytes from packing 4-bit weights anew at the first pass on a CPU with AVX512-BF16.

    A footgun: no gradient passes through the packed form (it comes out as nothing, with a warning at most), and
    a weight that is unpacked as if it still lay in the plain form is noise.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            setattr(module, "support_avx512bf16_for_cpu", False)  # noqa: B010 - an attribute of bitsandbytes' own


def build_meta_model(source: ModelSource) -> PreTrainedModel:
    """The model without weights, on the meta device: names and shapes for a dry run."""
    config = load_config(source)
    with _reported(source, "architecture"), torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False)


def load_as_asked(source: ModelSource, options: Model) -> PreTrainedModel:
    """The model of a recipe, see ``load_model``.

    Args:
        source: Where its path leads.
        options: Section ``model`` of the recipe.
    """
    return load_model(
        source,
        dtype=options.dtype,
        quantization=options.quantization,
        device=options.device,
        attn_implementation=options.attn_implementation,
    )


def check_device(device: str | None) -> None:
    """Refuse a device that is not there.

    Raises:
        ModelError: A GPU is named where PyTorch has none.
    """
    if device is not None and device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(
            f"device {device!r}: PyTorch finds no GPU; take cpu (--device cpu, or model.device of a recipe)"
        )


def default_device() -> str:
    """The device that ``load_model`` takes where none is named."""
    return "cuda:0" if torch.cuda.is_available() else "cpu"


def _description(source: ModelSource) -> Path:
    """Folder with at least configuration and tokenizer."""
    folder = fetch_description(source) if source.kind == "hub" else _local_folder(source)
    check_config(folder)
    return folder


def model_folder(source: ModelSource) -> Path:
    """Folder from which stock transformers loads the model; its files are checked.

    Raises:
        ModelError: Not found, unsafe or damaged.
    """
    folder = fetch_model(source) if source.kind == "hub" else _local_folder(source)
    check_config(folder)
    check_weights(folder)
    return folder


def _local_folder(source: ModelSource) -> Path:
    if source.kind == "folder":
        return Path(source.location)
    with quiet():
        return converted(bundled_gguf(source.location) if source.kind == "bundled" else Path(source.location))


def _check_options(dtype: str, quantization: str | None) -> None:
    if dtype not in DTYPES:
        raise ModelError(f"dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
    if quantization is None:
        return
    if quantization not in QUANTIZATIONS:
        raise ModelError(f"quantization {quantization!r}: expected one of {', '.join(QUANTIZATIONS)}")
    if find_spec("bitsandbytes") is None:
        raise ModelError(f"quantization {quantization!r} needs bitsandbytes: pip install 'readwrite-edit[qlora]'")


def _torch_dtype(dtype: str, device: str) -> torch.dtype | str:
    if dtype == "auto":
        return torch.float32 if device == "cpu" else "auto"
    return getattr(torch, dtype)


def quantization_options(quantization: str | None) -> dict[str, Any] | None:
    """Plain arguments of transformers' ``BitsAndBytesConfig`` for a name of ours."""
    if quantization is None:
        return None
    if quantization == "int8":
        return {"load_in_8bit": True}
    four_bit = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": "bfloat16"}
    return {"load_in_4bit": True, **four_bit}


def _quantization_config(quantization: str | None) -> Any:
    options = quantization_options(quantization)
    return None if options is None else transformers.BitsAndBytesConfig(**options)


@contextmanager
def _reported(source: ModelSource, what: str) -> Iterator[None]:
    """Turn whatever transformers raises about a model's files into one line."""
    try:
        with quiet():
            yield
    except ModelError:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        detail = lines[0][:300] if lines else "no message"
        raise ModelError(f"{source}: its {what} can not be loaded ({type(error).__name__}: {detail})") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars and warnings; both are as before afterwards."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
