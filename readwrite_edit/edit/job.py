"""An edit as a run: planned and priced first, then measured beside its controls, written, certified and entered."""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from readwrite_edit.durable import finite_or_none
from readwrite_edit.edit.admission import admitting_ledger, check_change, check_places
from readwrite_edit.edit.context import Context
from readwrite_edit.edit.controls import Compared, compare
from readwrite_edit.edit.files import attach, certify_edit, detach, write_adapter
from readwrite_edit.edit.ledger import Ledger, Offer, as_facts, enter_run
from readwrite_edit.edit.ledger.entries import adapter_hash
from readwrite_edit.edit.measure import Measured, check_texts, measure
from readwrite_edit.edit.plan import Plan
from readwrite_edit.edit.preflight import Preflight, preflight
from readwrite_edit.edit.settings import EditRecipe
from readwrite_edit.edit.trial import try_on
from readwrite_edit.errors import EditError, RunError
from readwrite_edit.interventions.changes import Change
from readwrite_edit.job.carrying import carry_out
from readwrite_edit.job.result import Result, write_result
from readwrite_edit.job.session import Session
from readwrite_edit.provenance import versions_of
from readwrite_edit.recipe import dump_recipe
from readwrite_edit.runs.folder import RunFolder, require_unused
from readwrite_edit.runs.signals import heeding_signals
from readwrite_edit.runs.writer import RunWriter

PACKAGES = ("readwrite-edit", "torch", "transformers", "peft", "safetensors", "numpy", "scipy", "pandas")
_PLANNERS = {
    "associate": "associate",
    "attend": "attend",
    "project": "project",
    "steer": "steer",
    "extract": "extract",
    "project_adapter": "extract",
}
_LESS = "controls.per_pass or measure.tokens"


@dataclass(frozen=True)
class Prepared:
    """An edit that is computed and priced; nothing is written yet.

    Attributes:
        context: The model and its statistics.
        plan: The edit.
        price: What it will cost.
        ledger: Where it will be entered; None where it is not.
    """

    context: Context
    plan: Plan
    price: Preflight
    ledger: Ledger | None


@dataclass(frozen=True)
class EditOutcome:
    """How an edit ended.

    Attributes:
        folder: The run folder.
        summary: What ``summary.json`` holds; None where it was stopped.
        entry: Name of its entry in the ledger; None where it was not entered.
        interrupted: Whether a signal, not a stop request, ended it.
    """

    folder: RunFolder
    summary: dict[str, Any] | None
    entry: str | None = None
    interrupted: bool = False


def prepare_edit(recipe: EditRecipe, session: Session | None = None, *, run: Path | None = None) -> Prepared:
    """Compute an edit and its price; everything that can be refused is refused here, each as early as it can be.

    Args:
        recipe: What to change in which model.
        session: Words for the user; silent by default.
        run: Folder that it is to run in, tried before anything is loaded, and the ledger with it; None for the price
            alone, for which nothing is written.

    Raises:
        ReadWriteEditError: The recipe does not fit the model, the texts or the ledger, or a folder can not be written.
    """
    if run is not None:
        check_places(recipe, run)
    context = Context(recipe, session or Session())
    check_texts(context)
    ledger = admitting_ledger(context)
    plan = _planner(recipe.kind)(context)
    try_on(context, plan)
    earlier: dict[str, tuple[Change, ...]] = {}
    if ledger is not None:
        earlier = {entry.name: ledger.changes_of(entry, context.pathways) for entry in ledger.active}
        check_change(context, plan, ledger, earlier)
    return Prepared(context, plan, preflight(context, plan, earlier), ledger)


def start_edit(prepared: Prepared, path: Path, name: str, command: str) -> EditOutcome:
    """Measure, compare, write and enter a prepared edit in a new run folder.

    Args:
        prepared: From :func:`prepare_edit`.
        path: Run folder, missing or empty.
        name: Of the recipe, for lists.
        command: The command line that asked for it, kept with the results.

    Raises:
        ReadWriteEditError: The folder or the ledger can not be used, or the run failed; the folder then says why. Or
            the run is finished and its edit could not be entered: the message says how to enter it later.
    """
    require_unused(path)
    if prepared.ledger is not None:
        prepared.ledger.check_writable()
    context = prepared.context
    recipe = context.recipe.model_copy(update={"provenance": _provenance(prepared)})
    with heeding_signals() as interruption:
        text = dump_recipe(recipe, command=command)
        writer = RunWriter.start(path, recipe_text=text, recipe_name=name, kind="edit")

        def work(session: Session) -> dict[str, Any]:
            context.session = session
            return _work(prepared, writer.folder, command)

        summary = carry_out(writer, interruption, work, again="start it anew", less=_LESS)
        if summary is None:
            return EditOutcome(writer.folder, None, None, interruption.asked)
        return EditOutcome(writer.folder, summary, _enter(prepared, writer.folder))


def _work(prepared: Prepared, folder: RunFolder, command: str) -> dict[str, Any]:
    """Controls on the bare model, measurements through the adapter, files, certificate."""
    context, plan = prepared.context, prepared.plan
    compared = compare(context, plan)
    measured, certificate = _adapted(prepared, folder)
    compared = compared.with_cost(measured.cost)
    context.session.close()
    summary = write_result(
        _result(prepared, measured, compared), folder, _about(prepared, folder, measured, certificate, command)
    )
    if certificate is not None and not certificate["passed"]:
        failed = [f"{check['name']}: {check['detail']}" for check in certificate["checks"] if not check["passed"]]
        raise RunError(f"the adapter does not satisfy its certificate ({'; '.join(failed)}); see {folder.report}")
    return summary


def _adapted(prepared: Prepared, folder: RunFolder) -> tuple[Measured, dict[str, Any] | None]:
    """Measure the model with the stock adapter on it, save the adapter and check the saved files."""
    context, plan = prepared.context, prepared.plan
    if not context.recipe.measure.certify:
        write_adapter(context, None, plan.changes, folder.adapter)
        return Measured.nothing(), None
    model = attach(context.model, plan.changes)
    try:
        measured = measure(context, plan, model)
        write_adapter(context, model, plan.changes, folder.adapter)
    finally:
        detach(model)
    return measured, certify_edit(context, folder.adapter).as_dict()


def _result(prepared: Prepared, measured: Measured, compared: Compared) -> Result:
    """Everything that was found, as tables and figures."""
    plan, price = prepared.plan, prepared.price
    own = {**plan.tables, **price.tables, **measured.tables, **compared.tables}
    main = next((name for name in ("effects", "metrics", "matrices") if name in own), "preflight")
    return Result(
        main=main,
        tables=own,
        verdict=compared.verdict,
        figures={**plan.figures, **price.figures, **measured.figures, **compared.figures},
        notes=(*plan.notes, *price.notes, *measured.notes, *compared.notes),
    )


def _about(
    prepared: Prepared, folder: RunFolder, measured: Measured, certificate: dict[str, Any] | None, command: str
) -> dict[str, Any]:
    """What the summary says beside the findings."""
    recipe, plan = prepared.context.recipe, prepared.plan
    return {
        "edit": recipe.kind,
        "title": title_of(plan, recipe),
        "why": plan.why,
        "generations": [dict(item) for item in measured.generations],
        "certificate": certificate,
        "entry": None if certificate is None else _offer(prepared, folder).model_dump(mode="json"),
        "controls": recipe.controls.count,
        "command": command,
    }


def title_of(plan: Plan, recipe: EditRecipe) -> str:
    """What an edit does in a few words."""
    return plan.title or recipe.kind.replace("_", " ")


def _offer(prepared: Prepared, folder: RunFolder) -> Offer:
    """What the run says for a ledger, now or later."""
    context, plan = prepared.context, prepared.plan
    return Offer(
        base=context.base(),
        name=context.recipe.ledger.name,
        kind=context.recipe.kind,
        title=title_of(plan, context.recipe),
        adapter_sha256=adapter_hash(folder.adapter),
        statistics_sha256=_statistics_hash(prepared),
        predicted_damage=finite_or_none({"": prepared.price.predicted_damage})[""],
        facts=as_facts(plan.facts),
    )


def _enter(prepared: Prepared, folder: RunFolder) -> str | None:
    """Enter the finished edit; returns the entry's name.

    Raises:
        EditError: The ledger does not take it; the message says how to enter it once it does.
    """
    if prepared.ledger is None:
        return None
    try:
        return enter_run(prepared.ledger, folder).name
    except EditError as error:
        root = prepared.context.recipe.ledger.folder
        command = ["readwrite-edit", "edit", "enter", str(folder.path), "--ledger", root]
        raise EditError(
            f"{error}. The edit is finished and its adapter is {folder.adapter}, but it is not in the ledger: enter it "
            f"with {shlex.join(command)}"
        ) from error


def _planner(kind: str) -> Callable[[Context], Plan]:
    module = importlib.import_module(f"readwrite_edit.edit.{_PLANNERS[kind]}")
    plan: Callable[[Context], Plan] = getattr(module, f"plan_{kind}")
    return plan


def _statistics_hash(prepared: Prepared) -> str | None:
    return prepared.context.statistics_hash(change.projection for change in prepared.plan.changes)


def _provenance(prepared: Prepared) -> dict[str, str]:
    context = prepared.context
    weights = context.fingerprint if context.recipe.measure.certify else None
    own = {"weights_sha256": weights, "statistics_sha256": _statistics_hash(prepared)}
    return {**versions_of(PACKAGES), **{name: text for name, text in own.items() if text}}
