"""Figures of what an edit did to the predictions and scores that it aims at."""

from __future__ import annotations

import pandas as pd

from readwrite_edit.report.edit_figures.listing import Column, change, count, listing, matrix, number, percent, text
from readwrite_edit.report.probe_figures.plan import Plan, TextTable
from readwrite_edit.report.probe_figures.words import spanned

_PROMPTS = tuple(
    f"{name}_{side}"
    for name in ("target_probability", "target_rank", "true_probability")
    for side in ("before", "after")
)
_SCORES = ("head", "score_before", "score_after", "score_change", "wanted", "weight_before", "weight_after")
_CONCEPT = ("layer", "accuracy_before", "accuracy_after", "separation_before", "separation_after", "shrinkage")


def _metrics(table: pd.DataFrame) -> TextTable | None:
    return listing(
        table,
        (
            Column("metric", lambda row: row.metric.replace("_", " ")),
            Column("version", count("version")),
            Column("prompts", count("n")),
            Column("before", number("before")),
            Column("after (95 %)", lambda row: spanned(row.after, row.low, row.high)),
            Column("change (95 %)", lambda row: spanned(row.change, row.change_low, row.change_high)),
        ),
        file="metrics",
    )


def _prompts(table: pd.DataFrame) -> TextTable | None:
    return listing(
        table,
        (
            Column("prompt", text("text")),
            Column("kind", text("kind")),
            Column("target", text("target")),
            Column("its probability", change("target_probability_before", "target_probability_after")),
            Column("its rank", change("target_rank_before", "target_rank_after", count)),
            Column("true", text("true")),
            Column("its probability", change("true_probability_before", "true_probability_after")),
            Column("first choice", change("top_before", "top_after", text)),
            Column("KL", number("kl")),
        ),
        file="prompts",
    )


def _scores(table: pd.DataFrame) -> TextTable | None:
    return listing(
        table,
        (
            Column("prompt", text("text")),
            Column("head", count("head")),
            Column("score", change("score_before", "score_after")),
            Column("change", number("score_change")),
            Column("wanted", number("wanted")),
            Column("attention", change("weight_before", "weight_after")),
        ),
        file="scores",
    )


def _without(table: pd.DataFrame) -> TextTable | None:
    return listing(
        table,
        (
            Column("prompt", text("text")),
            Column("attention moved, mean", percent("moved_mean")),
            Column("largest", percent("moved_max")),
        ),
        file="without",
    )


def _concept(table: pd.DataFrame) -> TextTable | None:
    return listing(
        table,
        (
            Column("matrix", matrix),
            Column("classifier's accuracy", change("accuracy_before", "accuracy_after", percent)),
            Column("separation of the classes", change("separation_before", "separation_after")),
            Column("shrinkage", number("shrinkage")),
        ),
        file="concept",
    )


def _patterns(table: pd.DataFrame) -> TextTable | None:
    return listing(
        table,
        (
            Column("prompt", text("text")),
            Column("kind", text("kind")),
            Column("gate at the pattern", number("gate")),
            Column("elsewhere, mean", number("gate_elsewhere")),
            Column("elsewhere, largest", number("gate_elsewhere_max")),
        ),
        file="patterns",
    )


OUTCOME = (
    Plan(
        "Before and after",
        "Means over prompts with 95 % intervals of a bootstrap. Success: the target is likelier than what followed "
        "before; on locality prompts, it is not.",
        "metrics",
        _metrics,
        labels=("metric",),
        optional=("version", "n", "before", "after", "change", "low", "high", "change_low", "change_high"),
    ),
    Plan(
        "Prompt by prompt",
        "Before → after. Probabilities are of the whole target; its rank is of its first token.",
        "prompts",
        _prompts,
        labels=("kind", "text"),
        optional=(*_PROMPTS, "kl"),
        texts=("target", "true", "top_before", "top_after"),
    ),
    Plan(
        "Attention scores",
        "Before the softmax, from the query token to the key token; attention is the share after it.",
        "scores",
        _scores,
        labels=("text",),
        optional=_SCORES,
    ),
    Plan(
        "Attention that should stay",
        "Share of attention that moved on prompts without the patterns.",
        "without",
        _without,
        labels=("text",),
        optional=("moved_mean", "moved_max"),
    ),
    Plan(
        "Where the pattern acts",
        "Gate: 1 where the whole direction is added, 0 where nothing is.",
        "patterns",
        _patterns,
        labels=("text",),
        optional=("gate", "gate_elsewhere", "gate_elsewhere_max"),
        texts=("kind",),
    ),
    Plan(
        "The concept, on held-out prompts",
        "A linear classifier trained before and trained again after; 50 % is chance.",
        "concept",
        _concept,
        labels=("module",),
        optional=_CONCEPT,
    ),
)
