"""What a user means by a checkpoint: a model, an adapter, or a run of ours."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from readwrite_edit.errors import AdapterError, ModelError
from readwrite_edit.models.folder import weight_files
from readwrite_edit.models.hub import fetch_adapter
from readwrite_edit.models.loading import model_folder
from readwrite_edit.models.source import ModelSource, base_model_id, parse_source, split_revision
from readwrite_edit.runs.folder import RunFolder

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files are at hand.

    Attributes:
        name: As the user wrote it.
        kind: ``model`` or ``adapter``.
        folder: Where the safetensors lie.
        base: Of an adapter: the base model that its files name, as a source.
    """

    name: str
    kind: Literal["model", "adapter"]
    folder: Path
    base: str | None = None

    @property
    def files(self) -> list[Path]:
        """Its safetensors files."""
        if self.kind == "adapter":
            return [self.folder / ADAPTER_WEIGHTS]
        return [self.folder / name for name in weight_files(self.folder)]

    @property
    def model_id(self) -> str:
        """A model's name as adapters write it."""
        return base_model_id(parse_model(self.name))

    @property
    def base_id(self) -> str | None:
        """The name of an adapter's base as other adapters write it, revision left out."""
        if self.base is None:
            return None
        try:
            return base_model_id(parse_model(self.base))
        except ModelError:  # a path of another machine
            return self.base

    @property
    def source(self) -> ModelSource:
        """A model's folder as a source."""
        return ModelSource("folder", str(self.folder))


def parse_model(text: str) -> ModelSource:
    """A model as probes name it: what ``parse_source`` takes, with ``@revision`` after a Hub id.

    Raises:
        ModelError: It is no model.
    """
    name, revision = split_revision(text)
    if revision == "":
        raise ModelError(f"{text}: no revision after the @; name one, or leave the @ out")
    return parse_source(name, revision)


def resolve_checkpoint(text: str) -> Checkpoint:
    """Find a checkpoint and have its files at hand; weights of the Hub are downloaded.

    Args:
        text: A Hub id (``owner/name@revision``) of a model or an adapter, a
            model or adapter folder, a .gguf file, ``bundled:NAME``, or a run
            folder whose adapter is meant.

    Raises:
        ModelError: It is none of these, or damaged.
        AdapterError: An adapter or a run without one, or a damaged one.
    """
    place = Path(text).expanduser()
    if place.is_dir():
        if RunFolder(place).state.is_file():
            return _of_run(text, place)
        if (place / ADAPTER_CONFIG).is_file():
            return _adapter(text, place)
    source = parse_model(text)
    if source.kind == "hub":
        adapter = fetch_adapter(source)
        if adapter is not None:
            return _adapter(text, adapter)
    return Checkpoint(text, "model", model_folder(source))


def _of_run(text: str, place: Path) -> Checkpoint:
    folder = RunFolder(place)
    if not (folder.adapter / ADAPTER_CONFIG).is_file():
        raise AdapterError(f"{text}: this run has no finished adapter; name one of its checkpoints, or resume it")
    found = _adapter(text, folder.adapter)
    return Checkpoint(text, "adapter", found.folder, _base_in_recipe(folder) or found.base)


def _base_in_recipe(folder: RunFolder) -> str | None:
    """The base model as the run's own recipe names it: a bundled or local one has no Hub id."""
    try:
        model = yaml.safe_load(folder.recipe.read_text(encoding="utf-8"))["model"]
        return f"{model['path']}@{model['revision']}" if model.get("revision") else str(model["path"])
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return None


def _adapter(text: str, folder: Path) -> Checkpoint:
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise AdapterError(f"{folder}: no {ADAPTER_WEIGHTS}; only adapters in safetensors are read")
    config = read_adapter_config(folder)
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    named = f"{base}@{revision}" if base and revision else base
    return Checkpoint(text, "adapter", folder, str(named) if named else None)


def read_adapter_config(folder: Path, *, constants: bool = False) -> dict[str, Any]:
    """PEFT's configuration of an adapter.

    Args:
        folder: Of the adapter.
        constants: Take one that also adds constants (lora_bias).

    Raises:
        AdapterError: It can not be read, or is not an adapter whose update is B A.
    """
    path = folder / ADAPTER_CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AdapterError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else config
        raise AdapterError(
            f"{path}: peft_type is {kind!r}; only LORA adapters have a delta B A: merge the adapter first"
        )
    for option in ("use_dora", "lora_bias", "use_qalora"):
        if config.get(option) and not (constants and option == "lora_bias"):
            raise AdapterError(
                f"{path}: {option} is on, and its delta is not B A: merge the adapter and compare models"
            )
    return config


def base_of(checkpoint: Checkpoint) -> Checkpoint:
    """The base model that an adapter's files name.

    Raises:
        AdapterError: They name none.
        ModelError: It can not be found.
    """
    if not checkpoint.base:
        raise AdapterError(f"{checkpoint.name} names no base model: give BASE and TUNED")
    try:
        return resolve_checkpoint(checkpoint.base)
    except ModelError as error:
        raise ModelError(
            f"{checkpoint.name} names {checkpoint.base} as its base: {error}; give BASE and TUNED"
        ) from error
