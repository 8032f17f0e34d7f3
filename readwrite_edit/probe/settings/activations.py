"""Settings of the activations probe."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from readwrite_edit.probe.settings.base import POSITIONAL, TextSettings
from readwrite_edit.recipe.section import AsTuple, Count, Fraction, Text

SiteKind = Literal["attention_input", "mlp_input", "attention_output", "mlp_hidden"]


class ActivationsSettings(TextSettings):
    """What ``probe activations`` measures."""

    KIND: ClassVar[str] = "activations"
    HELP: ClassVar[str] = "what the matrices read: spectra of their inputs, and how many tokens they take"

    model: Text = Field(
        description="Hub id (owner/name@revision), folder, .gguf file or bundled:NAME.", json_schema_extra=POSITIONAL
    )
    sites: Annotated[tuple[SiteKind, ...], AsTuple, Field(min_length=1)] = Field(
        default=("attention_input",),
        description="Inputs to measure: attention_input (of Q, K, V), mlp_input (gate, up), "
        "attention_output (o_proj), mlp_hidden (down_proj).",
    )
    layers: Annotated[tuple[int, ...], AsTuple] | None = Field(
        default=None, description="Layers to measure, from 0; all by default."
    )
    centred: bool = Field(default=False, description="Spectra of the covariance: take the mean out first.")
    shares: Annotated[tuple[Fraction, ...], AsTuple] = Field(
        default=(0.125, 0.25, 0.5), description="Shares of the text after which the spectra are compared with the last."
    )
    spectrum: Count = Field(default=256, description="Leading eigenvalues of each site in the table spectra.")
    save: Text | None = Field(
        default=None,
        description="Write the statistics here too, for probe delta --statistics; they lie in the run folder anyway.",
    )
