"""Settings of the delta probe."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from readwrite_edit.probe.settings.base import POSITIONAL, TextSettings
from readwrite_edit.recipe.section import AsTuple, Count, Text


class DeltaSettings(TextSettings):
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
    modules: Annotated[tuple[Text, ...], AsTuple] | None = Field(
        default=None, description="Roles to measure, such as q_proj,o_proj; all by default."
    )
    layers: Annotated[tuple[int, ...], AsTuple] | None = Field(
        default=None, description="Layers to measure, from 0; all by default."
    )
    k: Count = Field(default=16, description="Directions of the subspaces that the table reports.")
    curve: Count | None = Field(
        default=None, description="Directions of the cumulative curves; all up to width 1024, else 256."
    )
    statistics: Text | None = Field(
        default=None, description="Statistics file of the base (probe activations writes one); else collected now."
    )
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
        default=None, description="Type whose rounding step the delta is compared with; the tuned file's by default."
    )
    spectra: Literal["auto", "exact", "lanczos", "none"] = Field(
        default="auto", description="Stable and effective rank: exact up to 1024 on the shorter side, else lanczos."
    )
    unrelated: bool = Field(default=False, description="Measure even where TUNED does not descend from BASE.")
