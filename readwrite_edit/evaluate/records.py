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
from readwrite_edit.terminal import counted

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


@dataclass(frozen=True)
class Found:
    """What ``evaluations.jsonl`` of a run gave.

    Attributes:
        evaluations: That still hold, by step.
        damaged: A clause on each evaluation that can not be used, and on lines that can not be read.
    """

    evaluations: list[Evaluation]
    damaged: list[str]

    def damage(self, most: int) -> str:
        """The first so many clauses on what is damaged, and how many more there are."""
        more = f"; and {len(self.damaged) - most} more" if len(self.damaged) > most else ""
        return f"{'; '.join(self.damaged[:most])}{more}"


def find_evaluations(path: Path) -> Found:
    """The evaluations of a run that has ended, and what is lost of them.

    Args:
        path: Run folder.
    """
    cursor = Cursor(RunFolder(path).evaluations)
    read = cursor.read()
    lines = [line for line in read if _is_line(line)]
    found: dict[int, Evaluation] = {}
    damaged = [f"it can not be read: {cursor.problem}"] if cursor.problem else []
    for line in current(lines, segment_starts(path), lambda line: (line["step"],)):
        try:
            found[line["step"]] = _parsed(line)
        except ValueError as error:
            damaged.append(f"the evaluation at step {line['step']} can not be used: {error}")
    if lost := cursor.garbage + cursor.torn + len(read) - len(lines):
        steps = ", ".join(map(str, sorted(found))) or "none"
        why = "no valid JSON object of up to 1 MiB with its step"
        damaged.append(f"{counted(lost, 'line')} can not be read: {why} (steps that can: {steps})")
    return Found([found[step] for step in sorted(found)], damaged)


def parse(line: Mapping[str, Any]) -> Evaluation | None:
    """An evaluation from a line; None where the line does not hold one."""
    try:
        return _parsed(line)
    except ValueError:
        return None


def _parsed(line: Mapping[str, Any]) -> Evaluation:
    """An evaluation from a line; a ValueError says why the line does not hold one."""
    if line.get("schema") != SCHEMA:
        raise ValueError(f"it is of another schema than {SCHEMA}")
    if not is_count(line.get("step")) or not is_finite(line.get("beta")):
        raise ValueError("its step or its β is no number")
    try:
        rows = None if line["rows"] is None else RowScores(**{k: tuple(v) for k, v in line["rows"].items()})
        texts = {str(n): TextScores(**{k: tuple(v) for k, v in text.items()}) for n, text in line["texts"].items()}
        price, shared = (
            {str(name): float(value) for name, value in line.get(key, {}).items()} for key in ("price", "shared")
        )
    except (KeyError, TypeError, AttributeError, ValueError):
        raise ValueError("its fields are not those of an evaluation") from None
    for name, part in {"rows": rows, **{f"texts.{name}": text for name, text in texts.items()}}.items():
        if part is not None:
            _check_sound(name, part)
    beta = float(line["beta"])
    return Evaluation(step=line["step"], beta=beta, rows=rows, texts=texts, price=price, shared=shared)


def _check_sound(name: str, part: RowScores | TextScores) -> None:
    """Refuse columns that are not as long as the ids, or hold what is no finite number."""
    columns = asdict(part)
    ids = columns.pop("ids")
    if not ids or not all(isinstance(one, str) for one in ids):
        raise ValueError(f"{name} has no ids")
    for column, values in columns.items():
        if len(values) != len(ids):
            raise ValueError(f"{name}.{column} has {counted(len(values), 'entry', 'entries')} for {len(ids)} ids")
        if odd := sum(not is_finite(value) for value in values):
            raise ValueError(f"{name}.{column} has {counted(odd, 'entry', 'entries')} without a finite number")


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
