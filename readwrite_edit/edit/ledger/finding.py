"""Which folder holds the ledger of a model."""

from __future__ import annotations

from pathlib import Path

from readwrite_edit.edit.ledger.base import Base
from readwrite_edit.edit.ledger.document import FILE, Document
from readwrite_edit.edit.ledger.store import Ledger, check_base, read_ledger


def find_ledgers(root: Path) -> tuple[Path, ...]:
    """Folders of ledgers under a root, sorted; the root itself where it is one."""
    if (root / FILE).is_file():
        return (root,)
    if not root.is_dir():
        return ()
    return tuple(sorted(path for path in root.iterdir() if (path / FILE).is_file()))


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
