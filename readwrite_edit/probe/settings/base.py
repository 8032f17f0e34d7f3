"""The settings of a probe: strict like a recipe, and frozen in the run folder as ``recipe.yaml``.

Nothing here imports torch: the command line is made from these classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationError

from readwrite_edit.errors import RecipeError
from readwrite_edit.recipe.section import Count, Section, Seed, Text

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
        try:
            return cls.model_validate({name: value for name, value in values.items() if value is not None})
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, item['loc'])) or cls.KIND}: {item['msg']}" for item in error.errors()]
            raise RecipeError("\n".join(problems)) from error


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
