"""Command-line options made from the fields of settings classes, with their descriptions as help."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

_FIELD = "field."
_NUMBERS = re.compile(r"\d+(,\d+)+")


def add_options(parser: argparse.ArgumentParser, settings: Any) -> None:
    """Each field of flat settings as an option or a positional argument, under the field's own name."""
    for name, field in settings.model_fields.items():
        _add_option(parser, name, field)


def _add_option(parser: argparse.ArgumentParser, name: str, field: FieldInfo) -> None:
    inner, many = _plain_type(field.annotation)
    if _is_positional(field):
        count: Any = {(True, True): "+", (True, False): "*", (False, False): "?"}.get((many, field.is_required()))
        parser.add_argument(name, metavar=name.upper(), nargs=count, help=_help(field))
        return
    flag = f"--{name.replace('_', '-')}"
    if inner is bool:
        parser.add_argument(flag, dest=name, action=argparse.BooleanOptionalAction, default=None, help=_help(field))
        return
    choices = get_args(inner) if get_origin(inner) is Literal else None
    read = str if choices else inner
    convert = (lambda text: [read(part) for part in text.split(",")]) if many else read
    if many:
        convert.__name__ = f"list of {read.__name__}"
    metavar = "LIST" if many else None if choices else name.upper().rpartition("_")[2]
    parser.add_argument(
        flag, dest=name, type=convert, choices=None if many else choices, metavar=metavar, help=_help(field)
    )


def add_recipe_options(parser: argparse.ArgumentParser, section: Any, path: tuple[str, ...] = ()) -> None:
    """Each field of a recipe's section as an option; those of a section within it as ``--field-inner``.

    Lists of texts take one word each, since prompts hold commas. Everything
    that is no text is read as YAML, as it would stand in a recipe. See
    :func:`recipe_options` for what was given.
    """
    for name, field in section.model_fields.items():
        inner = _section(field.annotation)
        if inner is not None:
            add_recipe_options(parser, inner, (*path, name))
        else:
            _add_recipe_option(parser, (*path, name), field)


def recipe_options(
    args: argparse.Namespace, section: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], str, Any]]:
    """What :func:`add_recipe_options` read: path within the section, name of the option, value (None: not given)."""
    for name, field in section.model_fields.items():
        own = (*path, name)
        inner = _section(field.annotation)
        if inner is not None:
            yield own, f"{_flag(own)}-…", None
            yield from recipe_options(args, inner, own)
        else:
            yield own, name.upper() if _is_positional(field) else _flag(own), getattr(args, field_dest(*own))


def field_dest(*path: str) -> str:
    """Name of the attribute that holds what was given for a field of a recipe's section."""
    return _FIELD + ".".join(path)


def _add_recipe_option(parser: argparse.ArgumentParser, path: tuple[str, ...], field: FieldInfo) -> None:
    dest, name = field_dest(*path), path[-1].upper()
    if _is_positional(field):
        parser.add_argument(dest, metavar=name, help=_help(field))
        return
    kinds = _members(field.annotation)
    common: dict[str, Any] = {"dest": dest, "default": None, "help": _help(field)}
    if kinds == [bool]:
        parser.add_argument(_flag(path), action=argparse.BooleanOptionalAction, **common)
    elif str in kinds:
        parser.add_argument(_flag(path), metavar="TEXT", **common)
    elif len(kinds) == 1 and get_origin(kinds[0]) is Literal:
        parser.add_argument(_flag(path), choices=get_args(kinds[0]), **common)
    elif any(_is_list_of_names(kind) for kind in kinds):
        parser.add_argument(_flag(path), type=_names, metavar="LIST", **common)
    elif any(_is_list_of_texts(kind) for kind in kinds):
        parser.add_argument(_flag(path), nargs="+", action="extend", metavar="TEXT", **common)
    else:
        parser.add_argument(_flag(path), type=_yaml_value, metavar=name.rpartition("_")[2], **common)


def _names(text: str) -> list[str]:
    return text.split(",")


_names.__name__ = "list of names"


def _yaml_value(text: str) -> Any:
    """A value as it would stand in a recipe; numbers with commas between them are a list."""
    import yaml

    from readwrite_edit.recipe.yaml_nodes import read_document

    if _NUMBERS.fullmatch(text):
        return [int(part) for part in text.split(",")]
    try:
        return read_document(text).value
    except yaml.YAMLError:
        return text


_yaml_value.__name__ = "value"


def _flag(path: tuple[str, ...]) -> str:
    return "--" + "-".join(path).replace("_", "-")


def _is_positional(field: FieldInfo) -> bool:
    extra = field.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("positional"))


def _help(field: FieldInfo) -> str:
    silent = field.is_required() or field.default in (None, ())
    default = "" if silent else f" (default: {_shown(field.default)})"
    return f"{field.description}{default}".replace("%", "%%")


def _shown(default: Any) -> str:
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _plain_type(annotation: Any) -> tuple[Any, bool]:
    """The type of one value, and whether several are taken."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _plain_type(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return _plain_type(next(item for item in get_args(annotation) if item is not NoneType))
    if origin is tuple:
        return _plain_type(get_args(annotation)[0])[0], True
    return annotation, False


def _members(annotation: Any) -> list[Any]:
    """The types that a value may have, without None and without constraints."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _members(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [member for item in get_args(annotation) for member in _members(item)]
    return [] if annotation is NoneType else [annotation]


def _section(annotation: Any) -> Any:
    """The section that a field holds, and nothing else; None for any other field."""
    from readwrite_edit.recipe.section import Section

    kinds = _members(annotation)
    alone = len(kinds) == 1 and isinstance(kinds[0], type) and issubclass(kinds[0], Section)
    return kinds[0] if alone else None


def _is_list_of_names(kind: Any) -> bool:
    """Whether a type is a list of words from a fixed choice, such as roles."""
    items = _members(get_args(kind)[0]) if get_origin(kind) is tuple else []
    return bool(items) and all(get_origin(item) is Literal for item in items)


def _is_list_of_texts(kind: Any) -> bool:
    """Whether a type is a list of texts, or of sections that a text may stand for."""
    if get_origin(kind) is not tuple:
        return False
    return not set(_members(get_args(kind)[0])) & {int, float, bool}
