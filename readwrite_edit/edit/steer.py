"""steer: add a multiple of a direction where a pattern is present, on the write side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import pandas as pd
import torch
from torch import Tensor

from readwrite_edit.edit.context import Context
from readwrite_edit.edit.directions import resolve_direction, token_id
from readwrite_edit.edit.effects import TargetEffect
from readwrite_edit.edit.gate import Gate, gate_at
from readwrite_edit.edit.patterns import Tokens, check_lengths, prompts_of, tokenised
from readwrite_edit.edit.plan import Effect, Plan, Prompt
from readwrite_edit.edit.samples import Place, Samples, sample
from readwrite_edit.edit.settings.steer import Steer
from readwrite_edit.edit.steer_effect import StreamEffect
from readwrite_edit.errors import EditError
from readwrite_edit.geometry import LowRank
from readwrite_edit.interventions.changes import Change
from readwrite_edit.models.norms import output_norm
from readwrite_edit.models.pathways import Projection


@dataclass(frozen=True, eq=False)
class Observed:
    """The prompts, and what the edited matrix does on them.

    Attributes:
        prompts: With the pattern.
        without: Without it.
        positions: The pattern's position in each prompt.
        inputs: What the matrix reads at every token of the prompts and then of ``without``, each (time, d_in), float64.
        unit: Root mean square of the length of what it writes at the pattern, its bias included.
    """

    prompts: tuple[Tokens, ...]
    without: tuple[Tokens, ...]
    positions: tuple[int, ...]
    inputs: tuple[Tensor, ...]
    unit: float

    @property
    def keys(self) -> Tensor:
        """What the matrix reads at the pattern, shape (prompts, d_in)."""
        return torch.stack([own[position] for own, position in zip(self.inputs, self.positions, strict=False)])


def plan_steer(context: Context) -> Plan:
    """Add strength · unit · p to what o_proj or down_proj writes where a pattern is present.

    ΔW = strength · unit · p aᵀ, with p the unit direction, a the gate of the
    pattern (:func:`gate_at`: aᵀx is 1 there in the mean over the prompts), and
    the unit the root mean square of the length of what the matrix writes there.

    Args:
        context: Of a recipe with the section ``steer``.

    Returns:
        The edit; table ``patterns``.

    Raises:
        EditError: The pattern is missing, the direction can not be had or is several, or the strength is 0.
        ModelError: The layer does not exist or has no such matrix.
    """
    options = cast(Steer, context.recipe.intervention)
    if options.strength == 0:
        raise EditError("strength 0: nothing would change; expected a positive or a negative number")
    projection = context.pathways.select([options.module], [options.layer])[0]
    observed = _observed(context, options, projection)
    direction = _direction(context, options, projection)
    gate = gate_at(observed.keys, context.metric(projection))
    update = LowRank((options.strength * observed.unit * direction).unsqueeze(1), gate.reads.unsqueeze(0))
    return Plan(
        changes=(Change(projection, update),),
        why=f"layer {options.layer}, {options.module}: as asked",
        title=f"{options.strength:+g} × {_source(options)} at {_pattern(options)}",
        prompts=_measured(context, options, observed) + prompts_of(observed.without, "locality"),
        effect=_effect(context, options, projection, observed, direction),
        tables={"patterns": _patterns(observed, gate)},
        figures={"unit": observed.unit, "length": abs(options.strength) * observed.unit, "usual_gate": gate.usual},
        notes=_notes(context, options, projection),
    )


def _observed(context: Context, options: Steer, projection: Projection) -> Observed:
    prompts = tokenised(options.prompts, context.tokenizer, format=options.format)
    without = tokenised(options.without, context.tokenizer, format=options.format)
    # without a pattern it is the very end of the prompt, a chat's opening of the answer included
    positions = tuple(one.last if options.key is None else one.last_token(options.key) for one in prompts)
    every = (*prompts, *without)
    check_lengths(every, context.model)
    reads, writes = Place("input", projection), Place("output", projection)
    samples = sample(context.model, [one.ids for one in every], [reads, writes], positions="all")
    outputs = _by_prompt(samples, writes, len(every))
    lengths = torch.stack([own[position].norm() for own, position in zip(outputs, positions, strict=False)])
    unit = float(lengths.square().mean().sqrt())
    if not unit > 0:
        raise EditError(f"layer {projection.layer} {projection.role} writes nothing at the pattern: choose another")
    return Observed(prompts, without, positions, _by_prompt(samples, reads, len(every)), unit)


def _by_prompt(samples: Samples, place: Place, count: int) -> tuple[Tensor, ...]:
    rows = samples.at(place)
    return tuple(rows[samples.owners == index] for index in range(count))


def _direction(context: Context, options: Steer, projection: Projection) -> Tensor:
    """The unit direction, as a step in the matrix' output, shape (d_out,)."""
    found = resolve_direction(context, options.direction, side="write", layer=projection.layer, role=projection.role)
    if len(found) != 1:
        raise EditError(f"{_source(options)}: {len(found)} directions; steer adds one: ask for 1")
    return found[0].double()


def _effect(context: Context, options: Steer, projection: Projection, observed: Observed, direction: Tensor) -> Effect:
    sign, per_pass = math.copysign(1.0, options.strength), context.recipe.controls.per_pass
    if options.direction.token is not None:
        aimed = _measured(context, options, observed)
        return TargetEffect(context.model, aimed, context.tokenizer, sign=sign, per_pass=per_pass)
    norm = output_norm(context.model, context.pathways, projection)
    stream = direction if norm is None else direction * norm.gain
    places = observed.prompts, observed.positions
    return StreamEffect(context.model, context.pathways, *places, stream, sign=sign, per_pass=per_pass)


def _measured(context: Context, options: Steer, observed: Observed) -> tuple[Prompt, ...]:
    """The prompts; with a token as direction, that token is what should follow."""
    token = options.direction.token
    target = () if token is None else (token_id(context, token),)
    return tuple(Prompt("prompt", item, one.shown, one.ids, target) for item, one in enumerate(observed.prompts))


def _patterns(observed: Observed, gate: Gate) -> pd.DataFrame:
    rows = []
    every = (*observed.prompts, *observed.without)
    for item, (one, inputs) in enumerate(zip(every, observed.inputs, strict=True)):
        position = observed.positions[item] if item < len(observed.positions) else None
        gates = gate.at(inputs)
        others = [place for place in range(len(gates)) if place != position]
        rows.append(
            {
                "kind": "locality" if position is None else "prompt",
                "prompt": item if position is not None else item - len(observed.positions),
                "text": one.shown,
                "token": position,
                "gate": None if position is None else float(gates[position]),
                "gate_elsewhere": float(gates[others].abs().mean()) if others else None,
                "gate_elsewhere_max": float(gates[others].abs().max()) if others else None,
            }
        )
    return pd.DataFrame(rows).astype({"token": "Int64", "gate": float, "gate_elsewhere": float})


def _notes(context: Context, options: Steer, projection: Projection) -> tuple[str, ...]:
    notes = []
    if output_norm(context.model, context.pathways, projection) is not None:
        notes.append(
            f"what {projection.role} writes goes through a norm before it is added to the residual stream: beyond a "
            "strength of about 1 more strength turns the output towards the direction and adds no length"
        )
    if len(options.prompts) > 1:
        notes.append("the gate is 1 in the mean over the prompts; the table 'patterns' has each prompt's own")
    return tuple(notes)


def _source(options: Steer) -> str:
    direction = options.direction
    if direction.token is not None:
        return f"token {direction.token!r}"
    if direction.file is not None:
        return f"direction of {direction.file}"
    return (
        "difference of means"
        if direction.positive
        else "principal direction"
        if direction.principal
        else "prediction direction"
    )


def _pattern(options: Steer) -> str:
    return "the end of the prompts" if options.key is None else repr(options.key)
