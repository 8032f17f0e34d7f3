"""The plan of an association: facts, values, the closed form, and what to measure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from readwrite_edit.edit.associate.aim import Aim
from readwrite_edit.edit.associate.facts import read_facts
from readwrite_edit.edit.associate.finding import find_values
from readwrite_edit.edit.associate.insertion import Form, Inserted, insert
from readwrite_edit.edit.associate.questions import Asked, ask, prefixes
from readwrite_edit.edit.associate.tables import facts_table, figures_of
from readwrite_edit.edit.associate.values import Values
from readwrite_edit.edit.context import Context
from readwrite_edit.edit.plan import Plan, Prompt
from readwrite_edit.edit.settings.associate import Associate
from readwrite_edit.errors import EditError
from readwrite_edit.geometry import null_space_basis
from readwrite_edit.models.norms import output_norm
from readwrite_edit.models.pathways import Projection

_REFINEMENTS = 1
_WITH_CONTEXTS = 64  # facts up to which the prompts behind prefixes are measured too


def plan_associate(context: Context) -> Plan:
    """Let the model continue prompts about subjects with targets.

    Raises:
        DataError: The facts can not be read, or some are bad.
        EditError: Facts contradict each other, are known already, or their keys can not be told apart.
        ModelError: The model has no such matrix, with the reason.
    """
    settings = _settings(context)
    facts, notes = read_facts(settings)
    asked = ask(context.tokenizer, context.model, facts, settings)
    projections, why = _projections(context, settings, asked)
    forms = _forms(context, settings, projections, len(asked))
    values = _values(context, settings, projections[-1], forms, asked)
    inserted = insert(context.model, forms, asked, values, margin=settings.margin)
    table = facts_table(asked, settings, projections, values, inserted, context.tokenizer)
    prompts = _prompts(asked)
    return Plan(
        changes=inserted.changes,
        why=why,
        title=_title(asked),
        facts=tuple({"prompt": one.prompt, "subject": one.subject, "target": one.target} for one in facts),
        prompts=prompts,
        effect=Aim(context.model, prompts, context.tokenizer, per_pass=context.recipe.controls.per_pass),
        tables={"facts": table},
        figures=figures_of(table, inserted),
        notes=(*notes, *_notes(settings, asked, values, inserted)),
    )


def _settings(context: Context) -> Associate:
    settings = context.recipe.associate
    if settings is None:
        raise EditError(f"the recipe has no section associate: its intervention is {context.recipe.kind}")
    return settings


def _projections(context: Context, settings: Associate, asked: Sequence[Asked]) -> tuple[tuple[Projection, ...], str]:
    """The matrices to write into, in order, and why these."""
    context.pathways.select([settings.module])  # a missing role is refused before anything is computed
    if settings.layers == "auto":
        from readwrite_edit.edit.locate import TracePrompt, choose_layer

        traced = [
            TracePrompt(one.bare.ids, (one.bare.subject[0], one.bare.subject[1] + 1), (), one.bare.text)
            for one in asked
        ]
        layer, why = choose_layer(context, traced, settings.module)
        return context.pathways.select([settings.module], [layer]), why
    layers = sorted(set(settings.layers))
    projections = context.pathways.select([settings.module], layers)
    if len(projections) > 1:
        _refuse_normalised_outputs(context, projections)
    named = ", ".join(map(str, layers))
    return (
        projections,
        f"layer{'s' if len(layers) > 1 else ''} {named} as the recipe names {'them' if len(layers) > 1 else 'it'}",
    )


def _refuse_normalised_outputs(context: Context, projections: Sequence[Projection]) -> None:
    for projection in projections:
        if output_norm(context.model, context.pathways, projection) is not None:
            raise EditError(
                f"several layers: {context.pathways.model_type} normalises what {projection.role} writes, so that a "
                "residual can not be shared out over layers; name one layer"
            )


def _forms(context: Context, settings: Associate, projections: Sequence[Projection], count: int) -> tuple[Form, ...]:
    """How each matrix is edited: with or without a ridge, and in which null space."""
    hard = settings.form == "hard" or (settings.form == "auto" and count == 1)
    ridge = 0.0 if hard else None if settings.ridge == "auto" else settings.ridge
    context.statistics(projections)  # of all layers in one pass over the texts
    bases = [None] * len(projections) if not settings.preserve else _null_spaces(context, settings, projections)
    return tuple(
        Form(projection, context.metric(projection), ridge, basis)
        for projection, basis in zip(projections, bases, strict=True)
    )


def _null_spaces(context: Context, settings: Associate, projections: Sequence[Projection]) -> list[torch.Tensor]:
    preserved = context.statistics_of(settings.preserve, projections, title="preserved text")
    return [
        null_space_basis(preserved.second_moment(projection.site), settings.preserve_energy)
        for projection in projections
    ]


def _values(
    context: Context, settings: Associate, projection: Projection, forms: Sequence[Form], asked: Sequence[Asked]
) -> Values:
    # Where the whole edit's length is searched anyway, the value's own is not.
    alone = len(asked) == 1 and forms[0].ridge == 0
    values = find_values(
        context.model,
        context.pathways,
        projection,
        asked,
        settings,
        refinements=0 if alone else _REFINEMENTS,
        advance=lambda done: context.session.advance(done, len(asked), "fact"),
    )
    _refuse_nothing(settings, projection, values)
    return values


def _refuse_nothing(settings: Associate, projection: Projection, values: Values) -> None:
    if bool((values.step != 0).any()):
        return
    if bool((values.margin_before >= settings.margin).all()):
        lead = float(values.margin_before.min())
        raise EditError(
            f"nothing to change: the target leads by {lead:.3g} nats already, {settings.margin:g} were asked for; "
            "raise margin"
        )
    raise EditError(
        f"layer {projection.layer} {projection.role}: what is written at the subject's last token does not reach the "
        "prompt's end (no attention follows that could carry it); name an earlier layer"
    )


def _prompts(asked: Sequence[Asked]) -> tuple[Prompt, ...]:
    contexts = len(asked) <= _WITH_CONTEXTS
    found: list[Prompt] = []
    for number, one in enumerate(asked):
        found.append(one.bare.prompt("prompt", number))
        found += [question.prompt("context", number) for question in one.contexts if contexts]
        found += one.others
    return tuple(found)


def _title(asked: Sequence[Asked]) -> str:
    first = asked[0].fact
    named = f"{first.subject} → {first.target}"
    return named if len(asked) == 1 else f"{len(asked)} associations ({named}, …)"


def _notes(settings: Associate, asked: Sequence[Asked], values: Values, inserted: Inserted) -> Iterator[str]:
    """What the reader must know of the values, the form and the metric."""
    yield _of_reached(settings, inserted)
    known = int((values.step == 0).all(dim=1).sum())
    if known:
        lead = f"{known} of {len(asked)} targets lead by {settings.margin:g} nats already"
        yield f"{lead}: what is written at their keys is held"
    held = int(
        ((inserted.residuals == 0).all(dim=1) & (values.step != 0).any(dim=1).to(inserted.residuals.device)).sum()
    )
    if held:
        yield (
            f"{held} of {len(asked)} facts are left out: what is read at the subject in their bare prompt hardly "
            "resembles what is read there behind prefixes; put words before the subject"
        )
    first = sum(one.bare.subject[1] == 0 for one in asked)
    if first:
        yield (
            f"{first} of {len(asked)} prompts begin with a subject of one token: what is read at the first position "
            "hardly depends on the text, so that other texts are moved too; put words before the subject"
        )
    if settings.prefixes:
        yield f"keys are means over the bare prompt and {settings.prefixes} behind: {' '.join(prefixes(settings))}"
    yield from _of_forms(settings, inserted.forms)
    if len(asked) > _WITH_CONTEXTS and settings.prefixes:
        yield f"prompts behind prefixes are not measured: there are more than {_WITH_CONTEXTS} facts"


def _of_reached(settings: Associate, inserted: Inserted) -> str:
    followed = inserted.margin[~inserted.margin.isnan()]
    reached, leading = int((followed >= settings.margin).sum()), int((followed > 0).sum())
    taken = "" if len(followed) == len(inserted.margin) else f" (followed of {len(inserted.margin)}, evenly taken)"
    return (
        f"{reached} of {len(followed)} targets{taken} lead by {settings.margin:g} nats with the edit, {leading} lead "
        "at all (table facts)"
    )


def _of_forms(settings: Associate, forms: Sequence[Form]) -> Iterator[str]:
    for form in forms:
        place = f"layer {form.projection.layer} {form.projection.role}"
        ridge = "constraints hold exactly" if form.ridge == 0 else f"ridge λ = {form.ridge:g}"
        if form.null_space is not None:
            width, left = form.null_space.shape
            yield (
                f"{place}: {ridge}; null-space form, {width - left} of {width} directions hold "
                f"{settings.preserve_energy:g} of the preserved texts' energy and are not read"
            )
        else:
            yield f"{place}: {ridge}"
