"""What is checked and loaded before a run begins or goes on."""

from __future__ import annotations

from transformers import PreTrainedModel

from readwrite_edit.align.prepare import Preparation
from readwrite_edit.errors import DataError, ModelError, RunError
from readwrite_edit.models.fingerprint import weights_hash
from readwrite_edit.models.loading import load_as_asked
from readwrite_edit.provenance import versions_of
from readwrite_edit.recipe import Recipe, recipe_hash
from readwrite_edit.runs.folder import FolderError, RunFolder
from readwrite_edit.runs.lock import is_locked
from readwrite_edit.runs.reader import read_run

PACKAGES = ("readwrite-edit", "torch", "transformers", "peft", "trl", "accelerate", "safetensors", "datasets")


def check_resumable(folder: RunFolder) -> None:
    """Refuse what can be refused before anything is loaded or written."""
    for file in (folder.recipe, folder.state):
        if not file.is_file():
            raise FolderError(f"{folder.path} is not a run: it has no {file.name}")
    if read_run(folder.path).status == "finished" and folder.report.is_file():
        raise FolderError(f"{folder.path} is finished: see {folder.report}, or start a new run")
    if is_locked(folder.lock):
        raise RunError(f"{folder.path} is in use by another process: stop it first")


def load_base(prepared: Preparation) -> tuple[PreTrainedModel, str]:
    """The bare model of a recipe, and the hash of its weights."""
    model = load_as_asked(prepared.source, prepared.recipe.model)
    return model, weights_hash(model)


def provenance_of(recipe: Recipe, base_hash: str, data_hash: str) -> dict[str, str]:
    """Versions of the packages, and hashes of what a run is made of."""
    hashes = {"weights_sha256": base_hash, "data_sha256": data_hash, "recipe_sha256": recipe_hash(recipe)}
    return {**versions_of(PACKAGES), **hashes}


def check_unchanged(recipe: Recipe, base_hash: str, data_hash: str) -> None:
    """Refuse to go on with a run whose model or data are no longer those it began with.

    Raises:
        ModelError: The weights are others.
        DataError: The rows are others.
    """
    recorded = recipe.provenance or {}
    if recorded.get("weights_sha256") != base_hash:
        raise ModelError(f"the weights of {recipe.model.path} are no longer those that the run began with")
    check_rows(recipe, data_hash)


def check_rows(recipe: Recipe, data_hash: str) -> None:
    """Refuse rows that are no longer those that a run began with.

    Args:
        recipe: Of the run, with its provenance.
        data_hash: Of the rows as they are read now.

    Raises:
        DataError: They are others.
    """
    if (recipe.provenance or {}).get("data_sha256") != data_hash:
        files = " and ".join(filter(None, (recipe.data.path, recipe.data.eval_path)))
        raise DataError(f"the rows of {files} are no longer those that the run began with")
