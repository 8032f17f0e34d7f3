"""A recipe while it is being filled in: what a file says, what was changed, what is wrong, and the overrides for that.

Loads the recipe's classes, though no torch: import it in a worker.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from readwrite_edit.errors import ModelError, RecipeError
from readwrite_edit.recipe.overrides import apply_overrides
from readwrite_edit.recipe.problems import Origin, dotted, shortened
from readwrite_edit.recipe.reading import check_values
from readwrite_edit.recipe.section import Section
from readwrite_edit.terminal import counted, printable
from readwrite_edit.tui.forms.model_check import named_model
from readwrite_edit.tui.forms.schema import Field, Part
from readwrite_edit.tui.forms.values import UnreadableError, flow, text_of, value_of

_ANYWHERE = Origin.option("recipe", -1)


@dataclass(frozen=True)
class Wrong:
    """Something wrong with a recipe: the key it is about, or none, and what to do."""

    key: str
    message: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.key}: {self.message}" if self.key else self.message


@dataclass(frozen=True)
class Snapshot:
    """What :func:`wrong_with` and :func:`hub_id` need of a draft; it does not change any more.

    Attributes:
        root: The class of the whole recipe.
        values: What the file says.
        overrides: What was changed, as ``--set`` takes it, by key.
        unreadable: Keys whose text is no value, and why.
    """

    root: type[Section]
    values: dict[str, Any]
    overrides: Mapping[str, str]
    unreadable: Mapping[str, str]

    @property
    def texts(self) -> list[str]:
        """The changes as ``--set`` takes them."""
        return [f"{key}={text}" for key, text in self.overrides.items()]

    def applied(self) -> dict[str, Any]:
        """What the file says, with the changes in it."""
        values = deepcopy(self.values)
        apply_overrides(values, {}, self.texts, [])
        return values


class Draft:
    """A recipe's values and the changes of them.

    Attributes:
        root: The class of the whole recipe.
        parts: Its sections.
        values: What the file says, as plain values; empty where there is no file.
        changes: The changed keys, each with its text behind ``--set``.
    """

    def __init__(self, root: type[Section], parts: Sequence[Part], values: Mapping[str, Any]) -> None:
        self.root, self.parts, self.values = root, tuple(parts), dict(values)
        self.changes: dict[str, str] = {}
        self._texts: dict[str, str] = {}
        self._unreadable: dict[str, str] = {}
        self._fields = {field.key: field for part in parts for field in part.fields}

    def fields(self) -> Iterator[Field]:
        """All keys, in their order."""
        return iter(self._fields.values())

    def field(self, key: str) -> Field | None:
        """A key of the recipe, or the one that a key within it belongs to."""
        parts = key.partition("[")[0].split(".")
        return next((self._fields[own] for own in _beginnings(parts) if own in self._fields), None)

    def given(self, field: Field) -> bool:
        """Whether the file says something of a key."""
        return self._found(field)[0]

    def text(self, field: Field) -> str:
        """What a form shows for a key."""
        return self._texts.get(field.key, self.text_before(field))

    def text_before(self, field: Field) -> str:
        """What a form shows for a key that was not changed."""
        there, value = self._found(field)
        return text_of(field, value if there else field.default)

    def default_text(self, field: Field) -> str:
        """What a form shows for a key that is given nowhere."""
        return text_of(field, field.default)

    def texts(self) -> dict[str, str]:
        """What was typed, by key."""
        return dict(self._texts)

    def write(self, field: Field, text: str) -> None:
        """Take what was typed for a key."""
        self._forget(field.key)
        before = self.text_before(field)
        if text == before:
            return
        self._texts[field.key] = text
        try:
            value = value_of(field, text)
        except UnreadableError as error:
            self.changes[field.key] = text.strip()
            self._unreadable[field.key] = str(error)
            return
        if not _same(value, value_of(field, before)):
            as_typed = field.kind == "value" and text.strip() and not isinstance(value, list)
            self.changes[field.key] = text.strip() if as_typed else flow(value)

    def _forget(self, key: str) -> None:
        for known in (self._texts, self.changes, self._unreadable):
            known.pop(key, None)

    def _found(self, field: Field) -> tuple[bool, Any]:
        inner: Any = self.values
        for name in field.path:
            if not isinstance(inner, Mapping) or name not in inner:
                return False, None
            inner = inner[name]
        return True, inner

    def value(self, field: Field) -> Any:
        """What holds for a key now; its text where that can not be read."""
        text = self.text(field)
        try:
            return value_of(field, text)
        except UnreadableError:
            return text

    def overrides(self) -> list[str]:
        """The changes as ``--set`` takes them, in the order of the recipe."""
        return [f"{key}={self.changes[key]}" for key in self._fields if key in self.changes]

    def snapshot(self) -> Snapshot:
        """What a worker can check while the draft goes on changing."""
        in_order = {key: self.changes[key] for key in self._fields if key in self.changes}
        return Snapshot(self.root, deepcopy(self.values), in_order, dict(self._unreadable))


def wrong_with(draft: Snapshot) -> list[Wrong]:
    """Everything that is wrong with a recipe, or with the model that it names; nothing where it can be used."""
    texts = draft.texts
    found = [Wrong(key, message) for key, message in draft.unreadable.items()]
    try:
        check_values(draft.root, deepcopy(draft.values), _origins(draft.values), texts)
    except RecipeError as error:
        lines = str(error).splitlines()
        told = [_located(line, dict(zip(map(_label, texts), draft.overrides, strict=True))) for line in lines]
        found += [one for one in told if one.key not in draft.unreadable]
    try:
        named_model(draft.applied())
    except ModelError as error:
        found.append(Wrong("model.revision" if str(error).startswith("revision ") else "model.path", str(error)))
    return found


def in_short(problems: Sequence[Wrong], draft: Draft | None) -> str:
    """How many problems; in words those that no field of a draft shows, of the others the keys."""
    shown = [one for one in problems if draft is not None and draft.field(one.key)]
    others = [str(one) for one in problems if one not in shown]
    return f"{counted(len(problems), 'problem')}: {'; '.join([*others, *dict.fromkeys(one.key for one in shown)])}"


def hub_id(draft: Snapshot) -> str:
    """The model's name where it is taken for one of the Hub, which only the run can look up; else empty."""
    try:
        model = named_model(draft.applied())
    except ModelError:
        return ""
    return str(model) if model is not None and model.kind == "hub" else ""


def _origins(values: Mapping[str, Any]) -> dict[tuple[str | int, ...], Origin]:
    """Each key as the origin of its own value, so that each line of the account begins with one."""
    paths = list(_paths(values, ()))
    return {(): _ANYWHERE, **{path: Origin.option(dotted(path), place) for place, path in enumerate(paths)}}


def _paths(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield (*path, name)
            yield from _paths(inner, (*path, name))


def _label(override: str) -> str:
    return f"--set {shortened(printable(override))}"


def _located(line: str, labels: Mapping[str, str]) -> Wrong:
    """A line of the recipe's own account: where it came from, perhaps the key, and what is wrong."""
    for label, key in labels.items():
        if line.startswith(f"{label}: "):
            return _inner_key(key, line.removeprefix(f"{label}: "))
    label, between, message = line.partition(": ")
    if not between:
        return Wrong("", line)
    return _inner_key("" if label == _ANYWHERE.label else label, message)


def _inner_key(key: str, message: str) -> Wrong:
    """The message names another key first where the problem lies elsewhere, or deeper."""
    first, between, rest = message.partition(": ")
    names_key = between and " " not in first and ("." in first or first.startswith(key))
    return Wrong(first, rest) if names_key else Wrong(key, message)


def _beginnings(parts: Sequence[str]) -> Iterator[str]:
    return (".".join(parts[:length]) for length in range(len(parts), 0, -1))


def _same(one: Any, other: Any) -> bool:
    """Equality that tells ``true`` from 1."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
