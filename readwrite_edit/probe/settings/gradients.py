"""Settings of the gradients probe."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from readwrite_edit.probe.settings.base import POSITIONAL, Device, ProbeSettings
from readwrite_edit.recipe.objective import LossType
from readwrite_edit.recipe.section import AsTuple, Count, Positive, Seed, Text, conflict

ALIASES = {"dpo": "sigmoid"}
ObjectiveName = Literal["dpo", LossType]
Role = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class GradientsSettings(ProbeSettings):
    """What ``probe gradients`` measures."""

    KIND: ClassVar[str] = "gradients"
    HELP: ClassVar[str] = (
        "covariance of the gradient at the outputs of matrices, the same rows under several objectives"
    )

    model: Text = Field(
        description="Hub id (owner/name@revision), folder, .gguf file or bundled:NAME.", json_schema_extra=POSITIONAL
    )
    data: Text = Field(
        default="builtin:concise", description="Preference rows: builtin:concise, .jsonl, .parquet, .csv or a Hub id."
    )
    split: Text = Field(default="train", description="Split of a Hub data set.")
    rows: Count = Field(default=64, description="Rows to take, drawn with the seed.")
    objective: Annotated[tuple[ObjectiveName, ...], AsTuple, Field(min_length=1)] = Field(
        default=("sft", "dpo"),
        description="Objectives to put side by side: sft (cross-entropy of the chosen answer), dpo (that is sigmoid), "
        "or any other DPO loss type of TRL.",
    )
    reference: Text | None = Field(
        default=None, description="Reference of the preference losses, a model as above; MODEL itself by default."
    )
    beta: Positive = Field(default=0.1, description="β of the preference losses.")
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="Of the losses robust (below 0.5) and exo_pair (above 0)."
    )
    positions: Literal["all", "completion"] = Field(
        default="all", description="Tokens to count: all, or those that predict a token of an answer."
    )
    modules: Annotated[tuple[Role, ...], AsTuple, Field(min_length=1)] = Field(
        default=("q_proj", "k_proj", "o_proj", "down_proj"), description="Roles whose outputs to measure."
    )
    layers: Annotated[tuple[int, ...], AsTuple] | None = Field(
        default=None, description="Layers to measure, from 0; all by default."
    )
    all_inputs: bool = Field(
        default=False, description="Measure the inputs of o_proj and down_proj too: the read side of their gradients."
    )
    k: Count = Field(default=16, description="Directions of the subspaces that the table reports.")
    curve: Count = Field(default=256, description="Directions of the cumulative curves and eigenvalues of the spectra.")
    max_length: Count = Field(default=256, description="Longest sequence in tokens; the rest is cut.")
    batch_size: Count = Field(default=4, description="Pairs in a batch: a matter of memory, not of the result.")
    seed: Seed = Field(default=0, description="Seed of the rows that are drawn.")
    device: Device | None = Field(default=None, description="cpu or cuda; by default a GPU where there is one.")

    @property
    def losses(self) -> dict[str, str]:
        """Objective as named to TRL's loss type, in the order given."""
        return {name: ALIASES.get(name, name) for name in self.objective}

    @model_validator(mode="after")
    def _possible(self) -> Self:
        losses = list(self.losses.values())
        if len(set(losses)) < len(self.objective):
            raise conflict(["objective"], f"objective: {', '.join(self.objective)} names one twice; expected each once")
        if "exo_pair" in losses and self.label_smoothing == 0:
            raise conflict(["label_smoothing"], "objective exo_pair expects label_smoothing above 0, such as 1e-3")
        if "robust" in losses and self.label_smoothing >= 0.5:
            raise conflict(["label_smoothing"], "objective robust expects label_smoothing below 0.5")
        if self.max_length < 2:
            raise conflict(["max_length"], "max_length expects at least 2: a token and the one that it predicts")
        return self
