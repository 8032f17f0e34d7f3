"""Where a direction comes from: shared by the interventions that take one."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from readwrite_edit.recipe.section import Count, OneOrMany, Section, Text, conflict

Prompts = Annotated[tuple[Text, ...], OneOrMany()]


class Direction(Section):
    """A direction or a small subspace of the side that the edit acts on; give exactly one source."""

    file: Text | None = Field(
        default=None, description="A .safetensors file with one tensor 'direction', shape (d,) or (k, d), rows."
    )
    positive: Prompts = Field(default=(), description="Prompts that show the concept; the difference of means is taken")
    negative: Prompts = Field(default=(), description="Prompts that do not, to go with 'positive'.")
    principal: Count | None = Field(default=None, description="The top so many principal directions of the input.")
    prediction: Count | None = Field(default=None, description="The top so many prediction directions.")
    token: Text | None = Field(default=None, description="A token, such as ' yes': its centred unembedding direction.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in ("file", "principal", "prediction", "token") if getattr(self, name) is not None]
        given += ["positive"] if self.positive or self.negative else []
        if len(given) != 1:
            named = ", ".join(given) or "none"
            raise conflict(
                given or ["token"],
                f"given: {named}; expected exactly one of file, positive with negative, principal, prediction, token",
            )
        if bool(self.positive) != bool(self.negative):
            raise conflict(["positive", "negative"], "expected prompts on both sides: positive and negative")
        return self
