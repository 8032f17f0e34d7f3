"""Settings of all probes, one class a kind; nothing here imports torch."""

from __future__ import annotations

import importlib
from pathlib import Path

import yaml
from pydantic import ValidationError

from readwrite_edit.probe.settings.base import ProbeSettings
from readwrite_edit.provenance import versions_of
from readwrite_edit.runs.folder import FolderError

PROBES = ("delta", "activations", "gradients", "trajectory", "contrast", "causal", "sensitivity")
_PACKAGES = ("readwrite-edit", "torch", "transformers", "peft", "trl", "safetensors", "numpy", "scipy", "pandas")


def settings_class(kind: str) -> type[ProbeSettings]:
    """The settings class of a kind of probe."""
    module = importlib.import_module(f"readwrite_edit.probe.settings.{kind}")
    found: type[ProbeSettings] = getattr(module, f"{kind.capitalize()}Settings")
    return found


def dump_settings(settings: ProbeSettings, command: str) -> str:
    """Settings as the text of a run's ``recipe.yaml``, with the command and the versions of the packages."""
    values = {
        "probe": settings.KIND,
        "command": command,
        "settings": settings.model_dump(mode="json"),
        "provenance": versions_of(_PACKAGES),
    }
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return text


def load_settings(path: Path) -> ProbeSettings:
    """The settings frozen in a probe's ``recipe.yaml``.

    Raises:
        FolderError: The file is missing, damaged, or of no probe that this version knows.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        if values["probe"] not in PROBES:
            raise FolderError(f"{path}: no probe is named {values['probe']!r}; there are {', '.join(PROBES)}")
        return settings_class(values["probe"]).model_validate(values["settings"])
    except (OSError, yaml.YAMLError, ValidationError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise FolderError(f"{path} is not the recipe of a probe ({type(error).__name__}): start it anew") from error
