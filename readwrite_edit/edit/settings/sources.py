"""Where a direction comes from: shared by the interventions that take one."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from readwrite_edit.edit.settings.base import Layer
from readwrite_edit.recipe.section import Count, OneOrMany, Section, Text, conflict

Prompts = Annotated[tuple[Text, ...], OneOrMany()]
_OF_PROMPTS = ("format", "positions", "layer")


class Concept(Section):
    """Labelled prompts of a concept."""

    positive: Annotated[Prompts, Field(min_length=1)] = Field(description="Prompts that show the concept.")
    negative: Annotated[Prompts, Field(min_length=1)] = Field(description="Prompts that do not.")
    format: Literal["text", "chat"] = Field(
        default="text", description="text: prompts are read as they are; chat: they are a user's words, to be answered."
    )
    positions: Literal["last", "all"] = Field(
        default="last", description="Tokens of the prompts that are compared: the last one of each, or all."
    )

    @property
    def direction(self) -> Direction:
        """What tells the two kinds of prompts apart, as a direction's source."""
        return Direction(positive=self.positive, negative=self.negative, format=self.format, positions=self.positions)


class Direction(Section):
    """A direction or a small subspace of the side that the edit acts on; give exactly one source."""

    file: Text | None = Field(
        default=None, description="A .safetensors file with one tensor 'direction', shape (d,) or (k, d), rows."
    )
    positive: Prompts = Field(default=(), description="Prompts that show the concept; the difference of means is taken")
    negative: Prompts = Field(default=(), description="Prompts that do not, to go with 'positive'.")
    principal: Count | None = Field(
        default=None, description="The top so many principal directions of what the matrix reads, or writes."
    )
    prediction: Count | None = Field(default=None, description="The top so many prediction directions.")
    token: Text | None = Field(default=None, description="A token, such as ' yes': its centred unembedding direction.")
    format: Literal["text", "chat"] = Field(
        default="text", description="text: prompts are read as they are; chat: they are a user's words, to be answered."
    )
    positions: Literal["last", "all"] = Field(
        default="last", description="Tokens of the prompts that are compared: the last one of each, or all."
    )
    layer: Layer | None = Field(
        default=None,
        description="Take the difference of means from the residual stream after this layer for all matrices; "
        "null: each matrix has its own.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in ("file", "principal", "prediction", "token") if getattr(self, name) is not None]
        given += ["positive"] if self.positive or self.negative else []
        if len(given) != 1:
            named = ", ".join(given) or "none"
            raise conflict(
                given or ["token", "file", "positive", "negative", "principal", "prediction"],
                f"given: {named}; expected exactly one of file, positive with negative, principal, prediction, token",
            )
        if bool(self.positive) != bool(self.negative):
            raise conflict(["positive", "negative"], "expected prompts on both sides: positive and negative")
        return self

    @model_validator(mode="after")
    def _options_of_prompts(self) -> Self:
        changed = [name for name in _OF_PROMPTS if getattr(self, name) != type(self).model_fields[name].default]
        if changed and not self.positive:
            raise conflict(
                changed, f"{', '.join(changed)} say how prompts are compared; expected positive and negative"
            )
        return self
