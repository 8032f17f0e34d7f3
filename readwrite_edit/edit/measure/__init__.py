"""What an edit did: to its prompts, to what it should leave alone, and to neutral texts."""

from readwrite_edit.edit.measure.measurement import Measured, measure
from readwrite_edit.edit.measure.texts import check_texts

__all__ = ["Measured", "check_texts", "measure"]
