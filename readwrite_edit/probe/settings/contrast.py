"""Settings of the contrast probe."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from readwrite_edit.probe.settings.base import POSITIONAL, Device, ProbeSettings
from readwrite_edit.recipe.objective import LossType
from readwrite_edit.recipe.section import AsTuple, Count, Fraction, Positive, Seed, Text, conflict

ArmName = Annotated[str, Field(pattern=r"^[0-9.]+:[0-9]+$")]


class ContrastSettings(ProbeSettings):
    """Which arms ``probe contrast`` trains, and what it measures of them."""

    KIND: ClassVar[str] = "contrast"
    HELP: ClassVar[str] = "graded control: short full-parameter arms from cross-entropy to a preference loss"

    model: Text = Field(
        description="The start: Hub id (owner/name@revision), folder, .gguf file or bundled:NAME.",
        json_schema_extra=POSITIONAL,
    )
    data: Text = Field(description="Preference rows: builtin:concise, a .jsonl, .parquet or .csv file or a Hub id.")
    split: Text = Field(default="train", description="Split of a Hub data set.")
    grades: Annotated[tuple[Fraction, ...], AsTuple, Field(min_length=2)] = Field(
        default=(0.0, 0.25, 0.5, 0.75, 1.0),
        description="Shares g of the preference loss in (1 - g) cross-entropy of the chosen answer + g preference.",
    )
    seeds: Annotated[tuple[Seed, ...], AsTuple, Field(min_length=1)] = Field(
        default=(0, 1, 2), description="Each draws the rows and their order for one arm of every grade."
    )
    loss: LossType = Field(default="sigmoid", description="The preference loss, by TRL's name; sigmoid is DPO.")
    beta: Positive = Field(default=0.1, description="How strongly the preference loss holds to the start.")
    steps: Count = Field(default=20, description="Optimiser steps of each arm.")
    batch_size: Count = Field(default=4, description="Pairs in a step.")
    learning_rate: Positive = Field(default=1e-5, description="Of every step.")
    optimizer: Literal["adamw", "sgd"] = Field(
        default="adamw", description="adamw scales every entry by its own gradients, which flattens a delta; sgd not."
    )
    max_length: Count = Field(default=96, description="Longest sequence in tokens; rows with a longer prompt drop out.")
    eval_rows: Count = Field(default=16, description="Rows held out to see what each arm learned.")
    modules: Annotated[tuple[Text, ...], AsTuple] | None = Field(
        default=None, description="Roles to measure; by default those of q_proj,k_proj,o_proj,down_proj there are."
    )
    layers: Annotated[tuple[int, ...], AsTuple] | None = Field(
        default=None, description="Layers to measure, from 0; all by default."
    )
    k: Count = Field(default=16, description="Directions of the subspaces.")
    text: Text | None = Field(
        default=None, description="Text of the read bases: builtin:prose, a file …; by default the training rows."
    )
    text_format: Literal["text", "chat"] | None = Field(
        default=None, description="How to read the text; by its path where not given."
    )
    tokens: Count = Field(default=8192, description="Tokens to read for the read bases.")
    centred: bool = Field(default=False, description="Take the mean out of the second moments.")
    first_position: bool = Field(default=True, description="Count first positions of sequences (attention sinks).")
    keep: bool = Field(default=False, description="Keep each arm's model as a folder, RUN/arms/grade-1-seed-0 ….")
    keep_arms: Annotated[tuple[ArmName, ...], AsTuple] = Field(
        default=(), description="Keep these alone, as GRADE:SEED, such as 0:0,1:0."
    )
    data_seed: Seed = Field(default=0, description="Seed of the held-out rows and of the sample of text.")
    device: Device | None = Field(default=None, description="cpu or cuda; by default a GPU where there is one.")

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for name in ("grades", "seeds"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise conflict([name], f"{', '.join(f'{value:g}' for value in values)}: each may be named once")
        arms = {(grade, seed) for grade in self.grades for seed in self.seeds}
        unknown = [name for name in self.keep_arms if parse_arm(name) not in arms]
        if unknown:
            raise conflict(["keep_arms"], f"{unknown[0]} is no arm: expected GRADE:SEED of grades and seeds")
        return self

    def keeps(self, grade: float, seed: int) -> bool:
        """Whether an arm's model is kept."""
        return self.keep or (grade, seed) in map(parse_arm, self.keep_arms)


def parse_arm(name: str) -> tuple[float, int]:
    """Grade and seed of ``GRADE:SEED``; a grade that is no number is none of the arms'."""
    grade, _, seed = name.partition(":")
    return float(grade) if grade.replace(".", "", 1).isdigit() else -1.0, int(seed)
