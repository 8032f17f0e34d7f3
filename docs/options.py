"""Rewrite the tables of options in docs/probe.md from the settings classes: python docs/options.py."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from readwrite_edit.probe.settings import PROBES, settings_class

DOCUMENT = Path(__file__).with_name("probe.md")


def rewritten(text: str) -> str:
    """The document with a fresh table between the marks of each kind."""
    for kind in PROBES:
        marks = re.compile(rf"(<!-- options: {kind} -->\n).*?(<!-- end -->)", re.DOTALL)
        text = marks.sub(lambda match, kind=kind: match[1] + table(kind) + match[2], text)
    return text


def table(kind: str) -> str:
    """One row an option: its name on the command line, its default, what it means."""
    rows = [row(name, field) for name, field in settings_class(kind).model_fields.items()]
    return "\n".join(["| option | default | meaning |", "|---|---|---|", *rows, ""])


def row(name: str, field: Any) -> str:
    """The line of one field."""
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    option = name.upper() if extra.get("positional") else f"--{name.replace('_', '-')}"
    meaning = field.description.replace("|", "\\|")
    return f"| `{option}` | {_default(field)} | {meaning} |"


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"`{','.join(f'{item}' for item in value) if isinstance(value, tuple) else value}`"


if __name__ == "__main__":
    DOCUMENT.write_text(rewritten(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
