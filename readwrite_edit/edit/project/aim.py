"""What a projection is measured on: the prompts of the concept, or short pieces of neutral text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, zip_longest

from readwrite_edit.align.texts import load_text
from readwrite_edit.edit.context import Context
from readwrite_edit.edit.directions import prompt_ids, token_id
from readwrite_edit.edit.effects import ShiftEffect, TargetEffect
from readwrite_edit.edit.plan import Effect, Prompt
from readwrite_edit.edit.settings.project import Project
from readwrite_edit.edit.settings.sources import Direction

MOST_RANKED = 12  # prompts that controls are ranked on
PIECE_TOKENS, TEXT_TOKENS = 24, 192


def aim(context: Context, settings: Project, source: Direction) -> tuple[tuple[Prompt, ...], Effect | None]:
    """Prompts of the plan and the statistic that controls are ranked by.

    With labelled prompts these are kind ``prompt`` (positive) and ``context``
    (negative), and T is how far predictions shift at their ends. Otherwise they
    are pieces of the neutral text: kind ``context``, or ``prompt`` with the token
    as target where the direction is a token's; T is then what the token loses
    (gains, where it is scaled up), in nats.

    Args:
        context: Of the edit.
        settings: Of the intervention.
        source: Its direction or concept.

    Returns:
        The prompts and the effect; none where there is neither a prompt nor a neutral text.
    """
    per_pass = context.recipe.controls.per_pass
    if source.positive:
        prompts = _labelled(context, source)
        return prompts, ShiftEffect(context.model, _ranked(prompts), per_pass=per_pass)
    pieces = _pieces(context)
    if not pieces:
        return (), None
    if source.token is None:
        return pieces, ShiftEffect(context.model, pieces, per_pass=per_pass)
    target = (token_id(context, source.token),)
    aimed = tuple(replace(piece, kind="prompt", target=target) for piece in pieces)
    raised = settings.action == "keep" or (settings.action == "scale" and settings.factor > 1)
    sign = 1.0 if raised else -1.0
    return aimed, TargetEffect(context.model, aimed, context.tokenizer, sign=sign, per_pass=per_pass)


def _labelled(context: Context, source: Direction) -> tuple[Prompt, ...]:
    texts = [*((text, "prompt") for text in source.positive), *((text, "context") for text in source.negative)]
    ids = prompt_ids(context, [text for text, _ in texts], source.format)
    return tuple(Prompt(kind, item, text, own) for item, ((text, kind), own) in enumerate(zip(texts, ids, strict=True)))


def _ranked(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The first few of both kinds, in turn."""
    first, second = ([prompt for prompt in prompts if prompt.kind == kind] for kind in ("prompt", "context"))
    turns = chain.from_iterable(zip_longest(first, second))
    return [prompt for prompt in turns if prompt is not None][:MOST_RANKED]


def _pieces(context: Context) -> tuple[Prompt, ...]:
    """Short pieces of the first neutral plain text, drawn by a fixed seed."""
    texts = [text for text in context.recipe.measure.texts if text.format == "text"]
    if not texts:
        return ()
    sequences = load_text(texts[0], context.tokenizer, tokens=TEXT_TOKENS, max_length=PIECE_TOKENS)
    return tuple(
        Prompt("context", item, str(context.tokenizer.decode(ids, skip_special_tokens=True)), tuple(ids))
        for item, ids in enumerate(ids for ids in sequences if len(ids) > 1)
    )
