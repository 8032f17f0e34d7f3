"""Edits of a ledger written as one stock adapter, with its certificate and what the edits do to each other."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from readwrite_edit.adapter import Certificate
from readwrite_edit.durable import try_writing
from readwrite_edit.edit.files import attach, certify_saved, detach, save_edit
from readwrite_edit.edit.ledger import Entry, Ledger
from readwrite_edit.edit.ledger.naming import check_name
from readwrite_edit.edit.overlaps import interference_table
from readwrite_edit.edit.stack.facts import Loaded, measured_facts
from readwrite_edit.edit.stack.recompression import Recompressed, recompressed
from readwrite_edit.errors import EditError
from readwrite_edit.models.fingerprint import weights_hash
from readwrite_edit.models.identity import Base
from readwrite_edit.models.loading import load_model, load_tokenizer
from readwrite_edit.models.pathways import find_pathways


@dataclass(frozen=True, eq=False)
class Stacked:
    """What came of a stack.

    Attributes:
        folder: The adapter.
        entries: Names of the edits in it, in the ledger's order.
        matrices: Ranks and errors, see :class:`Recompressed`.
        error: ‖ΔW − ΔW_r‖_F/‖ΔW‖_F over all matrices; 0 where nothing was cut.
        conflicts: See :func:`interference_table`.
        facts: See :func:`measured_facts`.
        certificate: Of the adapter; None where it was not asked for.
    """

    folder: Path
    entries: tuple[str, ...]
    matrices: pd.DataFrame
    error: float
    conflicts: pd.DataFrame
    facts: pd.DataFrame
    certificate: Certificate | None


def stack(
    ledger: Ledger,
    names: Sequence[str],
    to: Path,
    *,
    rank: int | None = None,
    name: str | None = None,
    loaded: Loaded | None = None,
    certify: bool = True,
) -> Stacked:
    """Write several edits as one adapter.

    Edits come in the ledger's order, however they are named, so that the same
    edits give the same bytes.

    Args:
        ledger: Of the base.
        names: Edits; none for all that are in force.
        to: Target folder, missing or empty.
        rank: Largest rank of a matrix; None leaves the sum of the edits' ranks.
        name: Of the stack, for its metadata.
        loaded: The base, if it is in memory; else it is loaded from where the ledger says.
        certify: Check the saved adapter in a fresh process.

    Raises:
        EditError: A name is unknown or given twice, an edit is damaged, the target is not empty or can not be
            written, or the base is another one.
        ModelError: The base can not be loaded.
    """
    chosen = check_stack(ledger, names, to, rank=rank, name=name)
    loaded = loaded or load_base(ledger.base)
    edits = {entry.name: ledger.changes_of(entry, loaded.pathways) for entry in chosen}
    together = [change for changes in edits.values() for change in changes]
    result = recompressed(loaded.model, together, rank)
    facts = measured_facts(loaded, chosen, edits, result.changes)
    _write(loaded, result, to, ledger.base, _about(chosen, name, rank, result.error))
    certificate = certify_saved(to, ledger.base) if certify else None
    included = tuple(entry.name for entry in chosen)
    return Stacked(to, included, result.matrices, result.error, interference_table(edits), facts, certificate)


def check_stack(
    ledger: Ledger, names: Sequence[str], to: Path, *, rank: int | None = None, name: str | None = None
) -> tuple[Entry, ...]:
    """Refuse what can be refused before the base is loaded.

    Returns:
        The edits, in the ledger's order.
    """
    if rank is not None and rank < 1:
        raise EditError(f"rank {rank}: expected at least 1")
    if name is not None:
        check_name(name)
    _check_target(to)
    twice = next((one for one, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise EditError(f"'{twice}' is named {names.count(twice)} times: an edit is in a stack once, name it once")
    wanted = {ledger.entry(name).name for name in names} if names else {entry.name for entry in ledger.active}
    if not wanted:
        raise EditError(f"no edit of the ledger {ledger.folder} is in force: name one, or put one back (edit redo)")
    chosen = tuple(entry for entry in ledger.entries if entry.name in wanted)
    for entry in chosen:
        ledger.adapter_of(entry)
    return chosen


def _check_target(to: Path) -> None:
    with _reported(to):
        if os.path.lexists(to) and (not to.is_dir() or any(to.iterdir())):
            raise EditError(f"{to} is not an empty folder: choose another one for the stack")
        try_writing(to)


@contextmanager
def _reported(to: Path) -> Iterator[None]:
    """What the disk says in one line, with what to do."""
    try:
        yield
    except OSError as error:
        raise EditError(
            f"{to} can not be written ({error.strerror or error}): free space there or give access to it, or choose "
            "another folder (--to); nothing was left behind"
        ) from error


def load_base(base: Base) -> Loaded:
    """Load the base that a ledger names, and make sure that it is still the same.

    Raises:
        EditError: Its weights are others now.
        ModelError: It can not be loaded.
    """
    source = base.model_source
    model = load_model(source, dtype=base.dtype, quantization=base.quantization).requires_grad_(False)
    found = weights_hash(model)
    if found != base.weights_hash:
        raise EditError(
            f"the weights of {source} are not those that were edited (hash {found[:12]}, the ledger has "
            f"{str(base.weights_hash)[:12]}): put the original model back"
        )
    return Loaded(model, load_tokenizer(source), find_pathways(model))


def _write(loaded: Loaded, result: Recompressed, to: Path, base: Base, about: dict[str, object]) -> None:
    model = attach(loaded.model, result.changes)
    try:
        with _reported(to):
            save_edit(model, result.changes, to, base=base, tokenizer=loaded.tokenizer, about=about)
    finally:
        detach(model)


def _about(chosen: Sequence[Entry], name: str | None, rank: int | None, error: float) -> dict[str, object]:
    """Metadata: nothing in it changes from one time to the next."""
    return {
        "edit": {"kind": "stack", "name": name},
        "stacked": [{"name": entry.name, "adapter_sha256": entry.adapter_sha256} for entry in chosen],
        "largest_rank": rank,
        "recompression_error": error,
    }
