"""The section adapter of a recipe: which matrices, which subspace, how wide."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from readwrite_edit.recipe.section import Count, NonNegative, OneOrMany, Positive, Section, Seed, conflict

Role = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
Basis = Literal["principal", "contrastive", "gradient", "minor", "random", "weight", "lora"]
MOST_LAYERS = 1024


def parse_layers(value: object) -> object:
    """Turn ``all``, ``3``, ``[0, 1]`` or ``"0-11,20"`` into ``"all"`` or a sorted tuple of layer numbers."""
    if value == "all":
        return value
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    layers = {layer for part in parts for layer in _range(part)}
    if not layers:
        raise _bad_layers()
    return tuple(sorted(layers))


def _range(part: object) -> range:
    match = re.fullmatch(r"\s*(\d{1,6})\s*(?:-\s*(\d{1,6})\s*)?", str(part))
    if isinstance(part, bool | float) or not match:
        raise _bad_layers()
    first, last = int(match[1]), int(match[2] or match[1])
    if not first <= last < MOST_LAYERS:
        raise _bad_layers()
    return range(first, last + 1)


def _bad_layers() -> PydanticCustomError:
    wanted = f"expected all, a list of layer numbers from 0 to {MOST_LAYERS - 1}, or ranges such as 0-11,20"
    return PydanticCustomError("layers", "{message}", {"message": wanted})


Layers = Annotated[
    Literal["all"] | tuple[int, ...],
    BeforeValidator(parse_layers, json_schema_input_type=Literal["all"] | str | int | list[int | str]),
]


def energy_instead_of_rank(value: Any) -> Any:
    """A section's plain values, without the default rank where an energy is given."""
    if isinstance(value, dict) and value.get("energy") is not None:
        return {"rank": None} | value
    return value


def refuse_both(rank: int | None, energy: float | None) -> None:
    """Refuse a rank beside an energy."""
    if rank is not None and energy is not None:
        raise conflict(["energy", "rank"], f"rank {rank} is given too; set one of the two to null")


def refuse_neither(rank: int | None, energy: float | None) -> None:
    """Refuse a section that says nothing of the rank."""
    if rank is None and energy is None:
        raise conflict(["rank", "energy"], "neither rank nor energy is given; expected one of the two")


def refuse_repeated(modules: Sequence[str]) -> None:
    """Refuse a module that is named twice."""
    if len(set(modules)) < len(modules):
        raise conflict(["modules"], "a module is named twice; expected each once")


class Contrastive(Section):
    """How the contrastive basis weighs the protected text."""

    form: Literal["generalized", "difference"] = Field(
        default="generalized",
        description="'generalized': eigenvectors of (C, C_protect + ε tr(C_protect)/d I); "
        "'difference': of C/tr(C) − β C_protect/tr(C_protect).",
    )
    epsilon: Positive = Field(
        default=1e-3, description="ε of the generalized form: smaller avoids protected directions more."
    )
    beta: NonNegative = Field(default=1.0, description="β of the difference form.")


class Adapter(Section):
    """The read-subspace adapter ΔW = B Uᵀ: U frozen from statistics, B trained."""

    modules: Annotated[tuple[Role, ...], Field(min_length=1), OneOrMany()] = Field(
        default=("q_proj", "k_proj"), description="Matrices to adapt, by role whatever the architecture calls them."
    )
    layers: Layers = Field(default="all", description="all, a list of layer numbers, or ranges such as 0-11,20.")
    basis: Basis = Field(
        default="principal",
        description="Where the adapter reads: the arm. 'lora' is plain LoRA, its A trained too.",
    )
    rank: Count | None = Field(default=16, description="Width of every adapted matrix; null where 'energy' is given.")
    energy: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="Instead of a rank: the share of the input's energy that each basis must capture."
    )
    max_rank: Count = Field(default=128, description="Upper limit of the ranks that 'energy' chooses.")
    whiten: bool = Field(
        default=False,
        description="Scale each basis to equal energy of the input along its directions: weak ones learn as fast.",
    )
    contrastive: Contrastive = Field(default=Contrastive(), description="Options of the contrastive basis.")
    gradient_rows: Count = Field(default=32, description="Training rows of the gradient that gives the gradient basis.")
    seed: Seed = Field(default=0, description="Seed of the random basis; A of plain LoRA follows train.seed.")

    @model_validator(mode="before")
    @classmethod
    def _energy_instead_of_rank(cls, value: Any) -> Any:
        return energy_instead_of_rank(value)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        refuse_both(self.rank, self.energy)
        refuse_neither(self.rank, self.energy)
        if self.basis == "lora" and self.energy is not None:
            raise conflict(["energy", "basis"], "plain LoRA (basis: lora) has no basis to measure; expected a rank")
        if self.basis == "lora" and self.whiten:
            raise conflict(
                ["whiten", "basis"], "plain LoRA (basis: lora) has no basis to scale; expected whiten: false"
            )
        refuse_repeated(self.modules)
        return self
