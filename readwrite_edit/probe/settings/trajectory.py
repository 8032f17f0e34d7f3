"""Settings of the trajectory probe."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from readwrite_edit.probe.settings.base import POSITIONAL, TextSettings
from readwrite_edit.probe.settings.delta import DeltaSettings
from readwrite_edit.recipe.section import AsTuple, Count, Text


class TrajectorySettings(TextSettings):
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
    modules: Annotated[tuple[Text, ...], AsTuple] | None = Field(
        default=None, description="Roles to measure, such as q_proj,o_proj; all by default."
    )
    layers: Annotated[tuple[int, ...], AsTuple] | None = Field(
        default=None, description="Layers to measure, from 0; all by default."
    )
    k: Count = Field(default=16, description="Directions of the subspaces.")
    centred: bool = Field(default=False, description="Take the mean out of the second moments.")
    unit_norm: bool = Field(default=False, description="Scale each input to norm 1 before its second moment.")
    all_inputs: bool = Field(default=False, description="Collect the inputs of o_proj and down_proj too.")
    gradients: Text | None = Field(
        default=None, description="Output-gradient statistics (probe gradients writes them): the write energy null."
    )
    centred_unembedding: bool = Field(default=True, description="Centre the unembedding over the vocabulary.")
    gain: bool = Field(default=True, description="Fold the final norm's gain into the unembedding.")
    frequency: Text | None = Field(
        default=None, description="Weight tokens of the unembedding by their frequency in this text."
    )
    step_dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        default=None, description="Type whose rounding step deltas are compared with; the files' own by default."
    )
    spectra: Literal["auto", "exact", "lanczos", "none"] = Field(
        default="auto", description="Stable and effective rank: exact up to 1024 on the shorter side, else lanczos."
    )

    def as_delta(self) -> DeltaSettings:
        """The same choices for one pair of checkpoints; only as many directions as are reported."""
        shared = {name: getattr(self, name) for name in DeltaSettings.model_fields if hasattr(self, name)}
        statistics = None if self.basis in ("first", "last") else self.basis
        names = {"base": self.checkpoints[0], "statistics": statistics, "curve": self.k}
        return DeltaSettings.model_validate(shared | names)
