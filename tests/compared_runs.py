"""Fabricated alignments with evaluations whose gains and costs are known: what comparisons are tested with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml

from readwrite_edit.evaluate.records import Evaluation, RowScores, TextScores, as_line, token_id
from readwrite_edit.sweep.grid import Planned
from readwrite_edit.sweep.record import SweepRecord, write_record

BETA, STARTED, TOOK_S = 0.5, 1_760_000_000.0, 90.0
STEPS = (5, 10, 15)
TEXTS = ("prose", "chat")
CHOICE = "train.learning_rate"


def evaluations_of(
    *,
    gain: float = 1.0,
    cost: float = 0.01,
    steps: Sequence[int] = STEPS,
    rows: int = 12,
    sequences: int = 6,
    texts: Sequence[str] = TEXTS,
    spread: float = 0.3,
    seed: int = 0,
    names: str = "",
    shared: float = 0.0,
) -> list[Evaluation]:
    """Evaluations of a run that goes straight, in gain and root of cost, to a gain and a cost in the end.

    Args:
        gain: Mean margin in the end.
        cost: KL a position in the end.
        steps: Of the evaluations.
        rows: Held-out rows.
        sequences: Of each text.
        texts: Names.
        spread: Of gains over rows and of costs over sequences, as shares.
        seed: Of the spread.
        names: Goes into the ids of rows and sequences.
        shared: Share of everything that had been seen.
    """
    generator = np.random.default_rng(seed)
    own = 1 + spread * generator.standard_normal(rows)
    kl = {text: np.exp(spread * generator.standard_normal(sequences)) for text in texts}
    found = []
    for step in steps:
        done = step / steps[-1]
        margins = done * gain * own / own.mean()
        found.append(
            Evaluation(
                step=step,
                beta=BETA,
                rows=scores(margins, names),
                texts={
                    text: text_scores(done**2 * cost * values / values.mean(), text + names)
                    for text, values in kl.items()
                },
                price={"protected": done**2 * cost / 2},
                shared={"rows": shared, **dict.fromkeys(texts, shared)},
            )
        )
    return found


def scores(margins: Sequence[float], names: str = "") -> RowScores:
    """Rows with these margins."""
    count = len(margins)
    return RowScores(
        ids=tuple(token_id([at, *map(ord, names)]) for at in range(count)),
        chosen=tuple(-10.0 + float(margin) / BETA for margin in margins),
        rejected=(-12.0,) * count,
        reference_chosen=(-10.0,) * count,
        reference_rejected=(-12.0,) * count,
    )


def text_scores(kl: Sequence[float], names: str, positions: int = 50) -> TextScores:
    """Sequences of one length with these KLs a position."""
    count = len(kl)
    return TextScores(
        ids=tuple(token_id([at, *map(ord, names)]) for at in range(count)),
        positions=(positions,) * count,
        kl=tuple(float(one) * positions for one in kl),
        nll=(100.0,) * count,
        base_nll=(100.0,) * count,
    )


def write_compared(
    path: Path,
    evaluations: Sequence[Evaluation] | None = None,
    *,
    status: str = "finished",
    kind: str = "align",
    recipe: Mapping[str, Mapping[str, object]] | None = None,
    seed: int = 0,
) -> Path:
    """Write the folder of a run with these evaluations (by default of ``evaluations_of()``)."""
    path.mkdir(parents=True)
    sections: dict[str, dict[str, object]] = {
        "data": {"path": "rows.jsonl"},
        "adapter": {"basis": path.name.rsplit("_s", 1)[0], "seed": seed},
        "train": {"max_steps": STEPS[-1], "seed": seed},
        "provenance": {"weights_sha256": "0" * 64, "data_sha256": "1" * 64, "python": "3.11"},
    }
    for section, update in (recipe or {}).items():
        sections.setdefault(section, {}).update(update)
    (path / "recipe.yaml").write_text(yaml.safe_dump(sections))
    state = {
        "schema": 1, "status": status, "kind": kind, "recipe": "r", "step": STEPS[-1], "max_steps": STEPS[-1],
        "segment": 0, "segment_starts": [0], "started_s": STARTED, "heartbeat_s": STARTED + TOOK_S, "pid": 1,
        "hostname": "elsewhere", "error": None,
    }  # fmt: skip
    (path / "state.json").write_text(json.dumps(state))
    (path / "summary.json").write_text(json.dumps({"trainable_parameters": 1344, "adapter_bytes": 6400}))
    lines = [as_line(one) | {"segment": 0, "time": STARTED} for one in evaluations or evaluations_of(seed=seed)]
    (path / "evaluations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_sweep(
    folder: Path, arms: Mapping[str, Mapping[str, tuple[float, float]]], *, seeds: int = 3, choose: str | None = None
) -> Path:
    """Write a finished sweep.

    Args:
        folder: Of the sweep.
        arms: Name to label of the chosen value (empty without a choice) to gain and cost in the end.
        seeds: Of every run.
        choose: Key that is chosen on.
    """
    runs = []
    for arm, values in arms.items():
        for label, (gain, cost) in values.items():
            for seed in range(seeds):
                name = "_".join(filter(None, (arm, label, f"s{seed}")))
                luck = 1 + 0.1 * np.random.default_rng([len(runs), seed]).standard_normal()
                made = evaluations_of(gain=gain * luck, cost=cost * luck, seed=seed)
                write_compared(folder / name, made, seed=seed)
                runs.append(Planned(name=name, arm=arm, chosen=label, seed=seed, settings=()))
    write_record(folder, SweepRecord(recipe="r.yaml", choose=choose).with_runs(runs))
    return folder
