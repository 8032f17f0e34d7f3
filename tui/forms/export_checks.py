"""Whether a run can be exported, as far as its files tell without loading anything; the command checks again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from readwrite_edit.runs.folder import RunFolder
from readwrite_edit.runs.reader import read_run, summary
from readwrite_edit.runs.regular import read_head
from readwrite_edit.terminal import printable

Passed = Literal["yes", "no", "later"]
GLYPHS: Mapping[Passed, str] = {"yes": "✓", "no": "✗", "later": "·"}
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "readwrite_edit.json")
_LARGEST_JSON = 1 << 24
_UNITS = ("bytes", "kB", "MB", "GB", "TB")
_THOUSAND = 1000


@dataclass(frozen=True)
class Check:
    """One line of the list; its texts are safe to show.

    Attributes:
        passed: ``later`` where only the export itself can tell.
        name: What it is about.
        text: What was found.
    """

    passed: Passed
    name: str
    text: str


def checklist(path: Path) -> tuple[Check, ...]:
    """The list for a run. Call it in a worker."""
    return tuple(Check(one.passed, one.name, printable(one.text)) for one in _checks(RunFolder(path)))


def _checks(run: RunFolder) -> Iterator[Check]:
    view = read_run(run.path)
    if view.kind == "edit":
        yield Check("no", "run", "an edit: its ledger exports it; press e for the edits, F7, mark it and press s")
        return
    good = view.status == "finished"
    yield Check("yes" if good else "no", "run", f"{view.kind or 'unknown kind'}, {view.status} {view.reason}".strip())
    yield _certificate(summary(run.path).get("certificate"))
    yield _files(run)
    metadata, config = read_json(run.adapter / ADAPTER_FILES[2]), read_json(run.adapter / ADAPTER_FILES[0])
    yield _base(metadata.get("base"))
    yield _names(config)
    yield Check("later", "model card", "README.md comes with the export: base, data, figures, limits")


def _certificate(found: Any) -> Check:
    if not isinstance(found, dict):
        return Check("no", "certificate", "none: the run did not finish")
    checks = [one for one in found.get("checks") or () if isinstance(one, dict)]
    failed = [f"{one.get('name')} ({one.get('detail')})" for one in checks if one.get("passed") is not True]
    if found.get("passed") is True and not failed:
        passed = "its one check passed" if len(checks) == 1 else f"all {len(checks)} checks passed"
        return Check("yes", "certificate", passed)
    return Check("no", "certificate", f"not passed: {'; '.join(failed) or 'it does not say what'}")


def _files(run: RunFolder) -> Check:
    sizes = {name: _size(run.adapter / name) for name in ADAPTER_FILES}
    missing = [name for name, size in sizes.items() if size is None]
    if missing:
        return Check("no", "files", f"missing: {', '.join(missing)}")
    total = size_text(sum(size or 0 for size in sizes.values()))
    return Check("yes", "files", f"{len(sizes)} of the adapter, {total}; F4 lists what would be written")


def _base(base: Any) -> Check:
    if not isinstance(base, dict) or not base.get("source"):
        return Check("no", "base", f"{ADAPTER_FILES[2]} does not name it")
    revision = f"@{base['revision']}" if base.get("revision") else ""
    quantised = f", quantised {base['quantization']}" if base.get("quantization") else ""
    return Check("yes", "base", f"{base['source']}{revision}, {base.get('dtype')}{quantised}")


def _names(config: Mapping[str, Any]) -> Check:
    modules, rank = config.get("target_modules"), config.get("r")
    if not isinstance(modules, list) or not isinstance(rank, int):
        return Check("no", "names", f"{ADAPTER_FILES[0]} is missing or damaged")
    shown = ", ".join(map(str, modules[:8])) + (" …" if len(modules) > 8 else "")
    return Check("yes", "names", f"LoRA of rank {rank} on {shown}; stock PEFT, safetensors")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a file; empty where there is none that can be read."""
    try:
        found = json.loads(read_head(path, _LARGEST_JSON))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def size_text(size: float) -> str:
    """A number of bytes in three digits and a unit."""
    for unit in _UNITS[:-1]:
        if size < _THOUSAND:
            return f"{size:.3g} {unit}"
        size /= _THOUSAND
    return f"{size:.3g} {_UNITS[-1]}"


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None
