"""Matched edits that did not have to work, and where an edit stands among them."""

from readwrite_edit.edit.controls.comparison import Compared, compare

__all__ = ["Compared", "compare"]
