"""What a run was: its settings and sizes in words, and the commands that go on from it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from readwrite_edit.report.figures_table import MISSING
from readwrite_edit.report.record import RunRecord, is_number


def facts(record: RunRecord) -> list[tuple[str, str]]:
    """What was done, as (name, value) pairs for the head of a report or a card."""
    adapter = record.section("adapter")
    objective = record.section("objective")
    train = record.section("train")
    modules = adapter.get("modules", [])
    steps = max((line["step"] for line in record.metrics), default=None)
    found = [
        ("Base model", record.base_model),
        ("Data", record.section("data").get("path")),
        ("Modules", ", ".join(map(str, modules)) if isinstance(modules, list) else modules),
        ("Basis", adapter.get("basis")),
        ("Rank", _rank(adapter)),
        ("Objective", _objective(objective)),
        ("Steps", steps),
        ("Learning rate", train.get("learning_rate")),
        ("Batch", train.get("per_device_train_batch_size")),
        ("Seed", train.get("seed")),
        ("Trainable parameters", _count(record.summary.get("trainable_parameters"))),
        ("Adapter", size(record.summary.get("adapter_bytes"))),
        ("Training time", duration(record.summary.get("train_runtime_s"))),
    ]
    return [(name, str(value)) for name, value in found if value not in (None, "", MISSING)]


def _objective(objective: dict[str, Any]) -> str | None:
    name, beta = objective.get("name"), objective.get("beta")
    return None if name is None else f"{name}, β = {beta}" if beta is not None else str(name)


def commands(run_path: Path) -> list[tuple[str, str]]:
    """What to type next: (purpose, command) pairs."""
    run, adapter = shlex.quote(str(run_path)), shlex.quote(str(run_path / "adapter"))
    target = shlex.quote(f"{run_path.resolve().name}-export")
    return [
        ("check the adapter again, in a fresh process", f"readwrite-edit verify {adapter}"),
        ("write adapter and model card", f"readwrite-edit export {run} --to {target}"),
        ("write the merged model", f"readwrite-edit export {run} --to {target} --merge"),
        ("go on where it stopped", f"readwrite-edit align --resume {run}"),
    ]


def recorded_versions(record: RunRecord) -> list[tuple[str, str]]:
    """Package versions that the run recorded in its recipe; empty where it recorded none."""
    found = record.section("provenance")
    return [(name, str(value)) for name, value in found.items() if not name.endswith("_sha256")]


def _rank(adapter: dict[str, Any]) -> str | None:
    if adapter.get("rank") is not None:
        return str(adapter["rank"])
    return None if adapter.get("energy") is None else f"by energy, {adapter['energy']} of each input's"


def _count(value: Any) -> str | None:
    return f"{value:,}" if isinstance(value, int) else None


def size(value: Any) -> str:
    """Bytes in binary units, three digits."""
    if not is_number(value):
        return MISSING
    amount = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def duration(seconds: Any) -> str:
    """Seconds as hours, minutes and seconds."""
    if not is_number(seconds):
        return MISSING
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "min"), (rest, "s"))
    return " ".join(f"{amount} {unit}" for amount, unit in parts if amount) or "0 s"
