"""Settings of the trajectory probe."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from readwrite_edit.probe.settings.base import POSITIONAL, TextSettings
from readwrite_edit.recipe.section import Text


class TrajectorySettings(TextSettings):
    """What ``probe trajectory`` measures."""

    KIND: ClassVar[str] = "trajectory"
    HELP: ClassVar[str] = "trajectory"

    model: Text = Field(
        description="Hub id (owner/name@revision), folder, .gguf file or bundled:NAME.", json_schema_extra=POSITIONAL
    )
