"""What an edit did: to its prompts, to what it should leave alone, and to neutral texts."""

from readwrite_edit.edit.measure.measurement import Measured, measure

__all__ = ["Measured", "measure"]
