"""Edits: one targeted change in closed form, its price beforehand, its effect beside matched controls.

An intervention is a module named by its kind with ``plan_KIND(context)``, which
computes the change and checks all that can be checked. ``job`` prices it, makes
a run of it and enters it in the model's ledger.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from readwrite_edit.edit.job import EditOutcome, Prepared, prepare_edit, start_edit
    from readwrite_edit.edit.settings import EditRecipe

_HOMES = {
    "EditOutcome": "readwrite_edit.edit.job",
    "EditRecipe": "readwrite_edit.edit.settings",
    "Prepared": "readwrite_edit.edit.job",
    "prepare_edit": "readwrite_edit.edit.job",
    "start_edit": "readwrite_edit.edit.job",
}

__all__ = ["EditOutcome", "EditRecipe", "Prepared", "prepare_edit", "start_edit"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'readwrite_edit.edit' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
