"""Settings of the sensitivity probe."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from readwrite_edit.probe.settings.base import POSITIONAL, TextSettings
from readwrite_edit.recipe.section import Text


class SensitivitySettings(TextSettings):
    """What ``probe sensitivity`` measures."""

    KIND: ClassVar[str] = "sensitivity"
    HELP: ClassVar[str] = "sensitivity"

    model: Text = Field(
        description="Hub id (owner/name@revision), folder, .gguf file or bundled:NAME.", json_schema_extra=POSITIONAL
    )
