"""Problems of a recipe: where each one is, and all of them in one error."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from readwrite_edit.errors import RecipeError
from readwrite_edit.recipe.yaml_nodes import Path
from readwrite_edit.terminal import printable

MOST_REPORTED = 50
_LONGEST_KEY = 80


@dataclass(frozen=True, order=True)
class Origin:
    """Where a value came from: a line of a file, or an override; sorts as users read."""

    overridden: bool
    position: int
    label: str

    @classmethod
    def line(cls, source: str, line: int) -> Origin:
        """A line (from 1) of a recipe file."""
        return cls(False, line, f"{printable(source)}:{line}")

    @classmethod
    def override(cls, text: str, position: int) -> Origin:
        """The override given at this position of the command line."""
        return cls(True, position, f"--set {shortened(printable(text))}")

    @classmethod
    def option(cls, label: str, position: int) -> Origin:
        """An option or argument of the command line's own, such as ``--margin``."""
        return cls(True, position, label)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where it came from, the key it is about and what to do."""

    origin: Origin
    path: Path
    message: str

    def __str__(self) -> str:
        """One line."""
        label, key = self.origin.label, dotted(self.path)
        if self.origin.overridden and label.startswith(f"--set {key}="):
            where = [label]
        elif self.origin.overridden and key.startswith(label):
            where = [key]
        else:
            where = [label, key] if key else [label]
        return ": ".join([*where, printable(self.message)])


def dotted(path: Path) -> str:
    """A path as users write it: ``calibration.protect[0].weight``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{printable(part)}" for part in path)
    return shortened("".join(parts).lstrip("."))


def shortened(text: str, longest: int = _LONGEST_KEY) -> str:
    """The text, cut with an ellipsis."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def all_in_one(problems: Iterable[Problem]) -> RecipeError:
    """One error with a line for each problem, by origin."""
    lines = [str(problem) for problem in sorted(problems, key=lambda problem: problem.origin)]
    lines = list(dict.fromkeys(lines))
    left = len(lines) - MOST_REPORTED
    return RecipeError("\n".join([*lines[:MOST_REPORTED], *([f"and {left} problems more"] if left > 0 else [])]))
