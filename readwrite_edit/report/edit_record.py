"""What an edit left behind, read once: recipe, summary and tables, as far as it got."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from readwrite_edit.report.record import is_number
from readwrite_edit.report.result_files import (
    ResultRecord,
    date_of,
    mapping,
    read_recipe,
    read_summary,
    read_tables,
    sentences,
)
from readwrite_edit.terminal import printable

_AGAIN = "run the edit again"
_AROUND = ("model", "statistics", "measure", "controls", "ledger", "command", "provenance")


@dataclass(frozen=True)
class EditRecord(ResultRecord):
    """The files of one edit's run folder; its summary has generations and certificate besides.

    Attributes:
        kind: Of the edit: the section of its recipe that says what to change, or ``locate``.
        recipe: As values.
    """

    kind: str
    recipe: dict[str, Any]

    @property
    def name(self) -> str:
        """The kind of edit in words."""
        return self.kind.replace("_", " ")

    @property
    def title(self) -> str:
        """What the edit does in a few words."""
        return printable(str(self.summary.get("title") or self.name))

    @property
    def model(self) -> str:
        """The edited model as the recipe names it."""
        own = mapping(self.recipe.get(self.kind)).get("model")
        named = mapping(self.recipe.get("model"))
        revision = f"@{named['revision']}" if named.get("revision") else ""
        return printable(f"{named.get('path') or own or 'unknown model'}{revision}")

    @property
    def why(self) -> str:
        """Which layers and why; empty where the verdict says the same."""
        why = printable(str(self.summary.get("why") or ""))
        return "" if why == self.verdict else why

    @property
    def versions(self) -> list[tuple[str, str]]:
        """Packages that made the edit."""
        found = mapping(self.recipe.get("provenance"))
        return [(name, str(value)) for name, value in found.items() if not name.endswith("_sha256")]

    @property
    def command(self) -> str:
        """The command line that asked for it."""
        return str(self.summary.get("command") or self.recipe.get("command") or "")

    @property
    def settings(self) -> dict[str, Any]:
        """What the recipe says of the edit itself."""
        return mapping(self.recipe.get(self.kind))

    @property
    def aims(self) -> bool:
        """Whether it is a change that controls could stand beside; a trace is none."""
        return self.kind != "locate"

    @property
    def has_controls(self) -> bool:
        """Whether controls were measured."""
        return "effects" in self.tables or "controls" in self.tables

    @property
    def no_controls(self) -> str:
        """A sentence where no controls were measured, or an empty text."""
        if not self.summary or not self.aims or self.has_controls or {"effects", "controls"} & self._named:
            return ""
        asked = self.summary.get("controls")
        reason = " They were switched off." if is_number(asked) and asked == 0 else ""
        return f"No controls.{reason} Nothing here says whether random edits of the same size do as much."

    @property
    def generations(self) -> list[dict[str, str]]:
        """``prompt``, ``before`` and ``after`` of each text; what is not of that form is left out."""
        given = self.summary.get("generations")
        found = [mapping(one) for one in given] if isinstance(given, list) else []
        sides = ("prompt", "before", "after")
        return [
            {side: printable(str(one[side]), keep_newlines=True) for side in sides}
            for one in found
            if set(sides) <= set(one)
        ]

    @property
    def certificate(self) -> dict[str, Any] | None:
        """Whether the adapter passed, and each check; None where none was made."""
        found = mapping(self.summary.get("certificate"))
        if not isinstance(found.get("passed"), bool):
            return None
        given = found.get("checks")
        checks = [mapping(check) for check in given] if isinstance(given, list) else []
        shown: Sequence[dict[str, Any]] = [
            {
                "passed": check.get("passed") is True,
                **{part: printable(str(check.get(part) or "")) for part in ("name", "detail")},
            }
            for check in checks
        ]
        return {"passed": found["passed"], "checks": shown}

    @property
    def _named(self) -> set[str]:
        return set(sentences(self.summary.get("tables")))


def read_edit(path: Path) -> EditRecord:
    """Read an edit's run folder; a table that is damaged becomes a problem, not an error.

    Raises:
        DataError: The recipe or the summary is missing or damaged.
    """
    text, recipe = read_recipe(path / "recipe.yaml", _AGAIN)
    summary = read_summary(path / "summary.json", _AGAIN)
    tables, problems = read_tables(path, summary)
    return EditRecord(
        path=path,
        kind=_kind(recipe, summary),
        recipe={str(name): value for name, value in recipe.items()},
        recipe_text=text,
        summary=summary,
        tables=tables,
        problems=tuple(problems),
        date=date_of(path / "state.json"),
    )


def _kind(recipe: dict[str, Any], summary: dict[str, Any]) -> str:
    """As the summary says, or the section of the recipe that is none of those around it."""
    named = summary.get("edit")
    own = [str(key) for key, value in recipe.items() if key not in _AROUND and isinstance(value, dict)]
    return printable(str(named)) if named else own[0] if own else "edit"
