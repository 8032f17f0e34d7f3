"""Whether a recipe's model can be what its name says, as far as that is known without loading it or asking the Hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from readwrite_edit.errors import ModelError
from readwrite_edit.models.source import ModelSource, parse_source


def named_model(values: Mapping[str, Any]) -> ModelSource | None:
    """What the section ``model`` of a recipe names; None where it names nothing, which the recipe's rules tell.

    Args:
        values: The recipe as plain values.

    Raises:
        ModelError: There can be no such model.
    """
    section = values.get("model")
    known = section if isinstance(section, Mapping) else {}
    path, revision = known.get("path"), known.get("revision")
    if not isinstance(path, str) or not path.strip():
        return None
    source = parse_source(path, revision if isinstance(revision, str) else None)
    if source.kind == "folder" and not (Path(source.location) / "config.json").is_file():
        raise ModelError(f"{path}: a folder without config.json, so no model; name the folder that has it")
    return source
