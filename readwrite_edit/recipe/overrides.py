"""Overrides of a recipe from the command line: ``--set adapter.rank=32``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from readwrite_edit.recipe.problems import Origin, Problem
from readwrite_edit.recipe.wording import shown
from readwrite_edit.recipe.yaml_nodes import Path, read_document


def apply_overrides(
    value: dict[str, Any], origins: dict[Path, Origin], overrides: Sequence[str], problems: list[Problem]
) -> None:
    """Put overrides into a recipe's plain values, in order; a later one wins.

    Args:
        value: Changed in place.
        origins: Changed in place: what an override gives comes from the override.
        overrides: ``key=value`` each; keys are dotted, values are YAML.
        problems: Gets those of the overrides themselves.
    """
    for position, text in enumerate(overrides):
        origin = Origin.override(text, position)
        key, equals, given = text.partition("=")
        keys = tuple(part.strip() for part in key.split("."))
        if not equals or not all(keys):
            problems.append(Problem(origin, (), "expected key=value, such as adapter.rank=32"))
            continue
        try:
            document = read_document(given)
        except yaml.YAMLError:
            problems.append(Problem(origin, keys, f"got {shown(given)}; expected a YAML value (quote special signs)"))
            continue
        problems += [Problem(origin, (*keys, *inner), message) for _, inner, message in document.problems]
        obstacle = _put(value, keys, document.value)
        if obstacle is None:
            _move_origin(origins, keys, origin, document.lines)
        else:
            problems.append(Problem(origin, keys, obstacle))


def _put(value: dict[str, Any], keys: tuple[str, ...], given: Any) -> str | None:
    """Set a value, making sections on the way; what stands in the way, if anything."""
    for depth, key in enumerate(keys[:-1], start=1):
        inner = value.get(key)
        if inner is None:
            inner = value[key] = {}
        if not isinstance(inner, dict):
            name = ".".join(keys[:depth])
            return f"{name} is {shown(inner)} and has no keys; expected {name}=… to set it as a whole"
        value = inner
    value[keys[-1]] = given
    return None


def _move_origin(origins: dict[Path, Origin], path: Path, origin: Origin, inner: Iterable[Path]) -> None:
    for old in [known for known in origins if known[: len(path)] == path]:
        del origins[old]
    origins.update({(*path, *tail): origin for tail in inner})
    origins[path] = origin
    for length in range(1, len(path)):
        origins.setdefault(path[:length], origin)
