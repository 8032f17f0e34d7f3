"""Settings of the trajectory probe."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from readwrite_edit.probe.settings.base import POSITIONAL, GeometrySettings
from readwrite_edit.probe.settings.delta import DeltaSettings
from readwrite_edit.recipe.section import AsTuple, Text


class TrajectorySettings(GeometrySettings):
    """Which checkpoints ``probe trajectory`` compares, and against what."""

    KIND: ClassVar[str] = "trajectory"
    HELP: ClassVar[str] = "curves over training: each checkpoint's delta to the first and to the one before"

    checkpoints: Annotated[tuple[Text, ...], AsTuple, Field(min_length=1)] = Field(
        description="In the order of training: Hub revisions (owner/name@step1000), model or adapter folders, a glob "
        "(in quotes or not; sorted by the number at the end), or one run folder.",
        json_schema_extra=POSITIONAL,
    )
    against: Literal["both", "first", "previous"] = Field(
        default="both", description="What each checkpoint's delta is taken to."
    )
    basis: Text = Field(
        default="first", description="Checkpoint that the subspaces are of, first or last; or a statistics file."
    )
    discard: bool = Field(
        default=False, description="Delete from the Hub's cache what this probe downloaded, once it is measured."
    )

    def as_delta(self) -> DeltaSettings:
        """The same choices for one pair of checkpoints; only as many directions as are reported."""
        shared = {name: getattr(self, name) for name in DeltaSettings.model_fields if hasattr(self, name)}
        statistics = None if self.basis in ("first", "last") else self.basis
        names = {"base": self.checkpoints[0], "statistics": statistics, "curve": self.k}
        return DeltaSettings.model_validate(shared | names)
