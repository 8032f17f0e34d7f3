"""The sections that every edit's recipe has: statistics, measurements, controls and the ledger."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from readwrite_edit.edit.ledger.naming import NAME_FORM, Name
from readwrite_edit.recipe.section import Count, Fraction, OneOrMany, Section, Seed, Text
from readwrite_edit.recipe.sections import HELD_OUT_PROSE_AND_CHAT, PROSE_AND_CHAT, Texts

MOST_CONTROLS = 9999
POSITIONAL: Any = {"positional": True}
WriteRole = Literal["o_proj", "down_proj"]
Layer = Annotated[int, Field(ge=0, lt=1024)]


class Intervention(Section):
    """One kind of edit: the section of a recipe that is named like it.

    On the command line each field is an option, ``--field-name``, with its
    description as help; one with ``json_schema_extra=POSITIONAL`` stands alone.
    """

    KIND: ClassVar[str]
    HELP: ClassVar[str]


class Statistics(Section):
    """Second moments C = E[x xᵀ] of what the edited matrices read: the price of an edit is measured in them."""

    file: Text | None = Field(
        default=None, description="A statistics file instead of texts (probe activations writes one)."
    )
    texts: Texts = Field(default=PROSE_AND_CHAT, description="Texts to collect on: those to stay the same on.")
    tokens: Count = Field(default=8192, description="Upper limit of tokens read of each text.")
    max_length: Count = Field(default=256, description="Longest sequence in tokens.")
    batch_size: Count = Field(default=8, description="Sequences per forward pass.")
    first_position: bool = Field(default=True, description="Include the first position of sequences.")
    shrinkage: Literal["auto"] | Fraction = Field(
        default="auto",
        description="ρ of C ← (1 − ρ) C + ρ tr(C)/d I before C is inverted; auto: estimated from C and the number of "
        "tokens. 0 uses C as it is and refuses a singular one.",
    )


class Measure(Section):
    """What is measured before and after, on texts and prompts that chose nothing."""

    texts: Texts = Field(
        default=HELD_OUT_PROSE_AND_CHAT, description="Neutral texts for KL to the base and perplexity."
    )
    tokens: Annotated[int, Field(ge=0)] = Field(
        default=1024, description="Tokens read of each text; 0 measures no text."
    )
    generations: Annotated[tuple[Text, ...], OneOrMany()] = Field(
        default=(), description="Prompts answered before and after, side by side; by default those of the edit."
    )
    certify: bool = Field(
        default=True,
        description="Check the saved adapter in a fresh process; false skips this, all measurements and the ledger.",
    )
    max_new_tokens: Annotated[int, Field(ge=0)] = Field(
        default=16, description="Longest answer in tokens; 0 generates nothing."
    )


def _few(count: int) -> int:
    if count > MOST_CONTROLS:
        why = f"each is measured as an edit of its own, and so many show p-values down to 1/{MOST_CONTROLS + 1}"
        raise PydanticCustomError("controls", "{message}", {"message": f"expected at most {MOST_CONTROLS}: {why}"})
    return count


_Few = AfterValidator(_few), Field(json_schema_extra={"maximum": MOST_CONTROLS})


class Controls(Section):
    """Matched edits that did not have to work, beside which the edit is ranked."""

    count: Annotated[int, Field(ge=0), *_Few] = Field(
        default=99, description="Random directions of each matching, at most 9999; 0 switches all controls off."
    )
    others: Annotated[int, Field(ge=1), *_Few] = Field(
        default=4, description="Edits of each further family of controls, at most 9999."
    )
    per_pass: Count | None = Field(default=None, description="Edits in a forward pass; null: as many as is quick.")
    seed: Seed = Field(default=0, description="Seed of every control.")


class Ledger(Section):
    """Where the edit is entered."""

    folder: Text = Field(default="edits", description="Folder of ledgers, one folder a model.")
    name: Name | None = Field(
        default=None, description=f"Name of the entry, {NAME_FORM}; by default the kind of edit and a number."
    )
    enter: bool = Field(default=True, description="Enter the edit; false leaves it in its run folder alone.")
