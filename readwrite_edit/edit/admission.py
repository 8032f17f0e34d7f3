"""Whether an edit can be kept: asked before its model is loaded, once that is, and once the edit is computed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from readwrite_edit.durable import try_writing
from readwrite_edit.edit.associate.facts import read_facts
from readwrite_edit.edit.context import Context
from readwrite_edit.edit.ledger import Ledger, as_facts, ledgers_of, open_ledger
from readwrite_edit.edit.ledger.agreement import same_change
from readwrite_edit.edit.ledger.exclusive import unwritable
from readwrite_edit.edit.ledger.naming import is_taken
from readwrite_edit.edit.ledger.sameness import same_update, update_of
from readwrite_edit.edit.plan import Plan
from readwrite_edit.edit.settings import EditRecipe
from readwrite_edit.interventions.changes import Change
from readwrite_edit.models.source import parse_source
from readwrite_edit.runs.folder import require_unused

_LEAVE_OUT = ", or leave this one out of the ledger (--set ledger.enter=false)"


def check_places(recipe: EditRecipe, run: Path) -> None:
    """Refuse a run folder or a ledger that can not be written, and a name that is taken, before anything is loaded.

    Which ledger is the model's is certain only by its weights: a name is refused here where every ledger that may be
    it has it, and by :func:`admitting_ledger` else.

    Args:
        recipe: Of the edit.
        run: Folder that it is to run in.

    Raises:
        FolderError: The run folder is in use or can not be made.
        EditError: The ledger can not be written, or has the name.
    """
    require_unused(run)
    if not _is_entered(recipe):
        return
    wanted, root = recipe.model, Path(recipe.ledger.folder)
    source = parse_source(wanted.path, wanted.revision)
    known = ledgers_of(root, source, dtype=wanted.dtype, quantization=wanted.quantization)
    for ledger in known:
        ledger.check_writable()
    if not known:
        _check_root(root)
    name = recipe.ledger.name
    if name is not None and known and all(is_taken(name, ledger.names) for ledger in known):
        known[0].check_free(name)


def admitting_ledger(context: Context) -> Ledger | None:
    """The model's ledger, once it is sure that what the recipe says can be entered there.

    Returns:
        None where the edit is not to be entered.

    Raises:
        EditError: The ledger is damaged or of another base, has the name, or holds an edit in force that contradicts
            a fact of the recipe or makes it already.
        DataError: The facts can not be read.
    """
    recipe = context.recipe
    if not _is_entered(recipe):
        return None
    ledger = open_ledger(Path(recipe.ledger.folder), context.base())
    if recipe.ledger.name is not None:
        ledger.check_free(recipe.ledger.name)
    if recipe.associate is not None and ledger.active:
        ledger.check_facts(as_facts(fact.model_dump() for fact in read_facts(recipe.associate)[0]), _LEAVE_OUT)
    return ledger


def check_change(context: Context, plan: Plan, ledger: Ledger, earlier: Mapping[str, tuple[Change, ...]]) -> None:
    """Refuse an edit that is in force already, under whatever name.

    Args:
        context: Of the edit.
        plan: The edit.
        ledger: Where it is to be entered.
        earlier: What its edits in force change, by their names.

    Raises:
        EditError: One of them changes the same matrices by the same.
    """
    mine = update_of(context.model, plan.changes)
    for entry in ledger.active:
        if same_update(mine, update_of(context.model, earlier[entry.name])):
            raise same_change(entry, _LEAVE_OUT)


def _is_entered(recipe: EditRecipe) -> bool:
    return recipe.ledger.enter and recipe.measure.certify


def _check_root(root: Path) -> None:
    try:
        try_writing(root)
    except OSError as error:
        raise unwritable(root, error) from error
