"""Settings of ``project``: remove, keep or scale a direction, on either side."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from readwrite_edit.edit.settings.base import Intervention
from readwrite_edit.edit.settings.sources import Direction
from readwrite_edit.recipe.adapter import Layers, Role
from readwrite_edit.recipe.section import OneOrMany, conflict


class Project(Intervention):
    """Remove, keep or scale a direction or a small subspace of what matrices write or read."""

    KIND: ClassVar[str] = "project"
    HELP: ClassVar[str] = "remove, keep or scale a direction, or erase a labelled concept (LEACE)"

    direction: Direction | None = Field(default=None, description="Where the direction comes from.")
    concept: Direction | None = Field(
        default=None, description="Labelled prompts (positive, negative) of a concept to erase by LEACE."
    )
    action: Literal["remove", "keep", "scale"] = Field(
        default="remove", description="remove: (I − R Rᵀ); keep: R Rᵀ; scale: the part along R times 'factor'."
    )
    factor: float = Field(default=0.5, description="Of 'scale'.")
    modules: Annotated[tuple[Role, ...], Field(min_length=1), OneOrMany()] = Field(
        default=("o_proj", "down_proj"),
        description="Matrices to edit: o_proj and down_proj lose what they write, the others what they read.",
    )
    layers: Layers = Field(default="all", description="all, a list of layer numbers, or ranges such as 0-11,20.")
    constant: bool = Field(
        default=True, description="LEACE: fold its constant into a bias of the adapter (PEFT's lora_bias)."
    )

    @model_validator(mode="after")
    def _one_method(self) -> Self:
        if (self.direction is None) == (self.concept is None):
            raise conflict(["direction", "concept"], "expected one of direction and concept")
        if self.concept is not None and not self.concept.positive:
            raise conflict(["concept"], "LEACE needs labelled prompts: expected concept.positive and concept.negative")
        return self


class Steer(Intervention):
    """Add a constant multiple of a direction where a key pattern is present."""

    KIND: ClassVar[str] = "steer"
    HELP: ClassVar[str] = "add a multiple of a direction where a pattern is present"

    direction: Direction = Field(description="What to add.")
    prompts: Annotated[tuple[str, ...], OneOrMany(), Field(min_length=1)] = Field(
        description="Prompts in which the pattern stands."
    )
    key: str | None = Field(
        default=None, min_length=1, description="The pattern: text at whose last token it acts; the end of the prompts."
    )
    without: Annotated[tuple[str, ...], OneOrMany()] = Field(
        default=(), description="Prompts without the pattern, on which nothing should change."
    )
    strength: float = Field(default=4.0, description="Length of what is added, in units of the output's usual length.")
    module: Literal["o_proj", "down_proj"] = Field(default="down_proj", description="Matrix to edit.")
    layer: Annotated[int, Field(ge=0, lt=1024)] = Field(description="Layer to edit.")
