"""What is to be evaluated: a run, an adapter or a whole model, found without loading a weight."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError, safe_open

from readwrite_edit.adapter.metadata import METADATA, read_metadata
from readwrite_edit.edit.settings.reading import is_edit_recipe
from readwrite_edit.edit.settings.recipe import EditRecipe
from readwrite_edit.errors import AdapterError, ModelError
from readwrite_edit.models.hub import fetch_adapter
from readwrite_edit.models.source import ModelSource
from readwrite_edit.probe.checkpoint import ADAPTER_CONFIG, ADAPTER_WEIGHTS, parse_model
from readwrite_edit.queue.finding import find_run
from readwrite_edit.recipe import Recipe, parse_recipe, recipe_text
from readwrite_edit.recipe.reading import parse_as
from readwrite_edit.runs.folder import FolderError, RunFolder
from readwrite_edit.runs.reader import read_run, run_names
from readwrite_edit.sweep.record import record_path

_MOST_NAMED = 5


@dataclass(frozen=True)
class Subject:
    """What is evaluated.

    Attributes:
        name: As the user wrote it.
        run: Its run folder; None where it is no run.
        recipe: Of the run.
        adapter: Folder of the adapter; None for a whole model.
        model: The whole model, or the base that the adapter is put on.
        base: What a whole model is compared with; None where there is nothing to compare with. The base of an
            adapter is ``model`` without it.
        weights_hash: Of the base, where the run or the adapter records it.
        dtype: Of the base in memory, as recorded; ``auto`` where nothing is.
        quantization: Of the base, as recorded.
        attn_implementation: As recorded.
        device: As recorded; None where nothing is.
    """

    name: str
    run: Path | None
    recipe: Recipe | EditRecipe | None
    adapter: Path | None
    model: ModelSource
    base: ModelSource | None
    weights_hash: str | None = None
    dtype: str = "auto"
    quantization: str | None = None
    attn_implementation: str | None = None
    device: str | None = None

    @property
    def compared(self) -> bool:
        """Whether there is a base to compare with."""
        return self.adapter is not None or self.base is not None


def find_subject(text: str, *, root: Path, base: str | None = None) -> Subject:
    """Decide what a user means.

    Args:
        text: A run folder, the name of a run under ``root`` or ``last``; an adapter folder or a Hub id of one; a model
            folder, a .gguf file, ``bundled:NAME`` or a Hub id.
        root: Folder of runs.
        base: Another place of an adapter's base, or what a whole model is compared with.

    Raises:
        FolderError: A run that has not finished, or has no adapter; a sweep.
        AdapterError: An adapter that is damaged, or is not a LoRA adapter that can be evaluated here.
        ModelError: Nothing of that name.
    """
    given = None if base is None else parse_model(base)
    place = _place(text, root)
    if RunFolder(place).state.is_file():
        return _of_run(text, place, given)
    if (place / ADAPTER_CONFIG).is_file():
        return _of_adapter(text, place, given)
    _check_no_sweep(text, place)
    model = parse_model(str(place) if place.is_dir() and text else text)
    if model.kind == "hub":
        fetched = fetch_adapter(model)
        if fetched is not None:
            return _of_adapter(text, fetched, given)
    return Subject(text, None, None, None, model, given)


def _place(text: str, root: Path) -> Path:
    """The folder that a name may mean: a path, or a run under ``root``."""
    place = Path(text).expanduser()
    named = not place.exists() and (text == "last" or text in run_names(root))
    return find_run(text, root) if named else place


def _check_no_sweep(text: str, place: Path) -> None:
    if not record_path(place).is_file():
        return
    runs = [str(place / name) for name in sorted(run_names(place))]
    more = f" and {len(runs) - _MOST_NAMED} more" if len(runs) > _MOST_NAMED else ""
    which = f"name one of its runs: {', '.join(runs[:_MOST_NAMED])}{more}" if runs else "none of its runs has begun"
    raise FolderError(f"{text} is a sweep: {which}; readwrite-edit compare {text} compares its arms")


def _of_run(text: str, place: Path, base: ModelSource | None) -> Subject:
    view, folder = read_run(place), RunFolder(place)
    if view.kind == "probe":
        raise FolderError(f"{text} is the run of a probe: it has no adapter; name a run of align or edit")
    if view.status != "finished":
        why = f" ({view.reason})" if view.reason else ""
        remedy = f"; {folder.adapter} can be named itself" if (folder.adapter / ADAPTER_CONFIG).is_file() else ""
        raise FolderError(
            f"{text}: only finished runs are evaluated, and this one's state is {view.status}{why}{remedy}"
        )
    if not (folder.adapter / ADAPTER_CONFIG).is_file():
        raise FolderError(f"{text}: this run has no adapter; name a run of align, or of an edit that was certified")
    _check_adapter(folder.adapter)
    recipe = _recipe(folder)
    options = recipe.model
    return Subject(
        text,
        place,
        recipe,
        folder.adapter,
        base or parse_model(f"{options.path}@{options.revision}" if options.revision else options.path),
        None,
        (recipe.provenance or {}).get("weights_sha256"),
        options.dtype,
        options.quantization,
        options.attn_implementation,
        options.device,
    )


def _recipe(folder: RunFolder) -> Recipe | EditRecipe:
    """The run's frozen recipe; that of an edit also holds the command that asked for it."""
    source = str(folder.recipe)
    text = recipe_text(source)
    if not is_edit_recipe(text):
        return parse_recipe(text, source=source)
    content = {key: value for key, value in yaml.safe_load(text).items() if key != "command"}
    return parse_as(EditRecipe, yaml.safe_dump(content), source=source)


def _of_adapter(text: str, folder: Path, base: ModelSource | None) -> Subject:
    """An adapter outside a run; what this project recorded beside it is used where it is there."""
    config = _check_adapter(folder)
    recorded: dict[str, Any] = read_metadata(folder)["base"] if (folder / METADATA).is_file() else {}
    where = recorded.get("source") or config.get("base_model_name_or_path")
    revision = recorded.get("revision") if recorded else config.get("revision")
    if base is None and not where:
        raise AdapterError(f"{text}: its {ADAPTER_CONFIG} names no base model: name it with --base MODEL")
    return Subject(
        text,
        None,
        None,
        folder,
        base or _named_base(text, f"{where}@{revision}" if revision else str(where)),
        None,
        recorded.get("weights_hash"),
        str(recorded.get("dtype", "auto")),
        recorded.get("quantization"),
        recorded.get("attn_implementation"),
    )


def _named_base(text: str, where: str) -> ModelSource:
    with _saying(text):
        return parse_model(where)


@contextmanager
def _saying(text: str) -> Iterator[None]:
    """Name the adapter whose own record led to a model that is not there, and the remedy."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{text} names its base: {error}; name it with --base MODEL") from error


def _check_adapter(folder: Path) -> dict[str, Any]:
    """The configuration of a LoRA adapter that changes nothing but linear layers inside the model.

    Raises:
        AdapterError: It is damaged, or something else.
    """
    path = folder / ADAPTER_CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as file:
            names = list(file.keys())
    except FileNotFoundError:
        raise AdapterError(f"{folder}: no {ADAPTER_WEIGHTS}; only adapters in safetensors are read") from None
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise AdapterError(f"the adapter in {folder} is damaged or cut short: {error}") from None
    kind = config.get("peft_type") if isinstance(config, dict) else config
    if kind != "LORA":
        raise AdapterError(f"{path}: peft_type is {kind!r}, expected 'LORA': merge the adapter, and name the model")
    odd = [name for name in names if ".lora_" not in name or "lora_embedding" in name]
    if odd or config.get("modules_to_save"):
        what = odd[0] if odd else f"modules_to_save {config['modules_to_save']}"
        raise AdapterError(f"{folder}: it holds more than LoRA factors ({what}): merge it, and name the model")
    return config
