"""Text from files and models, made safe inside Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from readwrite_edit.terminal import printable

_SPECIAL = re.compile(r"([\\`*_\[\]#!|~@$]|:(?=//)|(?<=www)\.)", re.IGNORECASE)


def escaped(text: str) -> str:
    """One line of text with every character that Markdown or HTML could read as markup neutralised."""
    line = " ".join(printable(text, keep_newlines=True).split())
    return _SPECIAL.sub(r"\\\1", line).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def code(text: str) -> str:
    """One line of text as inline code, whatever backticks it holds."""
    line = printable(" ".join(text.split()))
    ticks = "`" * (_longest_run(line) + 1)
    return f"{ticks} {line} {ticks}" if "`" in line else f"{ticks}{line}{ticks}"


def fenced(text: str, language: str = "") -> str:
    """A code block, whatever fences the text holds."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{printable(text, keep_newlines=True).rstrip()}\n{fence}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with its first column to the left and the others to the right; cells are escaped."""
    head = " | ".join(map(escaped, header))
    rule = " | ".join([":---", *["---:"] * (len(header) - 1)])
    return "\n".join(f"| {line} |" for line in (head, rule, *(" | ".join(map(escaped, row)) for row in rows)))


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)
