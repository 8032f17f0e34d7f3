"""A folder that holds a model: checked before anything in it is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from readwrite_edit.errors import ModelError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def check_config(folder: Path) -> None:
    """Require a readable config.json that needs no code from the folder.

    Raises:
        ModelError: There is none, it is no JSON object, or it names a model that
            only the repository's own code could build.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"{folder}: {_why_no_config(folder)}")
    config = _json_object(path)
    if "auto_map" in config and not _known(config.get("model_type")):
        raise ModelError(
            f"{path}: model type {config.get('model_type')!r} needs the repository's own code (auto_map), which is "
            "never run; use a model of an architecture that transformers has"
        )


def check_weights(folder: Path) -> None:
    """Require safetensors whose headers agree with the files' sizes.

    Raises:
        ModelError: No safetensors (pickled weights are refused), a shard of the
            index is missing, or a file is cut short or has a lying header.
    """
    for name in weight_files(folder):
        _check_safetensors(folder / name)


def weight_files(folder: Path) -> list[str]:
    """Names of the safetensors files that make up the model, sorted."""
    index = folder / INDEX
    if (folder / SINGLE).is_file():
        return [SINGLE]
    if not index.is_file():
        raise ModelError(f"{folder}: {_why_no_weights(folder)}")
    return shard_files(index)


def shard_files(index: Path) -> list[str]:
    """Names of the files that an index of shards lists, sorted; each in the index's own folder."""
    shards = _json_object(index).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise ModelError(f"{index}: 'weight_map' must map tensor names to file names")
    names = sorted(set(shards.values()))
    outside = [name for name in names if Path(name).name != name or not name.endswith(".safetensors")]
    if outside:
        raise ModelError(f"{index}: {outside[0]!r} is not the name of a safetensors file in this folder")
    return names


def _check_safetensors(path: Path) -> None:
    if not path.is_file():
        raise ModelError(f"{path}: missing, though {INDEX} names it; copy or download the model again")
    try:
        # Opening maps the file and compares the header with its size; no tensor is read.
        with safe_open(path, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: not a whole safetensors file ({error}); copy or download it again") from error


def _json_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise ModelError(f"{path}: not readable as JSON ({type(error).__name__}: {error})") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def _known(model_type: Any) -> bool:
    from transformers import CONFIG_MAPPING

    return isinstance(model_type, str) and model_type in CONFIG_MAPPING


def _why_no_config(folder: Path) -> str:
    if (folder / "adapter_config.json").is_file():
        return "this is an adapter, not a model; name its base model here"
    return "no config.json; expected a model folder as save_pretrained writes it"


def _why_no_weights(folder: Path) -> str:
    pickled = sorted(path.name for path in folder.iterdir() if path.name.endswith(PICKLED))
    if not pickled:
        return f"no weights; expected {SINGLE} or {INDEX}"
    return (
        f"only pickled weights ({pickled[0]}), which can run code and are never loaded; where you trust them, convert "
        "with AutoModelForCausalLM.from_pretrained(...).save_pretrained(NEW_FOLDER), which writes safetensors"
    )
