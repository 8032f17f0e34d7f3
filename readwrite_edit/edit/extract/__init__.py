"""The part of a change that lies in chosen pathways and subspaces, as a small adapter."""

from readwrite_edit.edit.extract.adapters import base_of_adapter, plan_project_adapter
from readwrite_edit.edit.extract.checkpoints import plan_extract

__all__ = ["base_of_adapter", "plan_extract", "plan_project_adapter"]
