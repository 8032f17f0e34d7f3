"""From plain values to a recipe, or to every problem they have.

pydantic stops at a section's contradictions as soon as one of its values is of
the wrong type. To report everything at once, what was wrong is taken out and
the rest is checked again, until nothing new turns up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, Generic, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from readwrite_edit.recipe.problems import Origin, Problem, all_in_one
from readwrite_edit.recipe.section import CONFLICT, Section
from readwrite_edit.recipe.wording import missing_key, sections_of, unknown_key, value_at, wrong_value
from readwrite_edit.recipe.yaml_nodes import Path

MOST_EXPLAINED = 200
_STAND_IN = "stand-in"
Root = TypeVar("Root", bound=Section)


def check(root: type[Root], value: dict[str, Any], origins: Mapping[Path, Origin], known: list[Problem]) -> Root:
    """Validate a recipe as a whole.

    Args:
        root: The class of the whole recipe.
        value: The recipe as plain values.
        origins: Where each path of it came from; the empty path must be there.
        known: Problems found while reading, reported with those found here.

    Raises:
        RecipeError: One line for each problem.
    """
    checker = _Checker(root, deepcopy(value), origins)
    checker.gone.update(problem.path for problem in known if problem.path)
    recipe = checker.run()
    problems = [*known, *checker.problems]
    if problems or recipe is None:
        raise all_in_one(problems)
    return recipe


class _Checker(Generic[Root]):
    def __init__(self, root: type[Root], value: dict[str, Any], origins: Mapping[Path, Origin]):
        self.root = root
        self.sections = sections_of(root)
        self.value = value
        self.origins = origins
        self.problems: list[Problem] = []
        self.gone: set[Path] = set()

    def run(self) -> Root | None:
        """Check, take out what is wrong, check again; each round changes at least one key."""
        while True:
            try:
                return self.root.model_validate(self.value)
            except ValidationError as error:
                details = error.errors(include_url=False, include_input=False)
            wrong = [_without_index(path) for detail in details for path in self._causes(detail)]
            if not any([self._mend(path) for path in dict.fromkeys(wrong)]):
                return None

    def _causes(self, error: ErrorDetails) -> list[Path]:
        """Report one error, unless it follows from an earlier one; which paths to mend."""
        if error["type"] == CONFLICT:
            return self._conflict(error)
        path = self._existing(error["loc"])
        if error["type"] == "missing":
            path = (*path, error["loc"][len(path)])
        if not self._is_gone(path) and not self._follows(error, path):
            self._report(path, path, self._words(error, path))
        return [path]

    def _follows(self, error: ErrorDetails, path: Path) -> bool:
        """Whether an error says nothing of its own: its cause is reported as another."""
        if error["type"] == "missing":
            return path[-1] in self.sections  # the next round reports what the section lacks
        return error["type"] == "too_short" and bool(value_at(self.value, path)[1])  # wrong items do not count

    def _words(self, error: ErrorDetails, path: Path) -> str:
        if len(self.problems) > MOST_EXPLAINED:
            return error["msg"]
        if error["type"] == "missing":
            return missing_key(path, self.root)
        if error["type"] == "extra_forbidden":
            return unknown_key(path, self.root)
        return wrong_value(error, value_at(self.value, path)[1], path, self.root)

    def _conflict(self, error: ErrorDetails) -> list[Path]:
        section = self._existing(error["loc"])
        paths: list[Path] = [(*section, *key.split(".")) for key in error["ctx"]["keys"]]
        present = [path for path in paths if value_at(self.value, path)[0]]
        if not any(self._is_gone(path) or self._lost_a_part(path) for path in paths):
            overridden = [path for path in present if self._origin(path).overridden]
            source = next(iter([*overridden, *present]), section)
            self._report(paths[0], source, self._conflict_words(error, paths[0]))
        return present

    def _conflict_words(self, error: ErrorDetails, path: Path) -> str:
        there, given = value_at(self.value, path)
        message = error["ctx"]["message"]
        return wrong_value(error, given, path, self.root) if there and not isinstance(given, list | dict) else message

    def _report(self, path: Path, source: Path, message: str) -> None:
        self.problems.append(Problem(self._origin(source), path, message))

    def _origin(self, path: Path) -> Origin:
        return next(self.origins[prefix] for prefix in _prefixes(path) if prefix in self.origins)

    def _existing(self, location: tuple[int | str, ...]) -> Path:
        """Without what pydantic adds to a location (the branch of a union)."""
        return next(prefix for prefix in _prefixes(location) if value_at(self.value, prefix)[0])

    def _is_gone(self, path: Path) -> bool:
        return any(prefix in self.gone for prefix in _prefixes(path) if prefix)

    def _lost_a_part(self, path: Path) -> bool:
        return any(gone[: len(path)] == path for gone in self.gone)

    def _mend(self, path: Path) -> bool:
        """Take out what is wrong, put in what is missing; whether that changed anything."""
        _, parent = value_at(self.value, path[:-1])
        if not path or not isinstance(parent, dict):
            return False
        if path[-1] in self.sections and path[-1] not in parent:
            parent[path[-1]] = {}  # not gone: what it lacks is reported in the next round
            return True
        self.gone.add(path)
        if path[-1] in parent:
            del parent[path[-1]]
        else:
            parent[path[-1]] = _STAND_IN
        return True


def _without_index(path: Path) -> Path:
    """The list instead of its item: taking out an item would move the others."""
    while path and isinstance(path[-1], int):
        path = path[:-1]
    return path


def _prefixes(path: Path) -> Iterator[Path]:
    return (path[:length] for length in range(len(path), -1, -1))
