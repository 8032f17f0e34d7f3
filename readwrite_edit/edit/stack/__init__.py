"""Several edits as one adapter: ranks add, conflicts are measured, and ranks can be cut again at a stated error."""

from readwrite_edit.edit.stack.facts import Loaded, measured_facts
from readwrite_edit.edit.stack.recompression import Recompressed, recompressed
from readwrite_edit.edit.stack.stacking import Stacked, check_stack, load_base, stack

__all__ = [
    "Loaded",
    "Recompressed",
    "Stacked",
    "check_stack",
    "load_base",
    "measured_facts",
    "recompressed",
    "stack",
]
