"""Which folder holds the ledger of a model."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from readwrite_edit.edit.ledger.document import FILE, Document
from readwrite_edit.edit.ledger.store import Ledger, check_base, read_ledger
from readwrite_edit.errors import EditError
from readwrite_edit.models.identity import Base, named
from readwrite_edit.models.source import ModelSource


def find_ledgers(root: Path) -> tuple[Path, ...]:
    """Folders of ledgers under a root, sorted; the root itself where it is one. What is in them is not looked at."""
    if (root / FILE).exists():
        return (root,)
    if not root.is_dir():
        return ()
    return tuple(sorted(path for path in root.iterdir() if (path / FILE).exists()))


def ledgers_of(root: Path, source: ModelSource, *, dtype: str, quantization: str | None) -> tuple[Ledger, ...]:
    """Ledgers that may be a model's, as far as can be told without its weights.

    Those that can not be read are left out: :func:`open_ledger` refuses the one that is the model's.

    Args:
        root: Folder of ledgers; need not exist.
        source: The model.
        dtype: As in a recipe; ``auto`` for any.
        quantization: As in a recipe.
    """
    found = []
    for folder in find_ledgers(root):
        with suppress(EditError):
            ledger = read_ledger(folder)
            base = ledger.base
            if (base.source, base.quantization) == (named(source), quantization) and dtype in ("auto", base.dtype):
                found.append(ledger)
    return tuple(found)


def open_ledger(root: Path, base: Base) -> Ledger:
    """The ledger of a model; an empty one where it has none yet. Nothing is written.

    A model that has moved keeps its ledger: it is found by the hash of the
    weights, which ends the folder's name.

    Args:
        root: Folder of ledgers; need not exist.
        base: The model.

    Raises:
        EditError: The ledger is damaged, of a newer version, or of another base.
    """
    ending = f"-{str(base.weights_hash)[:8]}"
    found = [path for path in find_ledgers(root) if path.name.endswith(ending)]
    if not found:
        return Ledger(root / base.slug, Document(base=base))
    ledger = read_ledger(next((path for path in found if path.name == base.slug), found[0]))
    check_base(ledger.folder, ledger.base, base)
    return ledger
