"""The ledger of a model: its edits by name, which of them are in force, and what each was found to do.

Nothing here loads torch but what reads an entry's tensors.
"""

from readwrite_edit.edit.ledger.entering import Offer, enter_run, read_offer
from readwrite_edit.edit.ledger.entries import Entry, Fact, as_facts
from readwrite_edit.edit.ledger.finding import find_ledgers, ledgers_of, open_ledger
from readwrite_edit.edit.ledger.store import Ledger, read_ledger

__all__ = [
    "Entry",
    "Fact",
    "Ledger",
    "Offer",
    "as_facts",
    "enter_run",
    "find_ledgers",
    "ledgers_of",
    "open_ledger",
    "read_ledger",
    "read_offer",
]
