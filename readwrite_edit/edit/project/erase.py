"""LEACE of every matrix: fitted on what it reads or writes on labelled prompts, layer after layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from torch import Tensor

from readwrite_edit.edit.context import Context
from readwrite_edit.edit.directions import difference_of_means, labelled_samples
from readwrite_edit.edit.metric import estimated_shrinkage
from readwrite_edit.edit.project.fold import Map, fold, side_of
from readwrite_edit.edit.project.linear import Held, Shrinkage, fit, held_out
from readwrite_edit.edit.samples import Place, Samples
from readwrite_edit.edit.settings.project import Project
from readwrite_edit.edit.settings.sources import Direction
from readwrite_edit.geometry.erasure import Erasure
from readwrite_edit.interventions.changes import Change
from readwrite_edit.interventions.forward import edited
from readwrite_edit.models.architectures import SITE_OF_ROLE
from readwrite_edit.models.pathways import Projection

_ORDER = {"attention_input": 0, "attention_output": 1, "mlp_input": 2, "mlp_hidden": 3}


@dataclass(frozen=True, eq=False)
class Erased:
    """A concept taken out of one matrix.

    Attributes:
        change: Of the matrix.
        vectors: What it does to the vectors that the matrix reads or writes.
        erasure: The eraser that it was made of.
        held: The concept on prompts that did not fit an eraser.
    """

    change: Change
    vectors: Map
    erasure: Erasure
    held: Held


def erase(
    context: Context, settings: Project, concept: Direction, projections: Sequence[Projection]
) -> dict[Projection, Erased]:
    """Fit LEACE for each matrix and fold it in.

    Args:
        context: Of the edit.
        settings: Of the intervention.
        concept: Its labelled prompts.
        projections: The matrices.

    Returns:
        Matrix to what was done; one that sees no difference between the labels is left out.
    """
    shrinkage = _shrinkage(context)
    stages = _stages(projections)
    at_once = None if settings.in_turn else labelled_samples(context, concept, [_place(p) for p in projections])
    done: dict[Projection, Erased] = {}
    for number, stage in enumerate(stages):
        samples, positive = at_once or _sampled_behind(context, concept, stage, done)
        found: dict[tuple[str, str], tuple[Erasure, Held] | None] = {}
        for projection in stage:
            key = _place(projection).key
            if key not in found:
                found[key] = _fitted(samples, _place(projection), positive, shrinkage)
            one = found[key]
            if one is not None:
                vectors = Map(-one[0].left, one[0].right, one[0].mean)
                done[projection] = Erased(
                    fold(context.model, projection, vectors, constant=settings.constant), vectors, *one
                )
        context.session.advance(number + 1, len(stages), "fit")
    return done


def _stages(projections: Sequence[Projection]) -> list[list[Projection]]:
    """Matrices in the order in which a pass computes them; those of one stage do not act on each other."""
    grouped: dict[tuple[int, int], list[Projection]] = {}
    for projection in projections:
        grouped.setdefault((projection.layer, _ORDER[SITE_OF_ROLE[projection.role]]), []).append(projection)
    return [grouped[key] for key in sorted(grouped)]


def _place(projection: Projection) -> Place:
    return Place("output" if side_of(projection) == "write" else "input", projection)


def _sampled_behind(
    context: Context, concept: Direction, stage: Sequence[Projection], done: Mapping[Projection, Erased]
) -> tuple[Samples, Tensor]:
    """Samples of one stage with the erasures of those before it in force."""
    before = tuple(erased.change for erased in done.values())
    with edited(context.model, [before]) if before else nullcontext():
        return labelled_samples(context, concept, [_place(projection) for projection in stage])


def _fitted(samples: Samples, place: Place, positive: Tensor, shrinkage: Shrinkage) -> tuple[Erasure, Held] | None:
    rows = samples.at(place)
    if difference_of_means(rows, positive) is None:
        return None
    return fit(rows, positive, shrinkage), held_out(rows, positive, samples.owners, shrinkage)


def _shrinkage(context: Context) -> Shrinkage:
    wanted = context.recipe.statistics.shrinkage
    return estimated_shrinkage if wanted == "auto" else lambda _covariance, _count: float(wanted)
