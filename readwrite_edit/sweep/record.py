"""The file of a sweep, ``sweep.json``: its recipe and every run that was ever planned in its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from readwrite_edit.durable import write_json
from readwrite_edit.runs.folder import FolderError
from readwrite_edit.runs.regular import read_head
from readwrite_edit.sweep.grid import Planned

SCHEMA = 1
_LARGEST_BYTES = 1 << 22


@dataclass(frozen=True, kw_only=True)
class SweepRecord:
    """What a folder of a sweep holds.

    Attributes:
        recipe: As the user named it.
        settings: ``key=value`` each, the same for all runs.
        choose: Key whose values are chosen among for each arm; None without.
        runs: Name to run; those of earlier calls with other values are among them.
    """

    recipe: str
    settings: tuple[str, ...] = ()
    choose: str | None = None
    runs: Mapping[str, Planned] = field(default_factory=dict)

    def with_runs(self, more: Sequence[Planned]) -> SweepRecord:
        """The record with further runs, those of the same name replaced."""
        runs = {**self.runs, **{run.name: run for run in more}}
        return SweepRecord(recipe=self.recipe, settings=self.settings, choose=self.choose, runs=runs)


def record_path(folder: Path) -> Path:
    """Where the record of a sweep is."""
    return folder / "sweep.json"


def write_record(folder: Path, record: SweepRecord) -> None:
    """Replace the record whole.

    Raises:
        FolderError: The folder can not be written.
    """
    runs = [asdict(run) for run in record.runs.values()]
    content = {"recipe": record.recipe, "settings": list(record.settings), "choose": record.choose, "runs": runs}
    try:
        write_json(record_path(folder), {"schema": SCHEMA, **content})
    except OSError as error:
        raise FolderError(f"{record_path(folder)}: {error.strerror}: name a folder that can be written") from error


def read_record(folder: Path) -> SweepRecord | None:
    """The record of a sweep; None where the folder holds none.

    Raises:
        FolderError: It can not be read, or is of a newer schema.
    """
    path = record_path(folder)
    try:
        value = json.loads(read_head(path, _LARGEST_BYTES))
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise FolderError(f"{folder} is a file: name a folder for the sweep") from None
    except (OSError, ValueError) as error:
        raise FolderError(f"{path} can not be read ({error}): delete it, and call the sweep again") from None
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        schema = value.get("schema") if isinstance(value, dict) else None
        raise FolderError(f"{path} has schema {schema!r}; this version reads {SCHEMA}: upgrade readwrite-edit")
    try:
        return _parsed(value)
    except (KeyError, TypeError, AttributeError, ValueError):
        raise FolderError(f"{path} is not the record of a sweep: delete it, and call the sweep again") from None


def _parsed(value: Mapping[str, Any]) -> SweepRecord:
    runs = [_planned(run) for run in value["runs"]]
    return SweepRecord(
        recipe=str(value["recipe"]),
        settings=tuple(map(str, value["settings"])),
        choose=None if value["choose"] is None else str(value["choose"]),
        runs={run.name: run for run in runs},
    )


def _planned(run: Mapping[str, Any]) -> Planned:
    name = str(run["name"])
    if name in ("", ".", "..") or Path(name).name != name:
        raise ValueError(f"{name!r} is no folder of the sweep")
    return Planned(
        name=name,
        arm=str(run["arm"]),
        chosen=str(run["chosen"]),
        seed=int(run["seed"]),
        settings=tuple(map(str, run["settings"])),
    )
