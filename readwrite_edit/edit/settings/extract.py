"""Settings of ``extract`` and ``project-adapter``: the part of a change that lies in chosen pathways and subspaces."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from readwrite_edit.edit.settings.base import POSITIONAL, Intervention
from readwrite_edit.recipe.adapter import Layers, Role
from readwrite_edit.recipe.section import Count, OneOrMany, Text

Roles = Annotated[tuple[Role, ...], Field(min_length=1), OneOrMany()]


class _Restricted(Intervention):
    basis: Literal["principal", "minor", "none"] = Field(
        default="none",
        description="Subspace to keep: on the read side of the input's directions, on the write side (o_proj, "
        "down_proj) of the prediction subspace; none keeps all.",
    )
    k: Count = Field(default=16, description="Its dimension.")
    layers: Layers = Field(default="all", description="all, a list of layer numbers, or ranges such as 0-11,20.")
    rank: Count | None = Field(default=16, description="Rank of the adapter; null: as 'energy' needs.")
    energy: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="Share of each projected delta's energy to keep, within rank or max_rank."
    )
    max_rank: Count = Field(default=128, description="Upper limit of the ranks that 'energy' chooses.")


class Extract(_Restricted):
    """The best adapter of what a full fine-tune changed, restricted to chosen pathways and subspaces."""

    KIND: ClassVar[str] = "extract"
    HELP: ClassVar[str] = "a tuned model's change, or a part of it, as a small adapter"

    tuned: Text = Field(
        description="The tuned model: Hub id (owner/name@revision), folder or .gguf file.", json_schema_extra=POSITIONAL
    )
    modules: Roles = Field(default=("q_proj", "k_proj"), description="Pathways to keep.")


class ProjectAdapter(_Restricted):
    """The part of an existing LoRA adapter that lies in chosen pathways and subspaces."""

    KIND: ClassVar[str] = "project_adapter"
    HELP: ClassVar[str] = "the same for an existing LoRA adapter"

    adapter: Text = Field(
        description="Adapter folder, run folder or Hub id of an adapter.", json_schema_extra=POSITIONAL
    )
    modules: Roles | None = Field(default=None, description="Pathways to keep; null: all that the adapter changes.")
    rank: Count | None = Field(default=None, description="Rank of the result; null: as the adapter's own.")
