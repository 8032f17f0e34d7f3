"""A list of checkpoints in the order of training: globs, numbers in names, and the checkpoints of a run."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path

from readwrite_edit.align.checkpoints import SEAL, checkpoint_step
from readwrite_edit.errors import ModelError
from readwrite_edit.probe.checkpoint import ADAPTER_CONFIG, Checkpoint, resolve_checkpoint
from readwrite_edit.recipe import load_recipe
from readwrite_edit.runs.folder import RunFolder
from readwrite_edit.runs.reader import read_run

_NUMBER = re.compile(r"\d+$")
_MAGIC = re.compile(r"[*?\[]")
_FEWEST = 2


@dataclass(frozen=True)
class Entry:
    """One checkpoint of a list; nothing of it is opened yet.

    Attributes:
        name: For the user.
        place: What ``resolve_checkpoint`` takes.
        step: Of training.
        base: Base model of a run's adapter, as the run's recipe names it.
    """

    name: str
    place: str
    step: int
    base: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether its files are here, without any download."""
        return Path(self.place).expanduser().exists()

    def resolve(self) -> Checkpoint:
        """Have its files at hand; a Hub revision is downloaded now.

        Raises:
            ReadWriteEditError: It is missing or damaged.
        """
        found = replace(resolve_checkpoint(self.place), name=self.name)
        return found if self.base is None else replace(found, base=self.base)


def list_checkpoints(texts: Sequence[str]) -> tuple[list[Entry], list[str]]:
    """The checkpoints that texts mean, in the order of training.

    Args:
        texts: Hub revisions, folders, globs; or one run folder, whose start (the
            base model, step 0) comes before its checkpoints.

    Returns:
        Entries, and sentences about what was left out.

    Raises:
        ModelError: A glob matches nothing, or there are fewer than two checkpoints.
    """
    if len(texts) == 1 and RunFolder(Path(texts[0]).expanduser()).state.is_file():
        entries, notes = _of_run(Path(texts[0]).expanduser())
    else:
        names = naturally_sorted([name for text in texts for name in _expanded(text)])
        steps = steps_of(names)
        entries, notes = [Entry(name, name, step) for name, step in zip(names, steps, strict=True)], []
    if len(entries) < _FEWEST:
        raise ModelError(f"{', '.join(texts)}: {len(entries)} checkpoint; a trajectory takes 2 or more")
    return entries, notes


def naturally_sorted(names: Sequence[str]) -> list[str]:
    """Sort neighbours that differ only in the number at their end by that number; else the order stays.

    A shell sorts ``checkpoint-10`` before ``checkpoint-2``.
    """
    return [name for _, group in groupby(names, _stem) for name in sorted(group, key=lambda name: _number(name) or 0)]


def steps_of(names: Sequence[str]) -> list[int]:
    """The number at the end of each name, where those rise; else the position.

    The first name may be another one, such as that of the base model: its step is 0.
    """
    first, *rest = names
    numbers = [_number(name) for name in rest]
    if rest and len({_stem(name) for name in rest}) == 1 and None not in numbers:
        opening = _number(first) if _stem(first) == _stem(rest[0]) else 0
        steps = [opening if opening is not None else 0, *(number or 0 for number in numbers)]
        if all(before < after for before, after in pairwise(steps)):
            return steps
    return list(range(len(names)))


def _expanded(text: str) -> Iterator[str]:
    """The paths of a glob, or the text itself."""
    if not _MAGIC.search(text) or Path(text).expanduser().exists():
        yield text
        return
    found = sorted(path for path in glob.glob(str(Path(text).expanduser())) if Path(path).is_dir())
    if not found:
        raise ModelError(f"{text}: no folder matches; expected model or adapter folders, such as 'out/checkpoint-*'")
    yield from found


def _stem(name: str) -> str:
    return _NUMBER.sub("", name.rstrip("/"))


def _number(name: str) -> int | None:
    match = _NUMBER.search(name.rstrip("/"))
    return int(match[0]) if match else None


def _of_run(path: Path) -> tuple[list[Entry], list[str]]:
    """The base model, the whole checkpoints of a run, and its adapter where no checkpoint is of the last step."""
    folder, view = RunFolder(path), read_run(path)
    if view.kind != "align":
        raise ModelError(f"{path}: a run of kind {view.kind}; expected one of kind align, or checkpoint folders")
    model = load_recipe(str(folder.recipe)).model
    base = f"{model.path}@{model.revision}" if model.revision else model.path
    saved = sorted((p for p in folder.checkpoints.glob("checkpoint-*") if checkpoint_step(p) >= 0), key=checkpoint_step)
    whole = [place for place in saved if (place / SEAL).is_file()]
    entries = [Entry(place.name, str(place), checkpoint_step(place), base) for place in whole]
    last = entries[-1].step if entries else 0
    if (folder.adapter / ADAPTER_CONFIG).is_file() and view.step > last:
        entries.append(Entry(folder.adapter.name, str(folder.adapter), view.step, base))
    if not entries:
        raise ModelError(f"{path}: this run has no whole checkpoint and no finished adapter yet")
    notes = [f"{place.name} is left out: it was not finished" for place in saved if place not in whole]
    return [Entry("start", base, 0), *entries], notes
