"""Settings of ``project``: remove, keep or scale a direction, on either side."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from readwrite_edit.edit.settings.base import Intervention
from readwrite_edit.edit.settings.sources import Concept, Direction
from readwrite_edit.recipe.adapter import Layers, Role
from readwrite_edit.recipe.section import Count, OneOrMany, conflict


class Project(Intervention):
    """Remove, keep or scale a direction or a small subspace of what matrices write or read."""

    KIND: ClassVar[str] = "project"
    HELP: ClassVar[str] = "remove, keep or scale a direction, or erase a labelled concept (LEACE)"

    direction: Direction | None = Field(default=None, description="Where the direction comes from.")
    concept: Concept | None = Field(default=None, description="Labelled prompts of a concept to erase by LEACE.")
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
        default=True,
        description="Fold what does not depend on the input (LEACE's mean, biases) into a bias of the adapter "
        "(PEFT's lora_bias); false leaves it out.",
    )
    in_turn: bool = Field(
        default=True,
        description="LEACE: fit each layer on what the model computes with the layers below it erased already, one "
        "pass a layer and side; false: all on the unedited model, in one pass.",
    )
    max_rank: Count = Field(
        default=256, description="Refuse changes of a higher rank; 'keep' has the rank of all that it does not keep."
    )

    @model_validator(mode="after")
    def _one_method(self) -> Self:
        if (self.direction is None) == (self.concept is None):
            raise conflict(["direction", "concept"], "expected one of direction and concept")
        if self.concept is not None and self.action != "remove":
            raise conflict(["action", "concept"], f"LEACE erases; expected action remove, not {self.action}")
        return self

    @model_validator(mode="after")
    def _factor_of_scale(self) -> Self:
        if self.action != "scale" and self.factor != type(self).model_fields["factor"].default:
            raise conflict(["factor", "action"], f"factor {self.factor:g} is of action scale; expected that action")
        if self.action == "scale" and self.factor == 1:
            raise conflict(["factor"], "a factor of 1 changes nothing; expected another number")
        return self
