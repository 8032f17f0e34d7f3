"""Settings of ``steer``: a direction added where a pattern is present, on the write side."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from readwrite_edit.edit.settings.base import Intervention, Layer, WriteRole
from readwrite_edit.edit.settings.sources import Direction, Prompts
from readwrite_edit.recipe.section import OneOrMany, Text


class Steer(Intervention):
    """Add a constant multiple of a direction where a key pattern is present."""

    KIND: ClassVar[str] = "steer"
    HELP: ClassVar[str] = "add a multiple of a direction where a pattern is present"

    direction: Direction = Field(description="What to add.")
    prompts: Annotated[tuple[Text, ...], OneOrMany(), Field(min_length=1)] = Field(
        description="Prompts in which the pattern stands."
    )
    key: Text | None = Field(
        default=None, description="The pattern: text at whose last token it acts; by default the end of the prompts."
    )
    without: Prompts = Field(default=(), description="Prompts without the pattern, on which nothing should change.")
    format: Literal["text", "chat"] = Field(
        default="text", description="text: prompts are continued; chat: they are a user's words, answered."
    )
    strength: float = Field(
        default=4.0,
        description="Length of what is added, in units of what the matrix writes at the pattern (root mean square); "
        "negative for the opposite direction.",
    )
    module: WriteRole = Field(default="down_proj", description="Matrix to edit.")
    layer: Layer = Field(description="Layer to edit.")
