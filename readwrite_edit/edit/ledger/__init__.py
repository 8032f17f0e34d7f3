"""The ledger of a model: its edits by name, which of them are in force, and what each was found to do.

Nothing here loads torch but what reads an entry's tensors.
"""

from readwrite_edit.edit.ledger.base import Base, base_of
from readwrite_edit.edit.ledger.entries import Entry, Fact
from readwrite_edit.edit.ledger.finding import find_ledgers, open_ledger
from readwrite_edit.edit.ledger.store import Ledger, read_ledger

__all__ = ["Base", "Entry", "Fact", "Ledger", "base_of", "find_ledgers", "open_ledger", "read_ledger"]
