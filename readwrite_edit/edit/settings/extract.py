"""Settings of ``extract`` and ``project-adapter``: the part of a change that lies in chosen pathways and subspaces."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from readwrite_edit.edit.settings.base import POSITIONAL, Intervention
from readwrite_edit.recipe.adapter import (
    Layers,
    Role,
    energy_instead_of_rank,
    refuse_both,
    refuse_neither,
    refuse_repeated,
)
from readwrite_edit.recipe.section import Count, OneOrMany, Text

Roles = Annotated[tuple[Role, ...], Field(min_length=1), OneOrMany()]


class Restricted(Intervention):
    """Which part of a change to keep, and at which rank."""

    basis: Literal["principal", "minor", "none"] = Field(
        default="none",
        description="Subspace to keep: on the read side the top (principal) or bottom (minor) directions of the "
        "input, on the write side (o_proj, down_proj) those of the unembedding; none keeps all.",
    )
    k: Count = Field(default=16, description="Dimension of that subspace.")
    modules: Roles | None = Field(default=None, description="Pathways to keep; null: all that changed.")
    layers: Layers = Field(default="all", description="all, a list of layer numbers, or ranges such as 0-11,20.")
    rank: Count | None = Field(default=16, description="Highest rank of each matrix; null where 'energy' is given.")
    energy: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="Instead of a rank: the share of each projected change's energy to keep."
    )
    max_rank: Count = Field(default=128, description="Upper limit of the ranks that 'energy' chooses.")
    unrelated: bool = Field(
        default=False,
        description="Go on where the tuned weights do not resemble the model's, or the adapter names another base.",
    )

    @model_validator(mode="before")
    @classmethod
    def _energy_instead_of_rank(cls, value: Any) -> Any:
        return energy_instead_of_rank(value)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        refuse_both(self.rank, self.energy)
        refuse_repeated(self.modules or ())
        return self


class Extract(Restricted):
    """The best adapter of what a full fine-tune changed, restricted to chosen pathways and subspaces."""

    KIND: ClassVar[str] = "extract"
    HELP: ClassVar[str] = "a tuned model's change, or a part of it, as a small adapter"

    tuned: Text = Field(
        description="The tuned model: Hub id (owner/name@revision), folder or .gguf file.", json_schema_extra=POSITIONAL
    )
    modules: Roles = Field(default=("q_proj", "k_proj"), description="Pathways to keep.")

    @model_validator(mode="after")
    def _some_rank(self) -> Self:
        refuse_neither(self.rank, self.energy)
        return self


class ProjectAdapter(Restricted):
    """The part of an existing LoRA adapter that lies in chosen pathways and subspaces."""

    KIND: ClassVar[str] = "project_adapter"
    HELP: ClassVar[str] = "the same for an existing LoRA adapter"

    adapter: Text = Field(
        description="Adapter folder, run folder or Hub id of an adapter.", json_schema_extra=POSITIONAL
    )
    modules: Roles | None = Field(default=None, description="Pathways to keep; null: all that the adapter changes.")
    rank: Count | None = Field(default=None, description="Highest rank of each matrix; null: as the adapter's own.")
