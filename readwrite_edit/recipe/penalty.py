"""The section penalty of a recipe: what holds the policy to its base on the protected text while it trains."""

from __future__ import annotations

from pydantic import Field

from readwrite_edit.recipe.section import Count, NonNegative, Section


class Penalty(Section):
    """Terms added to the loss; both are off by default. A contrastive basis needs neither."""

    kl: NonNegative = Field(
        default=0.0, description="Weight of KL(policy ‖ base) on the protected text, in nats a position."
    )
    kl_tokens: Count = Field(default=256, description="Tokens of protected text that 'kl' reads at each step.")
    price: NonNegative = Field(
        default=0.0,
        description="Weight of the update's price on the protected text in closed form, as a share of the matrices' "
        "own output energy there, mean over the matrices.",
    )
