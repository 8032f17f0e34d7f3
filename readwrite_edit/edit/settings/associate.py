"""Settings of ``associate``: subject + relation → target, on the write side."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from readwrite_edit.edit.settings.base import Intervention, Layer, WriteRole
from readwrite_edit.edit.settings.sources import Prompts
from readwrite_edit.recipe.section import Count, NonNegative, OneOrMany, Positive, Section, Seed, Text, conflict
from readwrite_edit.recipe.sections import Texts


class Fact(Section):
    """One association; the names of a CounterFact file are understood too."""

    prompt: Text = Field(description="Text that ends where the target follows; the subject stands in it, or {}.")
    subject: Text = Field(description="The subject, as it stands in the prompt.")
    target: Text = Field(description="What should follow; a space before it is put where the tokenizer wants one.")
    true: Text | None = Field(default=None, description="What followed before, to compare the target with.")
    paraphrases: Prompts = Field(default=(), description="Other prompts that the target should follow.")
    locality: Prompts = Field(default=(), description="Prompts on which nothing should change.")


class Associate(Intervention):
    """Let the model continue a prompt about a subject with a target."""

    KIND: ClassVar[str] = "associate"
    HELP: ClassVar[str] = "subject + relation → target: what the model says about a subject"

    facts: Text | Annotated[tuple[Fact, ...], OneOrMany()] | None = Field(
        default=None, description="Facts, or a .json or .jsonl file of them (CounterFact's names are understood)."
    )
    limit: Count | None = Field(default=None, description="Use only the first so many facts.")
    prompt: Text | None = Field(default=None, description="Short form for one fact: its prompt.")
    subject: Text | None = Field(default=None, description="Short form: its subject.")
    target: Text | None = Field(default=None, description="Short form: its target.")
    paraphrases: Prompts = Field(default=(), description="Short form: its paraphrases.")
    locality: Prompts = Field(default=(), description="Short form: prompts on which nothing should change.")
    format: Literal["text", "chat"] = Field(
        default="text", description="text: prompts are continued; chat: they are a user's words, answered."
    )
    module: WriteRole = Field(default="down_proj", description="Matrix to write into.")
    layers: Annotated[tuple[Layer, ...], OneOrMany(), Field(min_length=1)] | Literal["auto"] = Field(
        default="auto", description="Layers to write into; auto: the one that a causal trace names. Several share."
    )
    value: Literal["closed", "unembedding", "optimised"] = Field(
        default="closed",
        description="How the new output is found: closed: the least steps of a linear model of the target's log-odds, "
        "then a scalar search; unembedding: the target's own direction; optimised: ROME's gradient steps.",
    )
    margin: Positive = Field(default=2.0, description="Wanted lead of the target's logit over the runner-up, nats.")
    linearisations: Count = Field(
        default=10,
        description="Most linear models (one backward pass each) of the closed value; 1: a single one, of any length.",
    )
    trust: Positive = Field(
        default=0.5, description="How far a linear model is first trusted, in lengths of the matrix' present output."
    )
    steps: Count = Field(default=20, description="Gradient steps of the optimised value.")
    prefixes: Annotated[int, Field(ge=0, le=16)] = Field(
        default=2, description="Short sentences before the prompt that keys are averaged over, beside the bare prompt."
    )
    seed: Seed = Field(default=0, description="Seed of the prefixes.")
    form: Literal["auto", "hard", "ridge"] = Field(
        default="auto", description="hard: constraints hold exactly; ridge: MEMIT's; auto: hard for one fact."
    )
    ridge: Literal["auto"] | NonNegative = Field(
        default="auto", description="λ of the ridge form, MEMIT's weight of C; auto: a tenth of the mean kᵀC⁻¹k."
    )
    preserve: Texts = Field(
        default=(), description="Texts whose strongest input directions the edit must not touch (null-space form)."
    )
    preserve_energy: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.9, description="Share of the preserved texts' energy that those directions hold."
    )

    @model_validator(mode="after")
    def _facts_or_one(self) -> Self:
        single = [name for name in ("prompt", "subject", "target") if getattr(self, name) is not None]
        if self.facts is not None and single:
            raise conflict(["facts", *single], "expected either facts or prompt, subject and target")
        if self.facts is None and len(single) < 3:
            missing = [name for name in ("prompt", "subject", "target") if name not in single]
            why = f"missing {', '.join(missing)}; expected facts, or prompt, subject and target"
            raise conflict([*missing, "facts"], why)
        return self
