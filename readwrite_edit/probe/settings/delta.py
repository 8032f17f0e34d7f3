"""Settings of the delta probe."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from readwrite_edit.probe.settings.base import POSITIONAL, GeometrySettings
from readwrite_edit.recipe.section import Count, Text


class DeltaSettings(GeometrySettings):
    """What ``probe delta`` compares, and against what."""

    KIND: ClassVar[str] = "delta"
    HELP: ClassVar[str] = "where did training write: geometry of the difference of two checkpoints"

    base: Text = Field(
        description="Hub id (owner/name@revision), folder, .gguf file, bundled:NAME; or a run or adapter alone.",
        json_schema_extra=POSITIONAL,
    )
    tuned: Text | None = Field(
        default=None,
        description="The same, or an adapter or run on BASE; left out where BASE is a run or an adapter.",
        json_schema_extra=POSITIONAL,
    )
    curve: Count | None = Field(
        default=None, description="Directions of the cumulative curves; all up to width 1024, else 256."
    )
    statistics: Text | None = Field(
        default=None, description="Statistics file of the base (probe activations writes one); else collected now."
    )
    unrelated: bool = Field(default=False, description="Measure even where TUNED does not descend from BASE.")
