"""Rewrite the tables of options in docs/probe.md and docs/edit.md from the settings classes: python docs/options.py."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from readwrite_edit.edit.settings import INTERVENTIONS
from readwrite_edit.edit.settings.associate import Fact
from readwrite_edit.edit.settings.base import Controls, Ledger, Measure, Statistics
from readwrite_edit.edit.settings.locate import LocateSettings
from readwrite_edit.edit.settings.sources import Concept, Direction
from readwrite_edit.probe.settings import PROBES, settings_class

FOLDER = Path(__file__).parent
SECTIONS = {
    **INTERVENTIONS,
    "statistics": Statistics,
    "measure": Measure,
    "controls": Controls,
    "ledger": Ledger,
    "direction": Direction,
    "concept": Concept,
    "fact": Fact,
}


def rewritten(name: str, text: str) -> str:
    """A document of this folder with fresh tables between its marks."""
    if name == "probe.md":
        return _filled(text, "options", {kind: settings_class(kind) for kind in PROBES}, table)
    with_keys = _filled(text, "keys", SECTIONS, key_table)
    return _filled(with_keys, "keys", {"locate": LocateSettings}, table)


def _filled(text: str, mark: str, classes: dict[str, Any], make: Callable[[Any], str]) -> str:
    for kind, settings in classes.items():
        marks = re.compile(rf"(<!-- {mark}: {kind} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not marks.search(text):
            raise SystemExit(f"no mark <!-- {mark}: {kind} -->")
        text = marks.sub(lambda match, settings=settings: match[1] + make(settings) + match[2], text)
    return text


def table(settings: Any) -> str:
    """One row an option: its name on the command line, its default, what it means."""
    rows = [row(_option(name, field), field) for name, field in settings.model_fields.items()]
    return "\n".join(["| option | default | meaning |", "|---|---|---|", *rows, ""])


def key_table(section: Any) -> str:
    """One row a key of a recipe's section."""
    rows = [row(name, field) for name, field in section.model_fields.items()]
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows, ""])


def row(name: str, field: Any) -> str:
    """The line of one field."""
    meaning = field.description.replace("|", "\\|")
    return f"| `{name}` | {_default(field)} | {meaning} |"


def _option(name: str, field: Any) -> str:
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    return name.upper() if extra.get("positional") else f"--{name.replace('_', '-')}"


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        value = ",".join(str(item["path"] if isinstance(item, dict) else item) for item in value)
    return f"`{value}`"


if __name__ == "__main__":
    for name in ("probe.md", "edit.md"):
        document = FOLDER / name
        document.write_text(rewritten(name, document.read_text(encoding="utf-8")), encoding="utf-8")
