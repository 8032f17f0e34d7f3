"""Subject + relation → target: a matrix that writes the residual stream answers the subject's key with a new value."""

from readwrite_edit.edit.associate.plan import plan_associate

__all__ = ["plan_associate"]
