"""YAML as recipes use it: plain values with line numbers, and text again.

A safe loader without the traps of YAML 1.1: ``1e-3`` is a number, ``010`` and
``1:30`` are text, a date is text; tags and aliases are refused, so that no file
can name code or expand beyond its size. Reading and writing share one table of
plain scalars, so what is written reads back the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

Path = tuple[str | int, ...]
DEEPEST = 20
_LINE_BREAKS = frozenset("\x85\u2028\u2029\ufeff")
_BROKEN = "half of a surrogate pair in the text; expected whole characters"

_SCALARS = (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF)$", "tTfFyYnNoO"),
    ("int", r"^(?:[-+]?(?:0|[1-9][0-9_]*)|0x[0-9a-fA-F]+)$", "-+0123456789"),
    (
        "float",
        r"^(?:[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        "-+0123456789.",
    ),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
)
_RESOLVERS: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
for _name, _pattern, _first in _SCALARS:
    for _char in _first:
        _RESOLVERS.setdefault(_char, []).append((f"tag:yaml.org,2002:{_name}", re.compile(_pattern)))


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = _RESOLVERS
    depth = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event = self.peek_event()
        mark = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem=f"alias *{event.anchor}: expected the value itself", problem_mark=mark)
        if getattr(event, "tag", None) is not None:
            raise yaml.MarkedYAMLError(problem=f"tag {event.tag}: expected a plain value", problem_mark=mark)
        if self.depth == DEEPEST:
            raise yaml.MarkedYAMLError(problem=f"nested more than {DEEPEST} deep", problem_mark=mark)
        self.depth += 1
        try:
            return super().compose_node(parent, index)  # type: ignore[no-untyped-call]
        finally:
            self.depth -= 1


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers = _RESOLVERS

    def ignore_aliases(self, data: object) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)  # type: ignore[no-untyped-call]


def _text(dumper: _Dumper, text: str) -> ScalarNode:
    """PyYAML turns Unicode's line breaks into spaces, except where it must escape them."""
    style = '"' if _LINE_BREAKS & set(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


@dataclass
class Document:
    """A YAML document as plain values.

    Attributes:
        value: Dictionaries, lists and scalars.
        lines: Line (from 1) of each key or item, by its path.
        problems: What is wrong with the document itself: (line, path, message).
    """

    value: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[tuple[int, Path, str]] = field(default_factory=list)


def read_document(text: str) -> Document:
    """Read one YAML document.

    Raises:
        yaml.YAMLError: The text is not one document of plain YAML.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        document = Document()
        if node is not None:
            document.value = _value(loader, node, (), document)
        return document
    finally:
        loader.dispose()


def write_document(value: Any) -> str:
    """Plain values as YAML, keys in the order given; ``read_document`` gives the same values back."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def _value(loader: _Loader, node: Node, path: Path, document: Document) -> Any:
    document.lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, MappingNode):
        return _mapping(loader, node, path, document)
    if isinstance(node, SequenceNode):
        return [_value(loader, item, (*path, index), document) for index, item in enumerate(node.value)]
    return _scalar(loader, node, path, document)


def _mapping(loader: _Loader, node: MappingNode, path: Path, document: Document) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
            given = str(key_node.value) if isinstance(key_node, ScalarNode) else "a list or mapping"
            document.problems.append((line, path, f"key {given}: expected text as the name of a key"))
            continue
        key = key_node.value
        if _broken(key):
            document.problems.append((line, path, _BROKEN))
            continue
        if key in result:
            first = document.lines[(*path, key)]
            document.problems.append((line, (*path, key), f"given twice (first in line {first}); expected once"))
            continue
        document.lines[(*path, key)] = line
        result[key] = _value(loader, value_node, (*path, key), document)
    return result


def _scalar(loader: _Loader, node: Node, path: Path, document: Document) -> Any:
    line = node.start_mark.line + 1
    try:
        value = loader.construct_object(node)  # type: ignore[no-untyped-call]
    except (ValueError, OverflowError):
        document.problems.append((line, path, "expected a number of fewer digits"))
        return None
    if isinstance(value, str) and _broken(value):
        document.problems.append((line, path, _BROKEN))
    return value


def _broken(text: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in text)
