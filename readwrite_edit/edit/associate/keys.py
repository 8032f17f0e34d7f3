"""Keys: what a matrix reads at the subject's last token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from readwrite_edit.edit.associate.questions import Asked, Question
from readwrite_edit.edit.passes import padded, padded_groups
from readwrite_edit.interventions.changes import Variant
from readwrite_edit.interventions.forward import edited, final_hidden, layers_of
from readwrite_edit.models.early_end import EnoughError, until_enough
from readwrite_edit.models.pathways import Projection


def keys_of(
    model: PreTrainedModel, projection: Projection, asked: Sequence[Asked], changes: Variant = ()
) -> tuple[Tensor, Tensor]:
    """The input of a matrix at the subject's last token, with the tokens up to there and no further.

    Args:
        model: Bare model.
        projection: The matrix.
        asked: Facts.
        changes: Edits of earlier layers that are in force already.

    Returns:
        Keys averaged over the bare prompt and its contexts, and keys of the bare prompts alone; columns, each of
        shape (d_in, facts), float64.
    """
    questions = [question for one in asked for question in (one.bare, *one.contexts)]
    found = _at_subjects(model, model.get_submodule(projection.module), questions, changes, output=False)
    each = found.unflatten(0, (len(asked), -1))
    return each.mean(dim=1).T, each[:, 0].T


def states_of(model: PreTrainedModel, layer: int, asked: Sequence[Asked], changes: Variant = ()) -> Tensor:
    """The residual stream behind a layer at the subject's last token of the bare prompts.

    Returns:
        Shape (facts, d_model), float64.
    """
    return _at_subjects(model, layers_of(model)[layer], [one.bare for one in asked], changes, output=True)


def _at_subjects(
    model: PreTrainedModel, module: nn.Module, questions: Sequence[Question], changes: Variant, *, output: bool
) -> Tensor:
    """What a module reads or hands on at each subject's last token, (questions, features), float64."""
    rows = [question.ids[: question.subject[1] + 1] for question in questions]
    distinct = list(dict.fromkeys(rows))
    slots = {row: slot for slot, row in enumerate(distinct)}
    found: list[Tensor] = [torch.empty(0)] * len(distinct)
    with torch.no_grad(), edited(model, [changes]):
        for group in padded_groups([len(row) for row in distinct]):
            batch = padded([distinct[slot] for slot in group]).to(model.device)
            with _caught(module, output=output) as caught:
                final_hidden(model, batch)
            values = caught[0].reshape(*batch.shape, -1)
            for row, slot in enumerate(group):
                found[slot] = values[row, len(distinct[slot]) - 1].double()
    return torch.stack([found[slots[row]] for row in rows])


@contextmanager
def _caught(module: nn.Module, *, output: bool) -> Iterator[list[Tensor]]:
    """Keep the module's first input or output, and end the pass there."""
    caught: list[Tensor] = []

    def at_input(_module: nn.Module, given: tuple[Tensor, ...]) -> None:
        caught.append(given[0])
        raise EnoughError

    def at_output(_module: nn.Module, _given: Any, returned: Any) -> None:
        caught.append(returned[0] if isinstance(returned, tuple) else returned)
        raise EnoughError

    with ExitStack() as hooks:
        hook = module.register_forward_hook(at_output) if output else module.register_forward_pre_hook(at_input)
        hooks.callback(hook.remove)
        hooks.enter_context(until_enough())
        yield caught
