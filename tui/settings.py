"""What users set for the TUI, in one TOML file: theme and keys.

``~/.config/readwrite-edit/tui.toml`` (below ``$XDG_CONFIG_HOME`` where that is set)::

    theme = "nord"

    [keys]
    "runs.stop" = "ctrl+k"
    "runs.filter" = "f,/"
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from readwrite_edit.errors import RecipeError
from readwrite_edit.tui.actions import ACTIONS, BY_ID, places_heard
from readwrite_edit.tui.keys import character_of, key_name

_KNOWN = ("theme", "keys")


@dataclass(frozen=True)
class TuiSettings:
    """Theme by name, None for the default; keys, in Textual's names, by the id of their action."""

    theme: str | None = None
    keys: Mapping[str, str] = field(default_factory=dict)


def settings_path() -> Path:
    """Where the user's file is looked for."""
    root = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(root) / "readwrite-edit" / "tui.toml"


def read_settings(path: Path | None = None, *, themes: tuple[str, ...] = ()) -> TuiSettings:
    """Read and check the file; defaults where there is none.

    Args:
        path: Which file, that must exist; None for the user's own, that need not.
        themes: Names of the themes there are.

    Raises:
        RecipeError: It can not be read, holds an unknown name or key, or gives one key to two actions of one place.
    """
    source = settings_path() if path is None else path
    try:
        found = tomllib.loads(source.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if path is None:
            return TuiSettings()
        raise RecipeError(f"{source}: no such file") from None
    except OSError as error:
        raise RecipeError(f"{source}: {error.strerror}: name a file that can be read") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{source}: not valid TOML: {error}") from error
    for name in found:
        _require_known(f"{source}: {name}", name, _KNOWN)
    return TuiSettings(_theme(source, found.get("theme"), themes), _keys(source, found.get("keys", {})))


def _theme(source: Path, name: Any, themes: tuple[str, ...]) -> str | None:
    if name is None:
        return None
    if not isinstance(name, str):
        raise RecipeError(f"{source}: theme: expected a name in quotation marks, found {name!r}")
    _require_known(f"{source}: theme: {name}", name, themes)
    return name


def _keys(source: Path, given: Any) -> dict[str, str]:
    if not isinstance(given, dict):
        raise RecipeError(f"{source}: keys: expected a table of action = key, found {given!r}")
    keys = {}
    for action_id, text in given.items():
        if isinstance(text, dict):
            raise RecipeError(f'{source}: keys.{action_id}: write the action in quotation marks: "{action_id}.…" = "…"')
        _require_known(f"{source}: keys: {action_id}", action_id, tuple(BY_ID))
        keys[action_id] = ",".join(_names(f"{source}: keys: {action_id}", action_id, text))
    for key, first, second in sorted(set(clashes(keys)) - set(clashes({}))):
        raise RecipeError(f"{source}: keys: {key} would be both {first} and {second}; give one of them another key")
    return keys


def _names(where: str, action_id: str, text: Any) -> Iterator[str]:
    """The keys of one action in Textual's names."""
    if not isinstance(text, str) or not text.strip():
        raise RecipeError(f"{where}: expected a key such as 's' or 'ctrl+k', found {text!r}")
    for part in [text] if text == "," else text.split(","):
        name = key_name(part.strip())
        if name is None:
            raise RecipeError(f"{where}: no key {part.strip()!r}; expected one such as 's', '/', 'f5', 'ctrl+k'")
        if BY_ID[action_id].typing and character_of(name) is not None:
            raise RecipeError(f"{where}: {part.strip()!r} would be typed into a field; name a function or control key")
        yield name


def clashes(keys: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Keys that would stand for two actions where one place has the focus: key, and the ids of both.

    Args:
        keys: Keys that the user set, by the id of their action.
    """
    for place in dict.fromkeys(action.place for action in ACTIONS):
        taken: dict[str, str] = {}
        for action in (action for heard in places_heard(place) for action in ACTIONS if action.place == heard):
            for key in keys.get(action.id, action.keys).split(","):
                if taken.setdefault(key, action.id) != action.id:
                    yield key, taken[key], action.id


def _require_known(what: str, name: str, known: tuple[str, ...]) -> None:
    if name in known:
        return
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(known[:8])}"
    raise RecipeError(f"{what}: unknown; {hint}")
