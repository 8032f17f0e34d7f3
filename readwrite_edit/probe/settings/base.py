"""The settings of a probe: strict like a recipe, and frozen in the run folder as ``recipe.yaml``.

Nothing here imports torch: the command line is made from these classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from readwrite_edit.recipe.problems import Origin
from readwrite_edit.recipe.reading import check_values
from readwrite_edit.recipe.section import AsTuple, Count, Section, Seed, Text
from readwrite_edit.recipe.yaml_nodes import Path

POSITIONAL: Any = {"positional": True}
Device = Annotated[str, Field(pattern=r"^(cpu|mps|cuda(:\d+)?)$")]


class ProbeSettings(Section):
    """What every probe's settings have in common.

    Each field is an option of the command line, ``--field-name``, with the
    field's description as its help; one with ``json_schema_extra=POSITIONAL``
    is a positional argument. A tuple takes its items separated by commas, or
    one a word where it is positional.
    """

    KIND: ClassVar[str]
    HELP: ClassVar[str]

    @classmethod
    def checked(cls, values: Mapping[str, Any]) -> Any:
        """Settings from plain values; those that are None take their default.

        Raises:
            RecipeError: Every problem, one a line.
        """
        given = {name: value for name, value in values.items() if value is not None}
        origins: dict[Path, Origin] = {(): Origin.option(cls.KIND, -1)}
        origins.update({(name,): Origin.option(name, position) for position, name in enumerate(cls.model_fields)})
        return check_values(cls, given, origins)


class TextSettings(ProbeSettings):
    """Settings of probes that run a model over a text."""

    text: Text = Field(
        default="builtin:prose", description="Text to read: builtin:prose, builtin:chat, a .txt or .jsonl file."
    )
    text_format: Literal["text", "chat"] | None = Field(
        default=None, description="How to read the text; by its path where not given."
    )
    tokens: Count = Field(default=8192, description="Tokens to read of the text.")
    max_length: Count = Field(default=256, description="Longest sequence in tokens.")
    batch_size: Count = Field(default=8, description="Sequences in a forward pass.")
    first_position: bool = Field(default=True, description="Count first positions of sequences (attention sinks).")
    seed: Seed = Field(default=0, description="Seed of every random choice.")
    device: Device | None = Field(default=None, description="cpu or cuda; by default a GPU where there is one.")


class GeometrySettings(TextSettings):
    """Settings of probes that measure deltas against subspaces."""

    modules: Annotated[tuple[Text, ...], AsTuple] | None = Field(
        default=None, description="Roles to measure, such as q_proj,o_proj; all by default."
    )
    layers: Annotated[tuple[int, ...], AsTuple] | None = Field(
        default=None, description="Layers to measure, from 0; all by default."
    )
    k: Count = Field(default=16, description="Directions of the subspaces that the table reports.")
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
        default="auto",
        description="Stable and effective rank. auto: exact up to 1024 on the shorter side, else lanczos up to "
        "20 million entries; exact and lanczos: up to 80 million, for which more than 1 GiB is needed.",
    )
