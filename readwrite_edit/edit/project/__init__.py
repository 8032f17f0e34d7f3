"""Remove, keep or scale directions of what matrices write or read, or erase a labelled concept from it."""

from readwrite_edit.edit.project.plan import plan_project

__all__ = ["plan_project"]
