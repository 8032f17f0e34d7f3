"""attend: raise or lower the attention between two patterns, on the read side."""

from readwrite_edit.edit.attend.plan import plan_attend

__all__ = ["plan_attend"]
