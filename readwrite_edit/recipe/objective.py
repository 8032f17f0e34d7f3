"""The section objective of a recipe: the preference loss, by TRL's names."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from readwrite_edit.recipe.section import AsTuple, Fraction, OneOrMany, Positive, Section, conflict

LossType = Literal[
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
    "sigmoid_norm",
]
F_DIVERGENCE_LOSSES = frozenset({"sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft"})
SORTING_LOSSES = frozenset({"aot", "aot_unpaired"})


class Objective(Section):
    """What is optimised."""

    name: Literal["dpo"] = Field(default="dpo", description="The trainer: dpo.")
    loss_type: Annotated[tuple[LossType, ...], Field(min_length=1), OneOrMany()] = Field(
        default=("sigmoid",), description="One of TRL's DPO losses, or a list of them to be summed."
    )
    loss_weights: Annotated[tuple[float, ...], AsTuple] | None = Field(
        default=None, description="One weight for each loss of loss_type; null: 1 each."
    )
    beta: Positive = Field(default=0.1, description="How strongly the policy is held to the reference (τ of IPO).")
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="Robust DPO: probability of a flipped label, below 0.5. EXO: its ε, above 0."
    )
    f_divergence_type: Literal["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"] = Field(
        default="reverse_kl", description="Divergence between policy and reference (f-DPO)."
    )
    f_alpha_divergence_coef: float = Field(default=0.5, description="α of alpha_divergence.")
    ld_alpha: Fraction | None = Field(
        default=None, description="α of LD-DPO: weight of tokens beyond the shorter answer."
    )
    use_weighting: bool = Field(default=False, description="WPO: weight pairs by the policy's own probability of them.")
    discopop_tau: Positive = Field(default=0.05, description="Temperature of the discopop loss.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        losses: set[str] = set(self.loss_type)
        if self.loss_weights is not None and len(self.loss_weights) != len(self.loss_type):
            raise conflict(["loss_weights", "loss_type"], f"expected {len(self.loss_type)}, one weight a loss")
        if "exo_pair" in losses and self.label_smoothing == 0:
            raise conflict(["label_smoothing", "loss_type"], "loss exo_pair expects a value above 0, such as 1.0e-3")
        if "robust" in losses and self.label_smoothing >= 0.5:
            raise conflict(["label_smoothing", "loss_type"], "loss robust expects a value below 0.5")
        self._check_supported(losses)
        return self

    def _check_supported(self, losses: set[str]) -> None:
        rest = ", ".join(sorted(losses - F_DIVERGENCE_LOSSES))
        if self.f_divergence_type != "reverse_kl" and rest:
            raise conflict(["f_divergence_type", "loss_type"], f"loss {rest} has no f-divergence; expected reverse_kl")
        if self.use_weighting and losses & SORTING_LOSSES:
            named = ", ".join(sorted(losses & SORTING_LOSSES))
            raise conflict(["use_weighting", "loss_type"], f"loss {named} sorts its samples; expected false")
