"""Evaluations as files: what was measured of each row and of each sequence, so that all else can be computed later.

Standard library only: the lines of ``evaluations.jsonl`` are read without torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from readwrite_edit.runs.cursor import Cursor
from readwrite_edit.runs.folder import RunFolder
from readwrite_edit.runs.records import current, segment_starts
from readwrite_edit.runs.state import is_count, is_finite

SCHEMA = 1
_DIGITS = 7


@dataclass(frozen=True, kw_only=True)
class RowScores:
    """Log-probabilities of the answers to held-out prompts, in nats, summed over an answer's tokens.

    Attributes:
        ids: Of the rows, made of their tokens.
        chosen: Of the chosen answers, by the model evaluated.
        rejected: Of the rejected answers.
        reference_chosen: Of the chosen answers, by the base.
        reference_rejected: Of the rejected answers, by the base.
    """

    ids: tuple[str, ...]
    chosen: tuple[float, ...]
    rejected: tuple[float, ...]
    reference_chosen: tuple[float, ...]
    reference_rejected: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class TextScores:
    """What a text's sequences say of a model and its base; sums over a sequence's predicted positions, in nats.

    Attributes:
        ids: Of the sequences, made of their tokens.
        positions: Predicted positions of each.
        kl: KL(model ‖ base) over the whole vocabulary.
        nll: Negative log-likelihood by the model.
        base_nll: Negative log-likelihood by the base.
    """

    ids: tuple[str, ...]
    positions: tuple[int, ...]
    kl: tuple[float, ...]
    nll: tuple[float, ...]
    base_nll: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One evaluation of a model.

    Attributes:
        step: Optimiser step; 0 for a model that was not trained here.
        beta: β that margins are computed with.
        rows: Held-out preference rows; None where none were given.
        texts: Name to scores.
        price: Name of a text to the predicted mean squared change of the outputs on it, mean over the adapted
            matrices; empty where there were no statistics.
        shared: Name of a text, and ``rows``, to the share of its tokens that the basis was chosen by or that were
            trained on, see ``evaluate.overlap``; empty where that was not looked at.
    """

    step: int
    beta: float
    rows: RowScores | None
    texts: Mapping[str, TextScores]
    price: Mapping[str, float] = field(default_factory=dict)
    shared: Mapping[str, float] = field(default_factory=dict)


def token_id(*sequences: Sequence[int]) -> str:
    """A name of token sequences by their content: 12 hexadecimal digits."""
    return hashlib.sha256(json.dumps([list(one) for one in sequences]).encode()).hexdigest()[:12]


def row_id(row: Mapping[str, Sequence[int]]) -> str:
    """A name of a tokenised preference row by its content."""
    return token_id(row["prompt_ids"], row["chosen_ids"], row["rejected_ids"])


def as_line(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation as a line of ``evaluations.jsonl``; floats are rounded to seven significant digits."""
    values = asdict(evaluation)
    return {"schema": SCHEMA, **{name: _rounded(value) for name, value in values.items()}}


def read_evaluations(path: Path) -> list[Evaluation]:
    """The evaluations of a run that still hold, by step; those of a newer schema or malformed ones are left out.

    Args:
        path: Run folder.
    """
    lines = filter(_is_line, Cursor(RunFolder(path).evaluations).read())
    kept = current(lines, segment_starts(path), lambda line: (line["step"],))
    found = {line["step"]: parsed for line in kept if (parsed := parse(line)) is not None}
    return [found[step] for step in sorted(found)]


def parse(line: Mapping[str, Any]) -> Evaluation | None:
    """An evaluation from a line; None where the line does not hold one."""
    if line.get("schema") != SCHEMA or not is_count(line.get("step")) or not is_finite(line.get("beta")):
        return None
    try:
        rows = None if line["rows"] is None else RowScores(**{k: tuple(v) for k, v in line["rows"].items()})
        texts = {str(n): TextScores(**{k: tuple(v) for k, v in text.items()}) for n, text in line["texts"].items()}
        price, shared = (
            {str(name): float(value) for name, value in line.get(key, {}).items()} for key in ("price", "shared")
        )
    except (KeyError, TypeError, AttributeError, ValueError):
        return None
    parts = [part for part in (rows, *texts.values()) if part is not None]
    if not all(map(_sound, parts)):
        return None
    beta = float(line["beta"])
    return Evaluation(step=line["step"], beta=beta, rows=rows, texts=texts, price=price, shared=shared)


def _sound(part: RowScores | TextScores) -> bool:
    """Whether all columns are as long as the ids and hold finite numbers."""
    columns = asdict(part)
    ids = columns.pop("ids")
    whole = all(len(column) == len(ids) and all(map(is_finite, column)) for column in columns.values())
    return whole and bool(ids) and all(isinstance(one, str) for one in ids)


def _is_line(record: Mapping[str, Any]) -> bool:
    return is_count(record.get("step")) and is_count(record.get("segment"))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, Mapping):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
