"""Settings of ``attend``: attention between two patterns, on the read side."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from readwrite_edit.edit.settings.base import Intervention, Layer
from readwrite_edit.edit.settings.sources import Prompts
from readwrite_edit.recipe.section import OneOrMany, Text


class Attend(Intervention):
    """Raise or lower the attention score between a query pattern and a key pattern."""

    KIND: ClassVar[str] = "attend"
    HELP: ClassVar[str] = "raise or lower attention between two patterns in a head"

    prompts: Annotated[tuple[Text, ...], OneOrMany(), Field(min_length=1)] = Field(
        description="Prompts in which both patterns stand, the key pattern first."
    )
    query: Text = Field(description="Text at whose last token the model looks back; 'last' is the end of the prompt.")
    key: Text = Field(description="Text at whose last token it looks.")
    layer: Layer = Field(description="Layer to edit.")
    head: Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        description="Query head, from 0; all where not given. A key head serves several query heads.",
    )
    module: Literal["q_proj", "k_proj"] = Field(default="q_proj", description="Matrix to edit.")
    change: float = Field(default=2.0, description="Wanted change of the score before the softmax; negative lowers it.")
    format: Literal["text", "chat"] = Field(
        default="text", description="text: prompts are continued; chat: they are a user's words, answered."
    )
    without: Prompts = Field(default=(), description="Prompts on which attention should stay the same.")
