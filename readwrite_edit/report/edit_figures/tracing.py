"""Figures of a causal trace: layers × tokens, and layers by what a token is."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

import pandas as pd
from matplotlib.axes import Axes

from readwrite_edit.report.edit_figures.listing import Column, listing, number, text
from readwrite_edit.report.heatmap import Heatmap, Quantity, heatmaps, plain
from readwrite_edit.report.probe_figures.plan import Plan, TextTable
from readwrite_edit.report.probe_figures.plots import named_lines, small_multiples, styles, whole_steps

_KINDS = {"hidden": "Hidden state", "mlp": "MLP output", "attention": "Attention output"}
_LONGEST_TOKEN = 12


def _restored(table: pd.DataFrame, column: str, unit: str) -> list[Heatmap]:
    """A map of layers × tokens for each kind, of the first prompt."""
    first = table[table["prompt"] == table["prompt"].min()].astype({"position": int})
    labels = {row.position: _label(row.token, row.place) for row in first.itertuples()}
    maps = []
    for kind, rows in first.groupby("kind", sort=False):
        quantity = Quantity(_KINDS.get(str(kind), str(kind)), f"put back into the noised run; {unit}", plain(column))
        for one in heatmaps(rows.to_dict("records"), [quantity], column="position"):
            maps.append(replace(one, modules=[labels[int(position)] for position in one.modules]))
    return maps


def _label(token: str, place: str) -> str:
    """A token short enough for a column's head; the subject's carry a star."""
    shown = token.strip() or "␣"
    shown = shown if len(shown) <= _LONGEST_TOKEN else shown[: _LONGEST_TOKEN - 1] + "…"
    return shown + "*" * place.endswith("_subject")


def _kl(table: pd.DataFrame) -> list[Heatmap]:
    return _restored(table, "kl_effect", "nats of KL to the clean prediction")


def _probability(table: pd.DataFrame) -> list[Heatmap]:
    return _restored(table, "effect", "probability")


def _by_place(table: pd.DataFrame) -> str:
    named = table.assign(name=table["place"].str.replace("_", " "))
    of = styles(named["name"])

    def draw(axes: Axes, kind: Hashable) -> None:
        named_lines(axes, named[named["kind"] == kind], "layer", "kl_effect", "name", of)
        axes.set_ylabel("KL restored, nats")
        axes.set_title(_KINDS.get(str(kind), str(kind)))
        whole_steps(axes, "layer")

    return small_multiples(list(dict.fromkeys(named["kind"])), draw, prefix="by-place", row_in=2.6)


def _traced(table: pd.DataFrame) -> TextTable | None:
    return listing(
        table,
        (
            Column("prompt", text("text")),
            Column("subject", text("subject")),
            Column("followed", lambda row: row.target.strip()),
            Column("its probability", number("clean_probability")),
            Column("under noise", number("corrupted_probability")),
            Column("KL under noise, nats", number("corrupted_kl")),
        ),
        file="traced",
    )


TRACING = (
    Plan(
        "What was traced",
        "Followed: the token whose probability is read. KL under noise: how far noise on the subject moves the whole "
        "prediction, and so the most that can be restored.",
        "traced",
        _traced,
        labels=("text", "target"),
        optional=("clean_probability", "corrupted_probability", "corrupted_kl"),
        texts=("subject",),
    ),
    Plan(
        "Causal trace: restored prediction",
        "One clean output put back into the noised run, layers down, tokens of the first prompt across, the subject's "
        "with a star; further prompts stand in trace.csv. Negative figures: the prediction moves further away.",
        "trace",
        _kl,
        labels=("kind", "token"),
        numbers=("prompt", "layer", "position", "kl_effect"),
        texts=("place",),
    ),
    Plan(
        "Causal trace by layer",
        "The same as means over prompts, by what the token is.",
        "layers",
        _by_place,
        labels=("kind", "place"),
        numbers=("layer", "kl_effect"),
    ),
    Plan(
        "Causal trace: restored probability",
        "The same in the probability of the followed token.",
        "trace",
        _probability,
        labels=("kind", "token"),
        numbers=("prompt", "layer", "position", "effect"),
        texts=("place",),
    ),
)
