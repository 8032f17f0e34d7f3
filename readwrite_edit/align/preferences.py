"""The preference data of a run: loaded, checked, and split into training and held-out rows."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from readwrite_edit.align.data_source import BUILTIN, DataSource, find_source
from readwrite_edit.align.preference_rows import COLUMNS, preference_rows
from readwrite_edit.errors import DataError
from readwrite_edit.recipe.sections import Data
from readwrite_edit.terminal import printable

_BUILTIN_FILES = ("concise.jsonl",)
_DEFAULT_SPLIT = "train"


@dataclass(frozen=True)
class PreferenceData:
    """Preference rows with an explicit prompt, in TRL's standard or conversational format.

    Attributes:
        train: Rows to train on.
        held_out: Rows to evaluate on, none with a prompt of ``train`` where they were split off it.
        origin: Where they came from, in words.
    """

    train: list[dict[str, Any]]
    held_out: list[dict[str, Any]]
    origin: str


def load_preferences(data: Data) -> PreferenceData:
    """Load, check and split the data that a recipe names.

    The same section gives the same rows in the same order.

    Args:
        data: The section ``data`` of a recipe.

    Raises:
        DataError: Missing, unreadable or empty data, bad rows (with their places), or too few of them.
    """
    source = _find(data.path)
    _check_options(data, source)
    rows = _rows(source, data, data.split)
    held_out_source = _held_out_source(data, source)
    if held_out_source is not None:
        same_place = held_out_source == source
        held_out = _rows(held_out_source, data if same_place else None, data.eval_split or data.split)
        train = rows
    elif source.path.startswith(BUILTIN):
        _check_count(data, len(rows))
        train, held_out = rows[: -data.eval_rows], rows[-data.eval_rows :]
    else:
        train, held_out = split_rows(rows, data.eval_rows, seed=data.seed, source=data.path)
    return PreferenceData(_limited(train, data), held_out, _origin(data, source))


def load_rows(path: str) -> list[dict[str, Any]]:
    """All rows of one file, built-in table or Hub data set (its split ``train``), none held out.

    Raises:
        DataError: Missing, unreadable or empty, or bad rows (with their places).
    """
    return _rows(_find(path), None, _DEFAULT_SPLIT)


def split_rows(
    rows: list[dict[str, Any]], count: int, *, seed: int, source: str = "the data"
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Hold rows out so that no prompt has rows on both sides.

    Prompts are drawn in a seeded order, and each takes all its rows along if
    they fit. So where prompts repeat, a few less than ``count`` may be held out.

    Args:
        rows: Rows with prompts.
        count: Rows to hold out.
        seed: Of the order.
        source: Name in messages.

    Returns:
        Training rows and held-out rows, each in the order of ``rows``.

    Raises:
        DataError: Too few rows, or every prompt has more than ``count``.
    """
    if len(rows) <= count:
        raise _too_few(source, len(rows), count)
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(_canonical(row["prompt"]), []).append(index)
    drawn = list(groups.values())
    random.Random(seed).shuffle(drawn)
    held_out: set[int] = set()
    for group in drawn:
        if len(held_out) + len(group) <= count:
            held_out.update(group)
    if not held_out:
        raise DataError(
            printable(
                f"{source}: each of its {len(groups)} prompts has more than {count} rows, and a prompt is held out "
                "whole; raise data.eval_rows or give data.eval_path"
            )
        )
    return (
        [row for index, row in enumerate(rows) if index not in held_out],
        [row for index, row in enumerate(rows) if index in held_out],
    )


def data_hash(rows: Iterable[Mapping[str, Any]]) -> str:
    """SHA-256 of rows and their order, in hexadecimal; the order of the fields in a row does not matter."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(_canonical(row).encode() + b"\n")
    return digest.hexdigest()


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _find(path: str) -> DataSource:
    return find_source(path, builtin=_BUILTIN_FILES)


def _rows(source: DataSource, data: Data | None, split: str) -> list[dict[str, Any]]:
    """Rows of a source; ``data`` gives the configuration and revision where they belong to it."""
    name, revision = (data.name, data.revision) if data else (None, None)
    described = source.path if source.file else f"{source.path} ({split})"
    return preference_rows(source.records(COLUMNS, name=name, split=split, revision=revision), described)


def _check_options(data: Data, source: DataSource) -> None:
    """Options of Hub data sets must not be given, and then ignored, for a file."""
    if source.file is None:
        return
    split = data.split if data.split != _DEFAULT_SPLIT else None
    given = {"name": data.name, "revision": data.revision, "split": split}
    if data.eval_path is None:
        given["eval_split"] = data.eval_split
    for key, value in given.items():
        if value is not None:
            remedy = "eval_path or eval_rows" if key == "eval_split" else "only with a Hub data set"
            raise DataError(printable(f"data.{key} is {value!r}, but {data.path} is a single table; use {remedy}"))


def _held_out_source(data: Data, source: DataSource) -> DataSource | None:
    if data.eval_path is None:
        found = source if data.eval_split else None
    else:
        found = _find(data.eval_path)
    if found is None:
        return None
    if found.file is not None and data.eval_split:
        raise DataError(printable(f"data.eval_split is {data.eval_split!r}, but {found.path} is a single table"))
    if _same(found, source) and (found.file is not None or (data.eval_split or data.split) == data.split):
        raise DataError(
            printable(f"{found.path}: the held-out data would be the training data itself; name another file or split")
        )
    return found


def _same(one: DataSource, other: DataSource) -> bool:
    if one.file is None or other.file is None:
        return one == other
    return Path(one.file).resolve() == Path(other.file).resolve()


def _limited(rows: list[dict[str, Any]], data: Data) -> list[dict[str, Any]]:
    if data.limit is None or data.limit >= len(rows):
        return rows
    return [rows[index] for index in sorted(random.Random(data.seed).sample(range(len(rows)), data.limit))]


def _check_count(data: Data, count: int) -> None:
    if count <= data.eval_rows:
        raise _too_few(data.path, count, data.eval_rows)


def _too_few(source: str, count: int, wanted: int) -> DataError:
    rows = "1 row" if count == 1 else f"{count} rows"
    return DataError(
        printable(
            f"{source}: {rows}; expected at least {wanted + 1} to hold {wanted} out and train on the rest; lower "
            "data.eval_rows or give data.eval_path"
        )
    )


def _origin(data: Data, source: DataSource) -> str:
    if source.file is not None:
        return data.path
    parts = (data.path, data.name, data.split, data.revision and f"revision {data.revision}")
    return ", ".join(part for part in parts if part)
