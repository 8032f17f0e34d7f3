"""Which ledger a command means: by ``--ledger`` and ``--model``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from readwrite_edit.errors import EditError

if TYPE_CHECKING:
    from readwrite_edit.edit.ledger import Ledger

LEDGERS = Path("edits")


def ledgers(args: argparse.Namespace) -> tuple[list[Ledger], list[EditError]]:
    """The ledgers that are meant, and what is wrong with those that can not be read."""
    from readwrite_edit.edit.ledger import find_ledgers, read_ledger

    found, troubles = [], []
    for folder in find_ledgers(root_of(args)):
        try:
            found.append(read_ledger(folder))
        except EditError as error:
            troubles.append(error)
    if args.model is None:
        return found, troubles
    meant = [ledger for ledger in found if _is_of(ledger, args.model)]
    if not meant and not troubles:
        _require_known(args.model, found, root_of(args))
    return meant, troubles


def root_of(args: argparse.Namespace) -> Path:
    """Folder of ledgers; the default one need not exist, one that is named must.

    Raises:
        EditError: It does not exist, or is a file.
    """
    given: Path | None = args.ledger
    if given is None or given.is_dir():
        return given or LEDGERS
    what = "is a file" if given.exists() else "does not exist"
    raise EditError(f"--ledger {given} {what}: name the folder of ledgers, or of one (default: {LEDGERS})")


def _require_known(model: str, ledgers: Iterable[Ledger], root: Path) -> None:
    """Let pass a model that exists and has no edits; one that may be misspelt is not known to have none.

    Raises:
        EditError: No ledger is its, and it is neither bundled, nor a folder or file, nor in the Hub's cache.
    """
    from readwrite_edit.edit.ledger.naming import listed, meant
    from readwrite_edit.models.source import parse_source, split_revision

    names = [name for ledger in ledgers for name in (ledger.base.source, ledger.folder.name)]
    there = f"{meant(model, names)}there are {listed(names)}" if names else "there is none at all"
    source = parse_source(*split_revision(model))
    if source.kind == "hub" and not _is_cached(source.location):
        raise EditError(f"no ledger of {model} under {root}, and no such model here; {there}")


def _is_cached(repository: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repository, "config.json"), str)


def the_ledger(args: argparse.Namespace) -> Ledger:
    """The one ledger that is meant.

    Raises:
        EditError: There is none, there are several, or one that may be meant can not be read.
    """
    found, troubles = ledgers(args)
    if troubles and (args.model is None or not found):
        raise troubles[0]
    if len(found) == 1:
        return found[0]
    of_model = f" of {args.model}" if args.model else ""
    if not found:
        raise EditError(f"no ledger{of_model} under {root_of(args)}: name its folder with --ledger, see edit ls")
    named = ", ".join(ledger.folder.name for ledger in found)
    raise EditError(f"{len(found)} ledgers{of_model} under {root_of(args)}: choose one with --model ({named})")


def _is_of(ledger: Ledger, model: str) -> bool:
    """Whether a model's name means a ledger: its source as the ledger has it, a path to it, or the folder's name."""
    names = {ledger.base.source, ledger.folder.name, f"{ledger.base.source}@{ledger.base.revision}"}
    return model in names or str(Path(model).expanduser().absolute()) == ledger.base.source
