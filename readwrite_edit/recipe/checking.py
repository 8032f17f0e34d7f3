"""From plain values to a recipe, or to every problem they have.

pydantic stops at a section's contradictions as soon as one of its values is of
the wrong type. To report everything at once, what was wrong is taken out and
the rest is checked again, until nothing new turns up. A key is put in at most
once and taken out at most once, so that the rounds come to an end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from readwrite_edit.recipe.problems import Origin, Problem, all_in_one
from readwrite_edit.recipe.section import CONFLICT, Section
from readwrite_edit.recipe.wording import missing_key, sections_of, stand_in, unknown_key, value_at, wrong_value
from readwrite_edit.recipe.yaml_nodes import Path

MOST_EXPLAINED = 200
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


@dataclass(frozen=True)
class _Found:
    """One error of pydantic's.

    Attributes:
        error: Its account.
        path: Where it is in the recipe; of a missing key, where that would be.
        of_branch: Whether it speaks of one of several types that the value might have.
    """

    error: ErrorDetails
    path: Path
    of_branch: bool


class _Checker(Generic[Root]):
    def __init__(self, root: type[Root], value: dict[str, Any], origins: Mapping[Path, Origin]):
        self.root = root
        self.sections = sections_of(root)
        self.value = value
        self.origins = origins
        self.problems: list[Problem] = []
        self.gone: set[Path] = set()
        self.mended: set[tuple[Path, bool]] = set()

    def run(self) -> Root | None:
        """Check, take out what is wrong, check again; each round changes at least one key."""
        while True:
            try:
                return self.root.model_validate(self.value)
            except ValidationError as error:
                details = error.errors(include_url=False, include_input=False)
            found = _one_branch([self._located(detail) for detail in details])
            wrong = [_without_index(path) for same in found for path in self._causes(same)]
            if not any([self._mend(path) for path in dict.fromkeys(wrong)]):
                return None

    def _located(self, error: ErrorDetails) -> _Found:
        """An error's place in the recipe, without what pydantic adds to it: a type's name, the index of a lone item."""
        missing = error["type"] == "missing"
        path: Path = ()
        way = error["loc"][:-1] if missing else error["loc"]
        for part in way:
            if value_at(self.value, (*path, part))[0]:
                path = (*path, part)
        return _Found(error, (*path, error["loc"][-1]) if missing else path, len(way) > len(path))

    def _causes(self, same: list[_Found]) -> list[Path]:
        """Report the errors of one place, unless they follow from earlier ones; which paths to mend."""
        if same[0].error["type"] == CONFLICT:
            return [path for one in same for path in self._conflict(one)]
        path = same[0].path
        if not self._is_gone(path) and not any(self._follows(one) for one in same):
            self._report(path, path, self._words([one.error for one in same], path))
        return [path]

    def _follows(self, found: _Found) -> bool:
        """Whether an error says nothing of its own: its cause is reported as another."""
        if found.error["type"] == "missing":
            return self._is_section(found.path)  # the next round reports what the section lacks
        return found.error["type"] == "too_short" and bool(value_at(self.value, found.path)[1])  # wrong items

    def _is_section(self, path: Path) -> bool:
        return len(path) == 1 and path[0] in self.sections

    def _words(self, errors: list[ErrorDetails], path: Path) -> str:
        if len(self.problems) > MOST_EXPLAINED:
            return errors[0]["msg"]
        if errors[0]["type"] == "missing":
            return missing_key(path, self.root)
        if errors[0]["type"] == "extra_forbidden":
            return unknown_key(path, self.root)
        return wrong_value(errors, value_at(self.value, path)[1], path, self.root)

    def _conflict(self, found: _Found) -> list[Path]:
        error, section = found.error, found.path
        paths: list[Path] = [(*section, *key.split(".")) for key in error["ctx"]["keys"]]
        present = [path for path in paths if value_at(self.value, path)[0]]
        if not any(self._is_gone(path) or self._lost_a_part(path) for path in paths):
            overridden = [path for path in present if self._origin(path).overridden]
            source = next(iter([*overridden, *present]), paths[0])
            self._report(paths[0], source, self._conflict_words(error, paths[0]))
        return present

    def _conflict_words(self, error: ErrorDetails, path: Path) -> str:
        there, given = value_at(self.value, path)
        message = error["ctx"]["message"]
        return wrong_value([error], given, path, self.root) if there and not isinstance(given, list | dict) else message

    def _report(self, path: Path, source: Path, message: str) -> None:
        self.problems.append(Problem(self._origin(source), path, message))

    def _origin(self, path: Path) -> Origin:
        return next(self.origins[prefix] for prefix in _prefixes(path) if prefix in self.origins)

    def _is_gone(self, path: Path) -> bool:
        return any(prefix in self.gone for prefix in _prefixes(path) if prefix)

    def _lost_a_part(self, path: Path) -> bool:
        return any(gone[: len(path)] == path for gone in self.gone)

    def _mend(self, path: Path) -> bool:
        """Take out what is wrong, put in what is missing; whether that changed anything."""
        there, parent = value_at(self.value, path[:-1])
        if not path or not there or not isinstance(parent, dict):
            return False
        change = path, path[-1] in parent
        if change in self.mended:
            return False
        self.mended.add(change)
        if path[-1] in parent:
            del parent[path[-1]]
        else:
            parent[path[-1]] = stand_in(path, self.root)
        if not self._is_section(path) or path[-1] not in parent:
            self.gone.add(path)  # what a section that was put in lacks is still to be reported
        return True


def _one_branch(found: list[_Found]) -> list[list[_Found]]:
    """Errors by their place; what a type says of a whole value is left out where another's account goes into it."""
    paths = {one.path for one in found}
    inner = {prefix for path in paths for prefix in _prefixes(path) if prefix != path}
    places: dict[Path, list[_Found]] = {}
    for one in found:
        if not (one.of_branch and one.path in inner):
            places.setdefault(one.path, []).append(one)
    return list(places.values())


def _without_index(path: Path) -> Path:
    """The list instead of its item: taking out an item would move the others."""
    while path and isinstance(path[-1], int):
        path = path[:-1]
    return path


def _prefixes(path: Path) -> Iterator[Path]:
    return (path[:length] for length in range(len(path), -1, -1))
