"""Settings of the causal probe."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from readwrite_edit.probe.settings.base import POSITIONAL, TextSettings
from readwrite_edit.recipe.section import AsTuple, Count, Positive, Text, conflict

_BUILTIN_EVALUATION = {"builtin:prose": "builtin:prose_eval", "builtin:chat": "builtin:chat_eval"}
_FALLBACK = "builtin:prose_eval"


class CausalSettings(TextSettings):
    """Which rank-1 edits ``probe causal`` tries, against which controls and on what text."""

    KIND: ClassVar[str] = "causal"
    HELP: ClassVar[str] = "do principal directions matter: rank-1 edits of read and write matrices, matched controls"

    model: Text = Field(
        description="Hub id (owner/name@revision), folder, .gguf file or bundled:NAME.", json_schema_extra=POSITIONAL
    )
    modules: Annotated[tuple[Text, ...], AsTuple] = Field(
        default=("q_proj", "o_proj"), description="Roles to edit, such as q_proj,k_proj,o_proj,down_proj."
    )
    layers: Annotated[tuple[int, ...], AsTuple] | None = Field(
        default=None, description="Layers to edit, from 0; by default those at a quarter, half and three quarters."
    )
    directions: Count = Field(default=1, description="Principal directions to test on each matrix, from the first.")
    k: Count = Field(default=16, description="Dimension of the principal subspace that 'complement' controls avoid.")
    head: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Query head whose block a read edit writes into; all outputs by default."
    )
    target: Text | None = Field(
        default=None, description="A token, such as ' yes': write edits push it, and its log-probability is measured."
    )
    evaluation_text: Text | None = Field(
        default=None, description="Text to measure on, other than TEXT; by default the held-out part of a built-in one."
    )
    evaluation_format: Literal["text", "chat"] | None = Field(
        default=None, description="How to read the evaluation text; by its path where not given."
    )
    sequences: Annotated[int, Field(ge=2)] = Field(default=16, description="Evaluation sequences (prompts).")
    length: Annotated[int, Field(ge=2)] = Field(default=12, description="Tokens of an evaluation sequence.")
    doses: Annotated[tuple[Positive, ...], AsTuple, Field(min_length=1)] = Field(
        default=(0.01, 0.03, 0.1), description="Norms of an edit relative to its matrix; tests are at the middle one."
    )
    controls: Count = Field(default=99, description="Random directions that a principal one is ranked among.")
    others: Count = Field(default=4, description="Directions of each further family of controls.")
    edits: Count = Field(default=8, description="Edits in a forward pass.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="float32", description="Type to load the weights in; small effects drown in less than float32."
    )

    @model_validator(mode="after")
    def _doses_rise(self) -> Self:
        if list(self.doses) != sorted(set(self.doses)):
            raise conflict(("doses",), f"doses {', '.join(map(str, self.doses))}: expected rising numbers, each once")
        return self

    @property
    def reference_dose(self) -> float:
        """The dose that tests are made at: the middle one."""
        return self.doses[len(self.doses) // 2]

    @property
    def measured_text(self) -> str:
        """Path of the text that effects are measured on."""
        return self.evaluation_text or _BUILTIN_EVALUATION.get(self.text, _FALLBACK)

    def evaluation(self) -> dict[str, Any]:
        """Path and format of the evaluation text."""
        named = {"path": self.measured_text, "format": self.evaluation_format}
        return {name: value for name, value in named.items() if value is not None}
