"""From the settings of ``project`` to changes of matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from readwrite_edit.edit.context import Context
from readwrite_edit.edit.directions import find_subspaces
from readwrite_edit.edit.plan import Plan
from readwrite_edit.edit.project.aim import aim
from readwrite_edit.edit.project.erase import Erased, erase
from readwrite_edit.edit.project.fold import bias_of, fold, map_of, rank_of, side_of
from readwrite_edit.edit.project.tables import Projected, concept_table, projections_table
from readwrite_edit.edit.settings.project import Project
from readwrite_edit.edit.settings.sources import Direction
from readwrite_edit.edit.subspace import Subspace
from readwrite_edit.errors import EditError
from readwrite_edit.interventions.changes import Change
from readwrite_edit.models.norms import output_norm
from readwrite_edit.models.pathways import Projection


def plan_project(context: Context) -> Plan:
    """Remove, keep or scale a direction, or erase a concept.

    Args:
        context: Of the edit.

    Returns:
        The plan; its changes are in the order of the model.

    Raises:
        EditError: The direction can not be had, the change would have too high a rank, or nothing would change.
        ModelError: No such matrix, or a direction of the residual stream for a matrix that is not beside it.
        DataError: A file or text is missing or malformed, or the tokenizer lacks a chat template.
    """
    settings = context.recipe.project
    if settings is None:
        raise EditError("the recipe has no section project")
    chosen = context.pathways.select(settings.modules, None if settings.layers == "all" else settings.layers)
    if settings.concept is not None:
        return _erasing(context, settings, settings.concept.direction, chosen)
    if settings.direction is None:
        raise EditError("project: expected a direction or a concept")
    return _projecting(context, settings, settings.direction, chosen)


def _projecting(context: Context, settings: Project, source: Direction, chosen: Sequence[Projection]) -> Plan:
    found: dict[Projection, Subspace] = {}
    for side in ("write", "read"):
        own = [projection for projection in chosen if side_of(projection) == side]
        if own:
            found |= find_subspaces(context, source, own, side=side)  # type: ignore[arg-type]
    unseen = _unseen(settings, chosen, found)
    done = [_one(context, settings, p, found[p]) for p in chosen if p in found]
    table = projections_table(context, done, settings.action)
    return _plan(context, settings, source, done, {"projections": table}, [*unseen, *_notes(context, settings, done)])


def _one(context: Context, settings: Project, projection: Projection, subspace: Subspace) -> Projected:
    k = len(subspace.steps)
    _check_rank(settings, projection, k)
    vectors = map_of(subspace, settings.action, settings.factor, side=side_of(projection))
    return Projected(fold(context.model, projection, vectors, constant=settings.constant), vectors, k)


def _check_rank(settings: Project, projection: Projection, k: int) -> None:
    rank, place = rank_of(projection, k, settings.action), f"layer {projection.layer} {projection.role}"
    if rank == 0:
        raise EditError(f"keep: {k} directions are all that {place} has, so nothing would change; give fewer")
    if rank > settings.max_rank:
        reason = f"it removes all but {k} directions" if settings.action == "keep" else f"it has {k} directions"
        raise EditError(
            f"{settings.action}: the change of {place} has rank {rank} ({reason}), more than max_rank "
            f"{settings.max_rank}: remove the directions that you mean instead, or raise project.max_rank"
        )


def _erasing(context: Context, settings: Project, concept: Direction, chosen: Sequence[Projection]) -> Plan:
    erased = erase(context, settings, concept, chosen)
    unseen = _unseen(settings, chosen, erased)
    done = [Projected(erased[p].change, erased[p].vectors, erased[p].erasure.rank) for p in chosen if p in erased]
    ordered = {p: erased[p] for p in chosen if p in erased}
    tables = {"projections": projections_table(context, done, "erase"), "concept": concept_table(ordered)}
    notes = [*unseen, *_notes(context, settings, done), *_notes_on_concept(settings, ordered)]
    return _plan(context, settings, concept, done, tables, notes)


def _plan(
    context: Context,
    settings: Project,
    source: Direction,
    done: Sequence[Projected],
    tables: Mapping[str, pd.DataFrame],
    notes: Sequence[str],
) -> Plan:
    prompts, effect = aim(context, settings, source)
    if effect is None:
        notes = [*notes, "No controls: measure.texts names no plain text, and the direction comes without prompts."]
    action = "erase" if settings.concept is not None else settings.action
    layers = "every layer" if settings.layers == "all" else f"layers {', '.join(map(str, settings.layers))}"
    roles = ", ".join(settings.modules)
    by = f" by {settings.factor:g}" if settings.action == "scale" else ""
    return Plan(
        changes=tuple(one.change for one in done),
        why=f"{roles} of {layers}, as the recipe says; {len(done)} matrices change.",
        title=f"{action} {named(source)}{by}",
        prompts=prompts,
        effect=effect,
        tables=tables,
        figures=_figures(tables, done),
        notes=tuple(notes),
    )


def _figures(tables: Mapping[str, pd.DataFrame], done: Sequence[Projected]) -> dict[str, float]:
    figures = {
        "matrices": float(len(done)),
        "directions": float(max(one.directions for one in done)),
        "energy_removed_fraction": float(tables["projections"]["energy_removed_fraction"].mean()),
    }
    if "concept" in tables:
        means = tables["concept"][["accuracy_before", "accuracy_after"]].astype(float).mean().dropna()
        figures |= {str(name): float(value) for name, value in means.items()}
    return figures


def named(source: Direction) -> str:
    """A direction in a few words."""
    if source.token is not None:
        return f"token {source.token!r}"
    if source.file is not None:
        return Path(source.file).name
    if source.positive:
        return f"what {len(source.positive)} prompts show and {len(source.negative)} do not"
    kind, k = ("principal", source.principal) if source.principal else ("prediction", source.prediction)
    return f"the top {kind} direction" if k == 1 else f"the top {k} {kind} directions"


def _unseen(settings: Project, chosen: Sequence[Projection], found: Mapping[Projection, object]) -> list[str]:
    """Matrices on which the two sets of prompts look the same: left out of all layers, refused where named."""
    lacking = [projection for projection in chosen if projection not in found]
    if not lacking:
        return []
    places = ", ".join(f"layer {projection.layer} {projection.role}" for projection in lacking)
    if settings.layers != "all" or len(lacking) == len(chosen):
        raise EditError(
            f"{places}: the positive and the negative prompts look the same there; leave these layers out, or give "
            "prompts that end differently (positions: all compares all tokens)"
        )
    return [f"Left out, since both sets of prompts look the same there: {places}."]


def _notes(context: Context, settings: Project, done: Sequence[Projected]) -> list[str]:
    notes = []
    changes = [one.change for one in done]
    sides = {side_of(change.projection) for change in changes}
    if "write" in sides and settings.action == "remove":
        notes.append(
            "Only what the named matrices write is projected: the token embedding and all other matrices write as "
            "before."
        )
    if _before_norm(context, changes):
        notes.append(
            "This architecture normalises what these matrices write before it is added: the direction is carried "
            "through that norm's gain, and the norm's denominator changes with what is taken out."
        )
    if not settings.constant and _loses_constant(context, settings, done):
        notes.append(
            "constant: false leaves the constant out: LEACE's mean, or the biases of modules and norms, still show the "
            "direction."
        )
    return notes


def _before_norm(context: Context, changes: Sequence[Change]) -> bool:
    written = [change.projection for change in changes if side_of(change.projection) == "write"]
    if not written or getattr(context.model.config, "do_layer_norm_before", True) is False:
        return False
    return output_norm(context.model, context.pathways, written[0]) is not None


def _loses_constant(context: Context, settings: Project, done: Sequence[Projected]) -> bool:
    if settings.concept is not None or any(one.vectors.offset is not None for one in done):
        return True
    written = [one.change.projection for one in done if side_of(one.change.projection) == "write"]
    return any(bool(bias_of(context.model, projection).any()) for projection in written)


def _notes_on_concept(settings: Project, erased: Mapping[Projection, Erased]) -> list[str]:
    shrinkages = [one.erasure.shrinkage for one in erased.values()]
    count = min(one.erasure.count for one in erased.values())
    notes = [
        f"LEACE fitted on {count} vectors a matrix; their covariance is shrunk by ρ from {min(shrinkages):.2g} to "
        f"{max(shrinkages):.2g}. On these vectors no linear classifier beats chance; on others see the table."
    ]
    if not settings.in_turn:
        notes.append("in_turn: false: each matrix is fitted on the unedited model, whose inputs the edit changes.")
    if all(one.held.accuracy_after is None for one in erased.values()):
        notes.append("Fewer than four prompts of a kind: the concept is not looked for on held-out prompts.")
    return notes
