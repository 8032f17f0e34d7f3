"""Metrics against their definitions, their intervals against plain resampling, and their versions."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from readwrite_edit.evaluate import metrics
from readwrite_edit.evaluate.figures import Generated
from readwrite_edit.evaluate.intervals import mean_interval, ratio_interval
from readwrite_edit.evaluate.metrics import METRICS, described, figures_of, other_versions
from readwrite_edit.evaluate.records import RowScores, TextScores

ROWS = RowScores(
    ids=("a", "b", "c", "d"),
    chosen=(-5.0, -6.0, -7.0, -8.0),
    rejected=(-6.0, -5.0, -7.0, -9.0),
    reference_chosen=(-6.0, -6.0, -8.0, -8.0),
    reference_rejected=(-6.0, -6.0, -8.0, -8.0),
)
TEXT = TextScores(
    ids=("a", "b", "c"), positions=(10, 30, 2), kl=(1.0, 0.5, 0.4), nll=(30.0, 80.0, 9.0), base_nll=(28.0, 81.0, 9.0)
)


def test_the_figures_of_rows_by_hand():
    """Margins at β = 2: 2·(1 − 0), 2·(0 − 1), 2·(1 − 1), 2·(0 + 1); the third is a tie and counts as wrong."""
    found = {name: figure.value for name, figure in figures_of("rows", ROWS, beta=2.0).items()}
    margins = [2.0, -2.0, 0.0, 2.0]
    assert found["loss"] == pytest.approx(sum(math.log(1 + math.exp(-m)) for m in margins) / 4)
    assert found["margin"] == 0.5 and found["accuracy"] == 0.5
    assert found["chosen_change"] == 0.5 and found["rejected_change"] == 0.25
    assert found["likelier"] == 0.5


def test_the_figures_of_a_text_are_ratios_of_sums():
    found = {name: figure.value for name, figure in figures_of("texts", TEXT).items()}
    assert found["kl"] == pytest.approx(1.9 / 42)
    assert found["perplexity"] == pytest.approx(math.exp(119 / 42))
    assert found["base_perplexity"] == pytest.approx(math.exp(118 / 42))
    assert found["perplexity_ratio"] == pytest.approx(math.exp(1 / 42))


def test_repetition_length_and_cut_by_hand():
    """n = 2. Of 1 2 1 2 1: 12 21 12 21, two of four stood there before; of 1 2 3: none of two; 7 has no bigram."""
    written = [Generated((1, 2, 1, 2, 1), False), Generated((1, 2, 3), True), Generated((7,), True)]
    found = {name: figure.value for name, figure in figures_of("generations", written, ngram=2).items()}
    assert found == {"length": 3.0, "cut": pytest.approx(1 / 3), "repetition": pytest.approx(2 / 6)}
    assert figures_of("generations", written, ngram=2)["repetition"].n == 2
    silent = figures_of("generations", [Generated((), True)], ngram=2)
    repetition = silent["repetition"]
    assert silent["length"].value == 0 and math.isnan(repetition.value)
    assert (repetition.not_numbers, repetition.n) == (0, 0)


def test_the_price_is_the_mean_over_matrices_and_has_no_interval():
    found = figures_of("price", [1.0, 2.0, 6.0])["price"]
    assert (found.value, found.n) == (3.0, 3) and math.isnan(found.low) and found.as_dict()["low"] is None


def test_an_interval_is_that_of_plain_resampling_of_whole_observations():
    low, high = ratio_interval(np.array(TEXT.kl), np.array(TEXT.positions, dtype=float))
    draw = random.Random(1)
    ratios = []
    for _ in range(20_000):
        drawn = [draw.randrange(3) for _ in range(3)]
        ratios.append(sum(TEXT.kl[i] for i in drawn) / sum(TEXT.positions[i] for i in drawn))
    assert [low, high] == pytest.approx(np.percentile(ratios, (2.5, 97.5)), rel=0.02)
    figure = METRICS["perplexity"].figure(TEXT)
    assert figure.low < figure.value < figure.high


def test_intervals_are_seeded_and_do_not_depend_on_the_blocks_they_are_drawn_in(monkeypatch):
    values = np.random.default_rng(0).normal(size=50)
    whole = mean_interval(values)
    assert mean_interval(values) == whole != mean_interval(values, seed=1)
    monkeypatch.setattr("readwrite_edit.evaluate.intervals._COUNTS_AT_ONCE", 350)
    assert mean_interval(values) == pytest.approx(whole)
    assert whole.low < values.mean() < whole.high


def test_a_single_observation_has_no_interval():
    assert all(map(math.isnan, ratio_interval(np.ones(1), np.ones(1))))


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_what_is_not_a_number_is_counted_and_never_averaged_away(odd):
    spoilt = TextScores(
        ids=TEXT.ids, positions=TEXT.positions, kl=(1.0, odd, 0.4), nll=TEXT.nll, base_nll=TEXT.base_nll
    )
    found = figures_of("texts", spoilt)
    assert math.isnan(found["kl"].value) and found["kl"].not_numbers == 1 and found["kl"].as_dict()["value"] is None
    assert not found["perplexity"].not_numbers and found["perplexity"].value == pytest.approx(math.exp(119 / 42))
    rows = RowScores(**{**vars(ROWS), "chosen": (odd, -6.0, -7.0, -8.0)})
    if math.isnan(odd):
        counted = {name: one.not_numbers for name, one in figures_of("rows", rows, beta=1.0).items()}
        assert counted == {
            "loss": 1,
            "accuracy": 1,
            "margin": 1,
            "chosen_change": 1,
            "rejected_change": 0,
            "likelier": 1,
        }


def test_a_perplexity_that_overflows_is_infinite():
    far = TextScores(ids=("a",), positions=(1,), kl=(0.0,), nll=(800.0,), base_nll=(1.0,))
    found = METRICS["perplexity"].figure(far)
    assert found.value == math.inf and not found.not_numbers and found.as_dict()["value"] is None


def test_without_a_base_only_what_needs_none_is_reported():
    assert set(figures_of("rows", ROWS, with_base=False, beta=1.0)) == {"likelier"}
    assert set(figures_of("texts", TEXT, with_base=False)) == {"perplexity"}


def test_a_metric_of_another_version_is_said_not_to_be_comparable():
    recorded = described()
    assert other_versions(recorded) == ()
    assert set(recorded) == set(METRICS) and all(about["definition"].endswith(".") or name == "repetition"
                                                 for name, about in recorded.items())  # fmt: skip
    recorded["kl"] = {**recorded["kl"], "version": 99}
    recorded["elegance"] = {"version": 1}
    told = other_versions(recorded)
    assert len(told) == 2 and "kl is of version 99, version 1 here: not comparable" in told
    assert "elegance is of version 1, unknown here" in told[1]


def test_every_metric_is_documented():
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs" / "evaluate.md").read_text(encoding="utf-8")
    for name, metric in metrics.METRICS.items():
        assert f"| `{name}` | {metric.version} | {metric.unit} | {metric.definition} |" in text, name
