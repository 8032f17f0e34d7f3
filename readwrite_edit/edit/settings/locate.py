"""Settings of ``edit locate``: a causal trace on the user's prompts."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from readwrite_edit.edit.settings.sources import Prompts
from readwrite_edit.probe.settings.base import POSITIONAL, Device, ProbeSettings
from readwrite_edit.recipe.section import Count, OneOrMany, Positive, Seed, Text, conflict

Kind = Literal["hidden", "mlp", "attention"]


class LocateSettings(ProbeSettings):
    """Which prompts ``edit locate`` traces, and what it puts back into the noised runs."""

    KIND: ClassVar[str] = "locate"
    HELP: ClassVar[str] = "causal trace: which layers carry what the model says about a subject"

    model: Text = Field(
        description="Hub id (owner/name@revision), folder, .gguf file or bundled:NAME.", json_schema_extra=POSITIONAL
    )
    prompt: Annotated[tuple[Text, ...], OneOrMany(), Field(min_length=1)] = Field(
        description="Prompts that end where the model's answer follows; the subject stands in each, or {}."
    )
    subject: Annotated[tuple[Text, ...], OneOrMany(), Field(min_length=1)] = Field(
        description="The subject as it stands in the prompt: one for all prompts, or one for each."
    )
    target: Prompts = Field(
        default=(),
        description="Whose probability is followed: one for all prompts, or one for each; by default the token that "
        "the model itself finds likeliest.",
    )
    noise: Positive = Field(
        default=3.0, description="Noise on the subject's embeddings, in standard deviations of their entries."
    )
    samples: Count = Field(default=5, description="Draws of the noise.")
    kinds: Annotated[tuple[Kind, ...], OneOrMany(), Field(min_length=1)] = Field(
        default=("hidden", "mlp", "attention"),
        description="What is put back: a layer's hidden state, its MLP's output, its attention's output.",
    )
    window: Count = Field(
        default=1, description="Layers whose MLP or attention output is put back together, around each."
    )
    seed: Seed = Field(default=0, description="Seed of the noise.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="float32", description="Type to load the weights in; small effects drown in less than float32."
    )
    device: Device | None = Field(default=None, description="cpu or cuda; by default a GPU where there is one.")

    @model_validator(mode="after")
    def _one_for_all_or_one_each(self) -> Self:
        for name in ("subject", "target"):
            found = len(getattr(self, name))
            if found not in ({0} if name == "target" else set()) | {1, len(self.prompt)}:
                raise conflict([name], f"{found} given for {len(self.prompt)} prompts: expected one, or one for each")
        return self
