"""Errors a user can act on.

The library raises these and nothing else for what a user can put right. The
message gives the offending value, what was expected and what to do; only
``readwrite_edit.cli`` turns it into one line on stderr and an exit code.
"""

from __future__ import annotations


class ReadWriteEditError(Exception):
    """Anything that this package reports instead of letting a traceback through."""

    exit_code = 2


class RecipeError(ReadWriteEditError):
    """A recipe (or an override of one) is wrong; all its problems are in the message."""


class ModelError(ReadWriteEditError):
    """A model can not be found, loaded safely, or is of an unknown architecture."""


class DataError(ReadWriteEditError):
    """A data set or a text is missing, empty or malformed."""


class ShapeError(ReadWriteEditError, ValueError):
    """Tensors that do not fit together; the message gives both shapes."""


class AdapterError(ReadWriteEditError):
    """An adapter is damaged, belongs to another base model, or breaks its certificate."""


class EditError(ReadWriteEditError):
    """An edit can not be made as asked, or a ledger of edits is damaged or of another base model."""


class ExportError(ReadWriteEditError):
    """An export can not be written or uploaded."""


class RunError(ReadWriteEditError):
    """A run started and could not go on, or its folder is in another's hands."""

    exit_code = 3
