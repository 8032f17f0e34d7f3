"""Values of all facts, chunk by chunk, by the way that the recipe names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from readwrite_edit.edit.associate.continuations import Continuations, batches
from readwrite_edit.edit.associate.optimised import Part, optimised_values
from readwrite_edit.edit.associate.questions import Asked, Question
from readwrite_edit.edit.associate.values import Values, closed_values, direction_values
from readwrite_edit.edit.settings.associate import Associate
from readwrite_edit.models.pathways import Pathways, Projection
from readwrite_edit.models.unembedding import final_gain

Advance = Callable[[int], None]
_CHUNK = 32  # facts of which ROME's value keeps all contexts at hand


def find_values(
    model: PreTrainedModel,
    pathways: Pathways,
    projection: Projection,
    asked: Sequence[Asked],
    settings: Associate,
    *,
    refinements: int,
    advance: Advance,
) -> Values:
    """δ of each fact: what the matrix should write more at the subject's last token.

    Args:
        model: Bare model.
        pathways: Of the model.
        projection: The matrix.
        asked: Facts.
        settings: How values are found, and the margin.
        refinements: Most passes that shorten a value; 0 leaves that to the caller.
        advance: Is told how many facts are done.
    """
    if settings.value == "optimised":
        return _optimised(model, projection, asked, settings, advance)
    bare = [one.bare for one in asked]
    parts: list[tuple[list[int], Values]] = []
    done = 0
    for rows in batches(bare):
        prompts = Continuations(model, projection, [bare[row] for row in rows])
        if settings.value == "unembedding":
            aims = target_directions(model, pathways, [bare[row].target for row in rows])
            found = direction_values(prompts, aims, margin=settings.margin, refinements=refinements)
        else:
            found = closed_values(
                prompts,
                margin=settings.margin,
                linearisations=settings.linearisations,
                trust=settings.trust,
                refinements=refinements,
            )
        parts.append((rows, found))
        done += len(rows)
        advance(done)
    return _in_order(parts)


def target_directions(model: PreTrainedModel, pathways: Pathways, targets: Sequence[Sequence[int]]) -> Tensor:
    """Mean over each target's tokens of γ ⊙ (w_token − w̄): what raises their logits at the end of the stream.

    w are the unembedding's rows, w̄ their mean and γ the final norm's gain.

    Returns:
        Shape (facts, d_model), float32.
    """
    rows = _weight(model.get_submodule(pathways.unembedding)).float()
    centre = rows.mean(dim=0)
    found = torch.stack([rows[list(tokens)].mean(dim=0) - centre for tokens in targets])
    if pathways.output_projection is not None:
        found = found @ _weight(model.get_submodule(pathways.output_projection)).float()
    gain = final_gain(model, pathways)
    return found if gain is None else found * gain.to(found)


def _optimised(
    model: PreTrainedModel, projection: Projection, asked: Sequence[Asked], settings: Associate, advance: Advance
) -> Values:
    parts: list[tuple[list[int], Values]] = []
    for start in range(0, len(asked), _CHUNK):
        rows = list(range(start, min(start + _CHUNK, len(asked))))
        parts.append((rows, _rome(model, projection, [asked[row] for row in rows], settings)))
        advance(rows[-1] + 1)
    return _in_order(parts)


def _rome(model: PreTrainedModel, projection: Projection, asked: Sequence[Asked], settings: Associate) -> Values:
    bare = _parts(model, projection, [one.bare for one in asked], list(range(len(asked))))
    contexts = [(number, question) for number, one in enumerate(asked) for question in one.contexts]
    behind = _parts(model, projection, [question for _, question in contexts], [number for number, _ in contexts])
    essences = _parts(model, projection, [one.essence for one in asked], list(range(len(asked))))
    before, usual = _scattered(bare, lambda part: part.prompts.margins()), _scattered(bare, _lengths)
    count = 1 + len(asked[0].contexts)
    step, used = optimised_values([*bare, *behind], essences, usual, count, steps=settings.steps)
    after = _scattered(bare, lambda part: part.prompts.margins(step[part.facts]))
    return Values(step, before, after, usual, used, torch.full_like(used, 2))


def _parts(
    model: PreTrainedModel, projection: Projection, questions: Sequence[Question], facts: Sequence[int]
) -> list[Part]:
    return [
        Part(
            Continuations(model, projection, [questions[row] for row in rows]),
            torch.tensor([facts[row] for row in rows], device=model.device),
        )
        for rows in batches(questions)
    ]


def _lengths(part: Part) -> Tensor:
    return part.prompts.output.norm(dim=1)


def _scattered(parts: Sequence[Part], of: Callable[[Part], Tensor]) -> Tensor:
    """What is known of each part's rows, in the order of facts."""
    order = torch.cat([part.facts for part in parts]).argsort()
    return torch.cat([of(part) for part in parts])[order]


def _in_order(parts: Sequence[tuple[list[int], Values]]) -> Values:
    order = torch.tensor([row for rows, _ in parts for row in rows]).argsort()
    names = ("step", "margin_before", "margin", "usual", "linearisations", "passes")
    return Values(
        *(torch.cat([getattr(part, name) for _, part in parts])[order.to(parts[0][1].step.device)] for name in names)
    )


def _weight(module: nn.Module) -> Tensor:
    weight: Any = module.weight
    return weight.detach()
