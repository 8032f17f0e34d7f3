"""The command that an edit's form stands for: by options as the documents write it, or by a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from readwrite_edit.terminal import printable
from readwrite_edit.tui.forms.values import value_of

if TYPE_CHECKING:
    from readwrite_edit.tui.forms.draft import Draft
    from readwrite_edit.tui.forms.schema import Field

_MODEL = "model.path"
_AS_OPTION = ("text", "choice", "value")


def edit_arguments(draft: Draft, *, kind: str, recipe: str | None) -> list[str]:
    """Arguments of ``edit`` without the program and without a run folder.

    Args:
        draft: What was filled in.
        kind: The intervention.
        recipe: As ``--recipe`` takes it; None for the short form.
    """
    if recipe is not None:
        return ["edit", "--recipe", recipe, *_sets(draft.overrides())]
    own, others = list[str](), list[str]()
    places = [field for field in draft.fields() if field.positional or field.key == _MODEL]
    for field in draft.fields():
        if field.key not in draft.changes or field in places:
            continue
        option = list(_option(field, draft)) if field.path[0] == kind else []
        own += option
        others += [] if option else [f"{field.key}={draft.changes[field.key]}"]
    return ["edit", kind.replace("_", "-"), *_places(places, draft, kind), *own, *_sets(others)]


def _places(places: list[Field], draft: Draft, kind: str) -> Iterator[str]:
    """What stands without an option: the model first. An adapter knows its own base."""
    for field in places:
        value = value_of(field, draft.text(field))
        text = value if isinstance(value, str) else ""
        if field.key == _MODEL and kind == "project_adapter":
            yield from ["--model", text] if text else []
        else:
            yield text


def _option(field: Field, draft: Draft) -> Iterator[str]:
    """An option for what one word can say; nothing where ``--set`` says it better."""
    flag = "--" + "-".join(field.path[1:]).replace("_", "-")
    text = draft.text(field)
    if field.kind == "switch":
        yield flag if text == "true" else f"--no-{flag.removeprefix('--')}"
        return
    if field.kind == "texts":
        found = value_of(field, text) or []
        yield from (flag, *found) if found and all(map(_is_plain, found)) else ()
        return
    value = value_of(field, text) if field.kind == "text" else text
    if field.kind in _AS_OPTION and isinstance(value, str) and value and printable(value) == value:
        yield from (flag, value) if _is_plain(value) else (f"{flag}={value}",)


def _is_plain(word: str) -> bool:
    """Whether a word can not be taken for an option."""
    return printable(word) == word and not word.startswith("-")


def _sets(overrides: list[str]) -> list[str]:
    return [part for override in overrides for part in ("--set", override)]
