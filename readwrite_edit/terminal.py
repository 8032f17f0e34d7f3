"""Text that came from files, made safe to print on a terminal."""

from __future__ import annotations

import unicodedata

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def printable(text: str, *, keep_newlines: bool = False) -> str:
    r"""Replace control and formatting characters by visible escapes.

    A name or a model's output may hold escape sequences or text-direction
    marks; none of them may reach a terminal.

    Args:
        text: Any text.
        keep_newlines: Let line feeds and tabs through.

    Returns:
        The text with every control character written as ``\xNN`` or ``\uNNNN``.
    """
    if text.isprintable():  # nearly every text: nothing in it is of a hidden category
        return text
    return "".join(
        char if (keep_newlines and char in "\n\t") or unicodedata.category(char) not in _HIDDEN else _escape(char)
        for char in text
    )


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def counted(count: int, one: str, many: str | None = None) -> str:
    """A number of things in words: ``1 edit``, ``2 edits``; ``many`` where the plural is not made by an s."""
    return f"{count} {one}" if count == 1 else f"{count} {many or one + 's'}"
