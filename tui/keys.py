"""Names of keys, as users write them and as Textual calls them."""

from __future__ import annotations

import re

from textual.keys import REPLACED_KEYS, Keys, key_to_character
from textual.keys import _character_to_key as name_of_character  # no public twin in Textual 8

_MODIFIER = re.compile(r"^(?:ctrl|shift|alt|super|hyper|meta)\+(?=.)")
_NAMED = {key.value for key in Keys}


def key_name(text: str) -> str | None:
    """Textual's name for a key that a user wrote, such as ``slash`` for ``/``; None where there is no such key."""
    rest, modifiers = text, ""
    while found := _MODIFIER.match(rest):
        modifiers, rest = modifiers + found.group(), rest[found.end() :]
    if len(rest) == 1 and rest.isprintable() and rest != " ":
        return modifiers + name_of_character(rest)
    known = text in _NAMED or rest in _NAMED or _is_character_name(rest)
    return text if known else None


def character_of(key: str) -> str | None:
    """The character that a key types, by Textual's name for the key; Textual's own function misses ``slash`` and five.

    None where it types none.
    """
    character = key_to_character(REPLACED_KEYS.get(key, key))
    return character if character is not None and character.isprintable() else None


def _is_character_name(name: str) -> bool:
    character = character_of(name)
    return character is not None and name_of_character(character) == name
