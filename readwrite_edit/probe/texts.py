"""The text of a probe as token sequences."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from readwrite_edit.align.texts import load_text
from readwrite_edit.probe.settings.base import TextSettings
from readwrite_edit.recipe.sections import ProtectedText


def probe_sequences(settings: TextSettings, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Token sequences of the text that the settings name.

    Raises:
        DataError: It is missing, unreadable or empty, or holds chats that the tokenizer can not render.
    """
    named = {"path": settings.text, "tokens": settings.tokens, "format": settings.text_format}
    text = ProtectedText.model_validate({name: value for name, value in named.items() if value is not None})
    return load_text(text, tokenizer, max_length=settings.max_length, seed=settings.seed)
