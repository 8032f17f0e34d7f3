"""Small edits: random changes of tiny models, and run folders as an edit leaves them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from readwrite_edit.edit.ledger import Entry, Ledger, open_ledger
from readwrite_edit.geometry import LowRank
from readwrite_edit.interventions.changes import Change
from readwrite_edit.models.identity import Base
from readwrite_edit.models.pathways import Projection
from readwrite_edit.runs.folder import RunFolder

TOWER = {"prompt": "The {} is in", "subject": "Eiffel Tower", "target": " Rome"}
SCALE = 0.2  # of B: large enough to be seen in logits, small enough to stay a model


def random_change(projection: Projection, rank: int = 1, *, seed: int = 0, bias: bool = False) -> Change:
    """A seeded change of one projection, different for each."""
    digest = hashlib.sha256(f"{seed} {projection.layer} {projection.role}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:6], "big"))
    B = SCALE * torch.randn(projection.d_out, rank, generator=generator)
    A = torch.randn(rank, projection.d_in, generator=generator)
    constant = SCALE * torch.randn(projection.d_out, generator=generator) if bias else None
    return Change(projection, LowRank(B, A), constant)


def random_changes(projections: Iterable[Projection], *, seed: int = 0, bias: bool = False) -> tuple[Change, ...]:
    """A change of each projection, of ranks 1, 2, 3 in turn."""
    return tuple(
        random_change(one, 1 + index % 3, seed=seed, bias=bias and index % 2 == 0)
        for index, one in enumerate(projections)
    )


def a_base(weights_hash: str = "0" * 64, source: str = "/models/tiny") -> Base:
    """A record of a base that need not exist."""
    return Base(source=source, revision=None, weights_hash=weights_hash, dtype="float32", quantization=None)


def dense(changes: Sequence[Change]) -> dict[tuple[int, str], torch.Tensor]:
    """Layer and role to the whole ΔW, float64."""
    found: dict[tuple[int, str], torch.Tensor] = {}
    for change in changes:
        key = change.projection.layer, change.projection.role
        delta = change.update.B.double() @ change.update.A.double()
        found[key] = found[key] + delta if key in found else delta
    return found


def fake_run(folder: Path, text: str = "adapter", **summary: Any) -> RunFolder:
    """A finished run whose adapter is no adapter: what a ledger copies and hashes, and does not look into."""
    run = RunFolder(folder)
    run.adapter.mkdir(parents=True, exist_ok=True)
    for name in ("adapter_config.json", "adapter_model.safetensors", "readwrite_edit.json"):
        (run.adapter / name).write_text(f"{text} {name}\n", encoding="utf-8")
    return with_papers(run, **summary)


def with_papers(run: RunFolder, **summary: Any) -> RunFolder:
    """The run with a recipe and a summary."""
    run.recipe.write_text("model: {path: tiny}\n", encoding="utf-8")
    run.summary.write_text(json.dumps(summary), encoding="utf-8")
    return run


def enter(ledger: Ledger, place: Path, name: str | None, **options: Any) -> Entry:
    """Enter an edit whose adapter is no adapter."""
    options = {"kind": "steer", "title": f"title of {name}", **options}
    return ledger.add(name=name, run=fake_run(place / f"run-{len(ledger.entries)}", text=str(name)), **options)


def ledger_of_three(place: Path) -> Ledger:
    """A ledger under ``edits``: ``tower`` makes a fact, ``project-2`` has a price, ``project-adapter-3`` figures."""
    found = open_ledger(place / "edits", a_base())
    enter(found, place, "tower", kind="associate", facts=[TOWER], statistics_sha256="ab" * 32)
    enter(found, place, None, kind="project", predicted_damage=0.25)
    enter(found, place, None, kind="project_adapter", measured={"kl": 0.5, "odd": math.nan})
    return found


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
