"""The keys of a recipe as a form needs them, read from its JSON schema: nothing here loads the recipe's classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["switch", "choice", "text", "names", "texts", "items", "value"]
Path = tuple[str, ...]

_UNLIMITED = {2**31 - 1, 2**32, 2**32 - 1}
_LIMITS = (("minimum", "from"), ("exclusiveMinimum", "above"), ("maximum", "to"), ("exclusiveMaximum", "below"))
_NUMBERS = {"integer": "whole number", "number": "number"}
_LISTS = {"names": "names, separated by commas", "texts": "one text a line", "items": "one a line: a path, or {…}"}


@dataclass(frozen=True, kw_only=True)
class Field:
    """One key of a recipe.

    Attributes:
        path: Its place, from the section on: ``("adapter", "rank")``.
        kind: How it is given: ``switch`` yes or no; ``choice`` one of ``choices``; ``text`` as it is typed; ``names``
            separated by commas; ``texts`` one a line; ``items`` one YAML value a line; ``value`` any YAML value.
        choices: Where there are only these.
        nullable: Whether it may be empty.
        required: Whether it has no default.
        default: What holds where nothing is given.
        positional: Whether it stands without an option on the command line.
        about: Its description.
        expects: What may be given, in words.
    """

    path: Path
    kind: Kind
    choices: tuple[str, ...] = ()
    nullable: bool = False
    required: bool = False
    default: Any = None
    positional: bool = False
    about: str = ""
    expects: str = ""

    @property
    def key(self) -> str:
        """Its place with dots, as ``--set`` takes it."""
        return ".".join(self.path)

    @property
    def label(self) -> str:
        """Its place within its section."""
        return ".".join(self.path[1:])


@dataclass(frozen=True)
class Part:
    """A section of a recipe with its keys; those of sections within it are among them."""

    name: str
    about: str
    fields: tuple[Field, ...]


def parts_of(schema: Mapping[str, Any], names: Sequence[str]) -> tuple[Part, ...]:
    """Sections of a recipe.

    Args:
        schema: JSON schema of the whole recipe.
        names: Of the sections, in the order wanted.
    """
    reader = _Reader(schema.get("$defs", {}))
    parts = []
    for name in names:
        own = schema["properties"][name]
        section = reader.section(own)
        assert section is not None, f"{name} is no section of the schema"
        about = str(own.get("description") or section.get("description", ""))
        parts.append(Part(name, about, tuple(reader.fields(section, (name,)))))
    return tuple(parts)


class _Reader:
    """Finds its way through the definitions of one schema."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions

    def section(self, schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The section that a value is, and nothing else besides null."""
        members = self._members(schema)
        alone = members[0] if len(members) == 1 else {}
        return alone if "properties" in alone else None

    def fields(self, section: Mapping[str, Any], path: Path, asked: bool = True) -> Iterator[Field]:
        """Its keys; what a section needs is not asked for where that section itself may be left out."""
        required = set(section.get("required", ())) if asked else set()
        for name, schema in section["properties"].items():
            inner = self.section(schema)
            if inner is not None:
                yield from self.fields(inner, (*path, name), name in required)
            else:
                yield self._field(schema, (*path, name), name in required)

    def _field(self, schema: Mapping[str, Any], path: Path, required: bool) -> Field:
        members = self._members(schema)
        nullable = any(member.get("type") == "null" for member in _any_of(schema))
        kind, choices = self._kind(members, nullable)
        words = _LISTS.get(kind) or _words(members)
        return Field(
            path=path,
            kind=kind,
            choices=choices,
            nullable=nullable,
            required=required,
            default=schema.get("default"),
            positional=bool(schema.get("positional")),
            about=str(schema.get("description", "")),
            expects=f"{words}, or empty" if nullable else words,
        )

    def _kind(self, members: Sequence[Mapping[str, Any]], nullable: bool) -> tuple[Kind, tuple[str, ...]]:
        types = [member.get("type") for member in members]
        if types == ["boolean"]:
            return ("choice", ("true", "false")) if nullable else ("switch", ())
        if types == ["string"]:
            named = _names(members[0])
            return ("choice", named) if named else ("text", ())
        if "array" in types and set(types) <= {"array", "string", "object"}:
            return self._list_kind(members)
        return "value", ()

    def _list_kind(self, members: Sequence[Mapping[str, Any]]) -> tuple[Kind, tuple[str, ...]]:
        """Of a list, that may stand for its one item."""
        items = [item for member in members if member["type"] == "array" for item in self._members(member["items"])]
        kinds = {item.get("type") for item in items}
        named = tuple(name for item in items for name in _names(item))
        if kinds == {"string"}:
            return ("names", named) if named else ("texts", ())
        return ("items", ()) if kinds == {"object", "string"} else ("value", ())

    def _members(self, schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """What a value may be, without null; references followed."""
        found: list[Mapping[str, Any]] = []
        for member in _any_of(schema):
            if "$ref" in member:
                found += self._members(self._definitions[member["$ref"].rpartition("/")[2]])
            elif "anyOf" in member:
                found += self._members(member)
            elif member.get("type") != "null":
                found.append(member)
        return found


def _any_of(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(schema.get("anyOf", [schema]))


def _names(member: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(member.get("enum", [member["const"]] if "const" in member else []))


def _words(members: Sequence[Mapping[str, Any]]) -> str:
    """What may be given where it is no list."""
    return " or ".join(dict.fromkeys(_one(member) for member in members))


def _one(member: Mapping[str, Any]) -> str:
    kind = str(member.get("type"))
    if _names(member):
        return " | ".join(_names(member))
    if kind in _NUMBERS:
        limits = [f"{word} {member[name]:g}" for name, word in _LIMITS if member.get(name, 2**31 - 1) not in _UNLIMITED]
        return " ".join([_NUMBERS[kind], *limits])
    return {"boolean": "true | false", "array": "list", "object": "{key: value}", "string": "text"}.get(kind, kind)
