"""Penalties on what the policy changes on the protected text: measured by passes, or priced in closed form."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

import torch
from peft import PeftModel
from torch import Tensor

from readwrite_edit.adapter import Target
from readwrite_edit.adapter.install import factors_of
from readwrite_edit.errors import RecipeError
from readwrite_edit.evaluate.texts import base_predictor, predictor, scored_hidden
from readwrite_edit.geometry import LowRank, output_energy
from readwrite_edit.models.pathways import weight_of
from readwrite_edit.recipe.penalty import Penalty as Options
from readwrite_edit.statistics import Statistics, token_batches

Term = Callable[[int], Tensor]


def penalty(
    options: Options,
    policy: PeftModel,
    targets: Sequence[Target],
    protect: Mapping[str, tuple[float, list[list[int]]]],
    protected: Statistics | None,
) -> Term | None:
    """What a recipe's penalty adds to the loss at a step; None where it adds nothing.

    Args:
        options: Weights of the terms.
        policy: Wrapped model that trains.
        targets: Its adapted modules.
        protect: Name to weight and token sequences of each protected text.
        protected: Statistics of these texts.

    Returns:
        A function of the optimiser's step that gives a scalar with a gradient.

    Raises:
        RecipeError: A penalty without a protected text.
    """
    if not (options.kl or options.price):
        return None
    if protected is None:
        raise RecipeError("penalty holds the policy to its base on protected text, and calibration.protect names none")
    terms: list[tuple[float, Term]] = []
    if options.kl:
        terms.append((options.kl, _KL(policy, [s for _, text in protect.values() for s in text], options.kl_tokens)))
    if options.price:
        terms.append((options.price, _Price(policy, targets, protected)))
    return lambda step: torch.stack([weight * term(step) for weight, term in terms]).sum()


class _KL:
    """KL(policy ‖ base), mean over the positions of a few protected sequences, others at each step."""

    def __init__(self, policy: PeftModel, sequences: Sequence[list[int]], tokens: int) -> None:
        self.policy, self.tokens = policy, tokens
        self.sequences = random.Random(0).sample(list(sequences), len(sequences))

    def __call__(self, step: int) -> Tensor:
        here, there = predictor(self.policy), base_predictor(self.policy)
        ((ids, mask),) = token_batches(self._drawn(step), len(self.sequences))
        log_p = here.logits(scored_hidden(here, ids, mask)).log_softmax(dim=-1)
        with torch.no_grad():
            log_q = there.logits(scored_hidden(there, ids, mask)).log_softmax(dim=-1)
        return (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()

    def _drawn(self, step: int) -> list[list[int]]:
        """The next sequences in a fixed order with about so many tokens, whatever was drawn before."""
        wanted = round(self.tokens * len(self.sequences) / sum(map(len, self.sequences)))
        count = min(max(1, wanted), len(self.sequences))
        start = step * count
        return [self.sequences[(start + offset) % len(self.sequences)] for offset in range(count)]


class _Price:
    """tr(ΔW C ΔWᵀ) / tr(W C Wᵀ) with C of the protected text, mean over the adapted modules.

    The second moments stay on the policy's device: 4 d_in² bytes a site.
    """

    def __init__(self, policy: PeftModel, targets: Sequence[Target], protected: Statistics) -> None:
        self.policy, self.targets = policy, targets
        self.moments: dict[str, Tensor] = {}
        self.energy: dict[str, float] = {}
        for target in targets:
            projection = target.projections[0]
            moment = protected.second_moment(projection.site)
            self.moments.setdefault(projection.site, moment.to(policy.device, torch.float32))
            self.energy[target.module] = sum(
                float(output_energy(weight_of(policy, one).double().cpu(), moment)) * one.d_out
                for one in target.projections
            )

    def __call__(self, step: int) -> Tensor:
        return torch.stack([self._share(target) for target in self.targets]).mean()

    def _share(self, target: Target) -> Tensor:
        lora_a, lora_b = factors_of(self.policy, target)
        moment = self.moments[target.projections[0].site]
        energy = output_energy(LowRank(lora_b.float(), lora_a.float()), moment) * lora_b.shape[0]
        return energy / self.energy[target.module]
