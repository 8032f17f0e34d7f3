"""The metrics of an evaluation: each has a name, a version that rises when its definition changes, and one definition.

Every metric is a function of a ratio of sums, over rows, sequences or prompts.
That makes it one number for the whole, and gives its interval: the same
observations are drawn again, with replacement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from readwrite_edit.evaluate.figures import Array, Figure, Generated, Metric, Terms, exponential
from readwrite_edit.evaluate.records import Evaluation, RowScores, TextScores

NGRAM = 4
_SHOWN = ("version", "unit", "definition")


def margins(rows: RowScores, *, beta: float) -> Array:
    """Implicit reward of the chosen answer less that of the rejected one, of each row."""
    return beta * (_change(rows, "chosen") - _change(rows, "rejected"))


def row_means(rows: RowScores, *, beta: float) -> dict[str, float]:
    """Means over rows of what TRL reports of an evaluation, under its names."""
    chosen, rejected = (beta * _change(rows, side) for side in ("chosen", "rejected"))
    columns = {
        "rewards/chosen": chosen,
        "rewards/rejected": rejected,
        "rewards/margins": chosen - rejected,
        "rewards/accuracies": chosen > rejected,
        "logps/chosen": rows.chosen,
        "logps/rejected": rows.rejected,
    }
    return {name: float(np.mean(np.array(column, dtype=float))) for name, column in columns.items()}


def figures_of(kind: str, observed: Any, *, with_base: bool = True, seed: int = 0, **options: Any) -> dict[str, Figure]:
    """All metrics of one kind.

    Args:
        kind: ``rows``, ``texts``, ``generations`` or ``price``.
        observed: What they are measured on.
        with_base: Whether there is a base; without, what compares with it is left out.
        seed: Of the bootstrap.
        **options: Of the terms; each metric takes those it has.
    """
    wanted = {name: one for name, one in METRICS.items() if one.of == kind and (with_base or not one.needs_base)}
    return {name: metric.figure(observed, seed=seed, **options) for name, metric in wanted.items()}


def described() -> dict[str, dict[str, Any]]:
    """Name, version, unit and definition of every metric, as a result file holds them."""
    return {name: {key: getattr(one, key) for key in _SHOWN} for name, one in METRICS.items()}


def other_versions(recorded: Mapping[str, Any]) -> tuple[str, ...]:
    """Sentences about metrics that a file holds by another definition than this version's.

    Args:
        recorded: ``metrics`` of a result file.
    """
    found = []
    for name, about in recorded.items():
        version = about.get("version") if isinstance(about, Mapping) else None
        ours = METRICS[name].version if name in METRICS else None
        if version != ours:
            known = f"version {ours} here" if ours else "unknown here"
            found.append(f"{name} is of version {version}, {known}: not comparable")
    return tuple(found)


def figures_of_evaluation(evaluation: Evaluation, *, seed: int = 0) -> dict[str, dict[str, Figure]]:
    """The figures of an evaluation, from its rows and sequences: of ``rows``, and of each text by its name.

    Args:
        evaluation: As recorded.
        seed: Of the bootstrap.
    """
    found = {}
    if evaluation.rows is not None:
        found["rows"] = figures_of("rows", evaluation.rows, seed=seed, beta=evaluation.beta)
    return found | {name: figures_of("texts", scores, seed=seed) for name, scores in evaluation.texts.items()}


def _change(rows: RowScores, side: str) -> Array:
    return np.array(getattr(rows, side)) - np.array(getattr(rows, f"reference_{side}"))


def _each(values: Array) -> tuple[Array, Array]:
    """Terms of a mean."""
    return values, np.ones(len(values))


def _loss(rows: RowScores, *, beta: float) -> tuple[Array, Array]:
    return _each(np.logaddexp(0.0, -margins(rows, beta=beta)))


def _accuracy(rows: RowScores, *, beta: float) -> tuple[Array, Array]:
    found = margins(rows, beta=beta)
    return _each(np.where(np.isnan(found), np.nan, found > 0))


def _likelier(rows: RowScores, *, beta: float) -> tuple[Array, Array]:
    found = np.array(rows.chosen) - np.array(rows.rejected)
    return _each(np.where(np.isnan(found), np.nan, found > 0))


def _per_position(column: str) -> Terms:
    return lambda text: (np.array(getattr(text, column)), np.array(text.positions, dtype=float))


def _nll_change(text: TextScores) -> tuple[Array, Array]:
    return np.array(text.nll) - np.array(text.base_nll), np.array(text.positions, dtype=float)


def _length(written: Sequence[Generated], *, ngram: int) -> tuple[Array, Array]:
    return _each(np.array([len(one.tokens) for one in written], dtype=float))


def _cut(written: Sequence[Generated], *, ngram: int) -> tuple[Array, Array]:
    return _each(np.array([not one.ended for one in written], dtype=float))


def _repeated(written: Sequence[Generated], *, ngram: int) -> tuple[Array, Array]:
    grams = [[one.tokens[i : i + ngram] for i in range(len(one.tokens) - ngram + 1)] for one in written]
    repeats = [len(found) - len(set(found)) for found in grams]
    return np.array(repeats, dtype=float), np.array([len(found) for found in grams], dtype=float)


_PRICE = (
    "Predicted mean squared change of an adapted matrix's output on the text, tr(ΔW C ΔWᵀ)/d_out with C = E[x xᵀ] of "
    "the base's inputs on that text, mean over the adapted matrices."
)

METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "loss": Metric(
            "rows", 1, "nats", "Mean of −log σ(margin), the sigmoid DPO loss without label smoothing.", _loss
        ),
        "accuracy": Metric(
            "rows",
            1,
            "share",
            "Share of rows whose margin is above 0; a margin of exactly 0 counts as wrong.",
            _accuracy,
        ),
        "margin": Metric(
            "rows",
            1,
            "β · nats",
            "Mean of β[(log p(chosen) − log p_base(chosen)) − (log p(rejected) − log p_base(rejected))], each log p "
            "summed over the answer's tokens.",
            lambda rows, *, beta: _each(margins(rows, beta=beta)),
        ),
        "chosen_change": Metric(
            "rows",
            1,
            "nats",
            "Mean of log p(chosen) − log p_base(chosen).",
            lambda rows, *, beta: _each(_change(rows, "chosen")),
        ),
        "rejected_change": Metric(
            "rows",
            1,
            "nats",
            "Mean of log p(rejected) − log p_base(rejected).",
            lambda rows, *, beta: _each(_change(rows, "rejected")),
        ),
        "likelier": Metric(
            "rows",
            1,
            "share",
            "Share of rows whose chosen answer has a higher log p than the rejected one, whatever the base says.",
            _likelier,
            needs_base=False,
        ),
        "kl": Metric(
            "texts",
            1,
            "nats per token",
            "KL(model ‖ base) of the next token over the whole vocabulary, mean over every predicted position.",
            _per_position("kl"),
        ),
        "perplexity": Metric(
            "texts",
            1,
            "",
            "exp of the model's mean negative log-likelihood per predicted token.",
            _per_position("nll"),
            exponential,
            needs_base=False,
        ),
        "base_perplexity": Metric(
            "texts",
            1,
            "",
            "exp of the base's mean negative log-likelihood per predicted token.",
            _per_position("base_nll"),
            exponential,
        ),
        "perplexity_ratio": Metric(
            "texts",
            1,
            "",
            "Perplexity of the model over that of the base, paired sequence by sequence.",
            _nll_change,
            exponential,
        ),
        "price": Metric("price", 1, "squared output", _PRICE, lambda prices: _each(np.array(prices)), drawn=False),
        "length": Metric(
            "generations",
            1,
            "tokens",
            "Mean length of the greedy answers, the end token left out.",
            _length,
            needs_base=False,
        ),
        "cut": Metric(
            "generations",
            1,
            "share",
            "Share of the greedy answers that the limit ended, not the model.",
            _cut,
            needs_base=False,
        ),
        "repetition": Metric(
            "generations",
            1,
            "share",
            "Share of the n-grams of tokens of an answer that stand in it before already, pooled over the answers; "
            f"n = {NGRAM} unless said otherwise.",
            _repeated,
            needs_base=False,
        ),
    }
)
