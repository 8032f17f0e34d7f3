"""The grid of a sweep: axes of settings, and the runs that they span."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product

from readwrite_edit.errors import RecipeError
from readwrite_edit.sweep.clashes import SEED_KEYS, refuse_clashes
from readwrite_edit.terminal import printable

ARM = "arm"
MOST_RUNS = 5000
_UNSAFE = re.compile(r"[^A-Za-z0-9.+-]+")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*")
_OPENING, _CLOSING = "[{(", "]})"
_LONGEST_NAME = 120


@dataclass(frozen=True)
class Choice:
    """One value of an axis.

    Attributes:
        label: For people and in names of folders.
        settings: ``key=value`` each, as ``--set`` takes them.
        own: Of an arm: axes that it has other values on than the rest.
    """

    label: str
    settings: tuple[str, ...]
    own: tuple[Axis, ...] = ()


@dataclass(frozen=True)
class Axis:
    """What a sweep varies.

    Attributes:
        key: The recipe's key, or ``arm`` where the choices were named by the user.
        choices: At least one, with distinct labels.
    """

    key: str
    choices: tuple[Choice, ...]


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One run of a sweep.

    Attributes:
        name: Of its folder.
        arm: What is compared: the labels of all axes but the one that is chosen on.
        chosen: Label on the axis that is chosen on; empty without such an axis.
        seed: Of the order of rows, of what is drawn at the start, and of a random basis.
        settings: ``key=value`` each, all that differ from the recipe.
    """

    name: str
    arm: str
    chosen: str
    seed: int
    settings: tuple[str, ...]


def parse_axis(text: str) -> Axis:
    """An axis from ``--over KEY=VALUE,VALUE``; commas within brackets and quotes divide nothing.

    Raises:
        RecipeError: No such form, a seed (``--seeds`` is there for that), or a value twice.
    """
    key, equals, values = text.partition("=")
    key = key.strip()
    if not equals or not _KEY.fullmatch(key):
        raise RecipeError(f"--over {printable(text)}: expected KEY=VALUE,VALUE, such as adapter.rank=4,16,64")
    if key in SEED_KEYS:
        raise RecipeError(f"--over {printable(text)}: use --seeds N, which varies every seed of a run together")
    given = [value.strip() for value in split_at_commas(values)]
    if not all(given):
        raise RecipeError(f"--over {printable(text)}: an empty value; expected KEY=VALUE,VALUE")
    return _axis(key, [Choice(_label(key, value), (f"{key}={value}",)) for value in given])


def parse_arms(texts: Sequence[str]) -> Axis:
    """The axis of ``--arm NAME:KEY=VALUE,KEY=VALUE``, one a choice.

    ``KEY=VALUE|VALUE`` gives an arm values of its own on the axis ``--over KEY=…``.

    Raises:
        RecipeError: No such form, or a name twice.
    """
    choices = []
    for text in texts:
        name, colon, rest = text.partition(":")
        settings = tuple(part.strip() for part in split_at_commas(rest)) if rest.strip() else ()
        wrong = [part for part in settings if not _KEY.fullmatch(part.partition("=")[0]) or "=" not in part]
        if not colon or not name.strip() or wrong or _UNSAFE.sub("", name) == "":
            example = "wide:adapter.basis=contrastive,adapter.contrastive.epsilon=0.1"
            raise RecipeError(f"--arm {printable(text)}: expected NAME:KEY=VALUE,KEY=VALUE, such as {example}")
        fixed = tuple(part for part in settings if "|" not in part)
        own = tuple(parse_axis(part.replace("|", ",")) for part in settings if "|" in part)
        choices.append(Choice(_safe(name.strip()), fixed, own))
    return _axis(ARM, choices)


def planned_runs(
    axes: Sequence[Axis], seeds: Sequence[int], choose: str | None = None, settings: Sequence[str] = ()
) -> list[Planned]:
    """Every run of a grid: all of the first seed before all of the next.

    Args:
        axes: What varies.
        seeds: One run of each combination for each.
        choose: Key of the axis that is no part of an arm: of its values one is chosen for each arm.
        settings: ``key=value`` each, of all runs.

    Raises:
        RecipeError: No axis has that key, one key or a seed is set twice, or there are too many runs.
    """
    if choose is not None and choose not in [axis.key for axis in axes]:
        known = " or ".join(axis.key for axis in axes) or f"--over {choose}=V1,V2 beside it"
        raise RecipeError(f"--choose {printable(choose)}: no axis of the sweep; expected {printable(known)}")
    _refuse_clashes(axes, settings)
    combinations = list(islice(_combinations(axes), MOST_RUNS + 1))
    if len(combinations) * len(seeds) > MOST_RUNS:
        raise RecipeError(f"more than {MOST_RUNS:,} runs: give fewer values or seeds, or sweep them in parts")
    runs = [_planned(axes, combination, seed, choose) for seed in seeds for combination in combinations]
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise RecipeError(f"two runs of the sweep would be named {twice}: name the arms with --arm NAME:…")
    return runs


def options(axes: Sequence[Axis]) -> Iterator[tuple[str, str]]:
    """Each setting of the axes, behind the option that it was given by: ``--over `` or ``--arm NAME:``."""
    for axis in axes:
        for choice in axis.choices:
            option = f"--arm {choice.label}:" if axis.key == ARM else "--over "
            own = (one.settings for more in choice.own for one in more.choices)
            yield from ((option, setting) for settings in (choice.settings, *own) for setting in settings)


def split_at_commas(text: str) -> list[str]:
    """Parts between commas that stand in no bracket and no quote."""
    parts, depth, quote = [""], 0, ""
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        else:
            depth += (sign in _OPENING) - (sign in _CLOSING)
        if sign == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def _combinations(axes: Sequence[Axis]) -> Iterator[Mapping[str, Choice]]:
    arms = next((axis.choices for axis in axes if axis.key == ARM), (Choice("", ()),))
    for arm in arms:
        own = {axis.key: axis.choices for axis in arm.own} | {ARM: (arm,)}
        columns = [own.get(axis.key, axis.choices) for axis in axes]
        for choices in product(*columns):
            yield {axis.key: choice for axis, choice in zip(axes, choices, strict=True)}


def _planned(axes: Sequence[Axis], combination: Mapping[str, Choice], seed: int, choose: str | None) -> Planned:
    labels = [combination[axis.key].label for axis in axes if axis.key != choose]
    chosen = combination[choose].label if choose is not None else ""
    settings = tuple(setting for axis in axes for setting in combination[axis.key].settings)
    arm = "_".join(labels) or "all"
    name = "_".join([*labels, *([chosen] if chosen else []), f"s{seed}"])
    if len(name) > _LONGEST_NAME:
        raise RecipeError(f"{name[:40]}…: a run's name of {len(name)} characters; name the arms with --arm NAME:…")
    return Planned(
        name=name, arm=arm, chosen=chosen, seed=seed, settings=(*settings, *(f"{key}={seed}" for key in SEED_KEYS))
    )


def _refuse_clashes(axes: Sequence[Axis], settings: Sequence[str]) -> None:
    keys = [axis.key for axis in axes]
    for key in keys:
        if keys.count(key) > 1:
            raise RecipeError(f"--over {key} is given twice: give all values to one of the two")
    for arm in (choice for axis in axes for choice in axis.choices):
        for key in (axis.key for axis in arm.own):
            if key not in keys:
                raise RecipeError(
                    f"arm {arm.label} has values of its own for {key}; expected --over {key}=… for the rest"
                )
    own = [axis for one in axes for arm in one.choices for axis in arm.own]
    given: dict[str, list[str]] = {}
    for axis in (*axes, *own):
        name = "--arm" if axis.key == ARM else f"--over {axis.key}"
        given.setdefault(name, []).extend(setting for choice in axis.choices for setting in choice.settings)
    refuse_clashes(given, settings)


def _axis(key: str, choices: Sequence[Choice]) -> Axis:
    labels = [choice.label for choice in choices]
    twice = {label for label in labels if labels.count(label) > 1}
    if twice:
        raise RecipeError(f"{key}: {min(twice)} is there twice; expected distinct values")
    return Axis(key, tuple(choices))


def _label(key: str, value: str) -> str:
    """A word stands for itself, any other value behind the last part of its key."""
    word = _safe(value)
    return word if word[:1].isalpha() and "[" not in value else f"{key.rpartition('.')[2]}{word}"


def _safe(text: str) -> str:
    return _UNSAFE.sub("-", text.replace("_", "-")).strip("-")
