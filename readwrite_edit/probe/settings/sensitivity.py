"""Settings of the sensitivity probe."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from readwrite_edit.probe.settings.delta import DeltaSettings
from readwrite_edit.recipe.section import AsTuple, Count, Text


class SensitivitySettings(DeltaSettings):
    """What ``probe sensitivity`` varies; the other settings are those of ``probe delta``, and its starting point."""

    KIND: ClassVar[str] = "sensitivity"
    HELP: ClassVar[str] = "how the delta probe's verdict moves with its definitions"

    modules: Annotated[tuple[Text, ...], AsTuple] | None = Field(
        default=("q_proj", "k_proj", "o_proj", "down_proj"), description="Roles to measure."
    )
    ks: Annotated[tuple[Count, ...], AsTuple] = Field(
        default=(4, 16, 64), description="Dimensions of the subspaces to try."
    )
    texts: Annotated[tuple[Text, ...], AsTuple] = Field(
        default=("builtin:prose", "builtin:chat"), description="Calibration texts to try."
    )
