"""What a wrong value is called: the words of a recipe's problems."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from readwrite_edit.recipe.owned import OWNED
from readwrite_edit.recipe.problems import shortened
from readwrite_edit.recipe.schema import Recipe
from readwrite_edit.recipe.section import Section
from readwrite_edit.recipe.yaml_nodes import Path
from readwrite_edit.terminal import printable

_LONGEST_VALUE = 60
_MANY_KEYS = 12
_TYPES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text (in quotes, if it looks like a number)",
    "string_too_short": "text that is not empty",
    "tuple_type": "a list",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
}
_LIMITS = {
    "greater_than": ("gt", "a value above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "a value below"),
    "less_than_equal": ("le", "at most"),
}
_OTHER_NAMES = {
    "r": "adapter.rank",
    "target_modules": "adapter.modules",
    "layers_to_transform": "adapter.layers",
    "lr": "train.learning_rate",
    "epochs": "train.num_train_epochs",
    "steps": "train.max_steps",
}
_STAND_INS = ("stand-in", 1)
_LORA_ALPHA = "it is always the rank: loaders that ignore alpha patterns then scale alike"


def shown(value: object) -> str:
    """A value as it may stand in a message: one line, short, no control characters."""
    text = f"'{value}'" if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return shortened(printable(text[: 4 * _LONGEST_VALUE]), _LONGEST_VALUE)


def wrong_value(errors: Sequence[ErrorDetails], given: object, path: Path, root: type[Section] = Recipe) -> str:
    """What a value is and what was expected instead.

    Args:
        errors: pydantic's account of it: several where the value might have several types.
        given: The value in the recipe.
        path: Where it stands.
        root: The class of the whole recipe.
    """
    in_order = sorted(errors, key=lambda error: error["type"] == "literal_error")  # its hint ends the line
    wanted = list(dict.fromkeys(_expected(error, given, path, root) for error in in_order))
    first, *others = wanted
    return f"got {shown(given)}; {' or '.join([first, *(other.removeprefix('expected ') for other in others)])}"


def _expected(error: ErrorDetails, given: object, path: Path, root: type[Section]) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "string_pattern_mismatch":
        return f"expected {_description(path, root)}"
    if kind == "literal_error":
        return _one_of(re.findall(r"'([^']*)'", context["expected"]), given)
    if kind in _TYPES:
        return f"expected {_TYPES[kind]}"
    if kind in _LIMITS:
        key, words = _LIMITS[kind]
        return f"expected {words} {context[key]}"
    if kind in {"too_short", "too_long"}:
        return f"expected a list of at least {context.get('min_length', 0)} items"
    return str(context.get("message", error["msg"]))


def _one_of(names: list[str], given: object) -> str:
    near = get_close_matches(str(given)[:_LONGEST_VALUE], names, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"expected {'one of ' if len(names) > 1 else ''}{', '.join(names)}{hint}"


def missing_key(path: Path, root: type[Section] = Recipe) -> str:
    """What a required key should hold."""
    return f"missing; expected {_description(path, root)}"


def _description(path: Path, root: type[Section]) -> str:
    field = _field_at(path, root)
    return f"{_kind(field.annotation)}: {field.description}" if field else "text"


def _kind(annotation: Any) -> str:
    """What a field holds, in words."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kind(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return _kind(next(item for item in get_args(annotation) if item is not NoneType))
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return "a mapping of keys to values"
    return "a list" if origin is tuple else {int: "a whole number", float: "a number"}.get(annotation, "text")


def stand_in(path: Path, root: type[Section]) -> Any:
    """A value for a missing key, so that what stands beside it can be checked; of the right type where one is known."""
    field = _field_at(path, root)
    if section_at(path, root) is not None or field is None:
        return {}
    kind: Any = Annotated[field.annotation, field]
    wanted = TypeAdapter[Any](kind)
    return next((value for value in _STAND_INS if _accepts(wanted, value)), _STAND_INS[0])


def _accepts(wanted: TypeAdapter[Any], value: object) -> bool:
    try:
        wanted.validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def _field_at(path: Path, root: type[Section]) -> FieldInfo | None:
    section = section_at(path[:-1], root)
    return section.model_fields.get(str(path[-1])) if section else None


def unknown_key(path: Path, root: type[Section] = Recipe) -> str:
    """Why a key is not accepted and which one may have been meant."""
    key, section = str(path[-1]), section_at(path[:-1], root)
    if key in OWNED and root is Recipe:
        return f"can not be set in a recipe: {OWNED[key]}"
    if key == "lora_alpha":
        return f"can not be set in a recipe: {_LORA_ALPHA}"
    siblings = list(section.model_fields) if section else []
    elsewhere = _keys_named(key, root)
    if elsewhere:
        return f"unknown key; did you mean {' or '.join(elsewhere)}?"
    near = get_close_matches(key[:_LONGEST_VALUE], siblings, n=1)
    if near:
        return f"unknown key; did you mean '{near[0]}'?"
    if len(siblings) > _MANY_KEYS and len(path) > 1:
        kind = "" if root is Recipe else " --edit"
        return f"unknown key; readwrite-edit recipes schema{kind} lists those there are"
    return f"unknown key; expected one of {', '.join(siblings)}" if siblings else "unknown key"


def _keys_named(key: str, root: type[Section]) -> list[str]:
    """Where else a key is known, in the sections that every recipe has."""
    if key in _OTHER_NAMES and root is Recipe:
        return [_OTHER_NAMES[key]]
    always = {name: part for name, part in sections_of(root).items() if root.model_fields[name].default is not None}
    return [f"{name}.{key}" for name, section in always.items() if key in section.model_fields][:3]


def sections_of(root: type[Section]) -> dict[str, type[Section]]:
    """The sections of a whole recipe by their names."""
    found = {name: _section_in(field.annotation) for name, field in root.model_fields.items()}
    return {name: section for name, section in found.items() if section is not None}


def section_at(path: Path, root: type[Section] = Recipe) -> type[Section] | None:
    """The class that describes what stands at a path of a recipe."""
    section: type[Section] | None = root
    for part in path:
        if isinstance(part, int):
            continue
        field = section.model_fields.get(part) if section else None
        section = _section_in(field.annotation) if field else None
    return section


def _section_in(annotation: Any) -> type[Section] | None:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for part in get_args(annotation) if (found := _section_in(part))), None)


def value_at(root: Any, path: Path) -> tuple[bool, Any]:
    """Whether a path exists in plain values, and what is there."""
    for part in path:
        if isinstance(root, Mapping) and part in root:
            root = root[part]
        elif isinstance(root, list | tuple) and isinstance(part, int) and part < len(root):
            root = root[part]
        else:
            return False, None
    return True, root
