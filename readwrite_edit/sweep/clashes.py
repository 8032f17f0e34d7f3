"""Settings that undo one another: the later one would win without a word, so they are refused before any run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import yaml

from readwrite_edit.errors import RecipeError
from readwrite_edit.recipe.yaml_nodes import read_document
from readwrite_edit.runs.comparison import flat
from readwrite_edit.terminal import printable

SEED_KEYS = ("train.seed", "adapter.seed")


@dataclass(frozen=True)
class _Giver:
    """An option with its settings.

    Attributes:
        name: Of the option, for messages.
        keys: That it sets as a whole.
        leaves: The plain values that it gives, by dotted key: ``train={seed: 1}`` gives ``train.seed``.
    """

    name: str
    keys: frozenset[str]
    leaves: frozenset[str]


def refuse_clashes(axes: Mapping[str, Iterable[str]], settings: Sequence[str]) -> None:
    """Refuse settings of which one would undo another.

    Args:
        axes: Option of each axis, for messages, to the settings of all its choices.
        settings: Of all runs.

    Raises:
        RecipeError: Two options set the same key, or one sets a seed.
    """
    givers = [_giver("--set", settings), *(_giver(option, given) for option, given in axes.items())]
    for giver in givers:
        for seed in SEED_KEYS:
            if _undone(giver, frozenset([seed])):
                raise RecipeError(f"{giver.name} sets {seed}: use --seeds N, which varies every seed of a run together")
    for one, other in combinations(givers, 2):
        key = _undone(one, other.keys) or _undone(other, one.keys)
        if key:
            raise RecipeError(f"{key} is set twice, by {one.name} and by {other.name}: leave one of the two out")


def _giver(name: str, settings: Iterable[str]) -> _Giver:
    given = [setting.partition("=") for setting in settings]
    leaves = {leaf for key, _, value in given for leaf in _leaves(key, value)}
    return _Giver(printable(name), frozenset(key for key, _, _ in given), frozenset(leaves))


def _leaves(key: str, text: str) -> Iterable[str]:
    try:
        value = read_document(text).value
    except yaml.YAMLError:
        return (key,)  # the recipe's reader says what is wrong with it
    return tuple(leaf for leaf, _ in flat(value, key))


def _undone(giver: _Giver, keys: frozenset[str]) -> str | None:
    """A value of the giver's that one of these keys, set as a whole, replaces."""
    return next((leaf for leaf in sorted(giver.leaves) for key in keys if f"{leaf}.".startswith(f"{key}.")), None)
