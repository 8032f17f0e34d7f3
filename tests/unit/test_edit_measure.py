"""Measurements of an edit against plain formulas, one prompt and one token at a time."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from readwrite_edit.edit.files import attach, detach
from readwrite_edit.edit.measure import measure
from readwrite_edit.edit.measure.metrics import metrics_table
from readwrite_edit.edit.measure.prompts import prompts_table
from readwrite_edit.edit.measure.texts import measure_texts
from readwrite_edit.edit.overlaps import by_matrix
from readwrite_edit.edit.plan import Plan, Prompt
from readwrite_edit.evaluate.energy import added_energy
from readwrite_edit.evaluate.intervals import mean_interval
from readwrite_edit.evaluate.texts import text_metrics
from tests.ready_context import ready_context
from tests.small_edits import dense, random_change

TEXT = "The cat sat on the mat and looked at the rain.\n\nThen it slept until the sun came back, and nobody knew why. "


def ids(text: str) -> tuple[int, ...]:
    return tuple(ready().tokenizer(text)["input_ids"])


_READY: list = []


def ready():
    """One context for all: its recipe is replaced where a test needs another."""
    if not _READY:
        _READY.append(ready_context("llama", project={"direction": {"token": "a"}}))
    return _READY[0]


def with_measure(tmp_path, **options):
    path = tmp_path / "neutral.txt"
    path.write_text(TEXT * 3, encoding="utf-8")
    texts = options.pop("texts", [{"path": str(path), "name": "neutral"}])
    return ready_context(
        "llama",
        project={"direction": {"token": "a"}},
        measure={"texts": texts, "tokens": 150, "max_new_tokens": 3, **options},
    )


def prompts() -> tuple[Prompt, ...]:
    return (
        Prompt("prompt", 0, "the cat", ids("the cat"), ids(" sat"), ids(" ran")),
        Prompt("paraphrase", 0, "a cat it", ids("a cat it"), ids(" sat"), ids(" ran")),
        Prompt("prompt", 1, "a dog", ids("a dog"), ids("x"), ids("y")),
        Prompt("prompt", 2, "b", ids("b"), ids("no true")),
        Prompt("locality", 1, "the river", ids("the river")),
        Prompt("locality", 2, "the red house", ids("the red house"), ids("x"), ids("y")),
    )


def edit(context, bias: bool = False):
    return tuple(random_change(one, 2, bias=bias) for one in context.pathways.select(["q_proj", "down_proj"], [0, 1]))


def log_probabilities(model, prompt: Prompt, tokens: tuple[int, ...]) -> list[Tensor]:
    """Of the whole vocabulary before each token, each pass alone."""
    given, found = list(prompt.ids), []
    with torch.no_grad():
        for token in tokens:
            found.append(model(torch.tensor([given])).logits[0, -1].double().log_softmax(0))
            given.append(token)
    return found


def test_prompts_are_measured_as_one_by_one() -> None:
    context = ready()
    model = attach(context.model, edit(context, bias=True))
    try:
        table = prompts_table(model, context.tokenizer, prompts())
        for prompt, row in zip(prompts(), table.itertuples(), strict=True):
            after = log_probabilities(model, prompt, prompt.target or (0,))
            with model.disable_adapter():
                before = log_probabilities(model, prompt, prompt.target or (0,))
            kl = (before[0].exp() * (before[0] - after[0])).sum()
            assert row.kl == pytest.approx(float(kl), rel=1e-3, abs=1e-6)
            assert row.kl > 1e-4
            assert row.top_changed == (before[0].argmax() != after[0].argmax())
            for side, found in (("before", before), ("after", after)):
                check_target(prompt, row._asdict(), side, found)
                true = [float(one[token]) for one, token in zip(side_of(model, side, prompt), prompt.true, strict=True)]
                name = f"true_probability_{side}"
                expected = math.exp(sum(true)) if prompt.true else math.nan
                assert getattr(row, name) == pytest.approx(expected, rel=1e-3, nan_ok=True)
        assert list(table["target"])[:2] == [" sat", " sat"]
    finally:
        detach(model)


def side_of(model, side: str, prompt: Prompt) -> list[Tensor]:
    if side == "after":
        return log_probabilities(model, prompt, prompt.true)
    with model.disable_adapter():
        return log_probabilities(model, prompt, prompt.true)


def check_target(prompt: Prompt, row: dict, side: str, found: list[Tensor]) -> None:
    assert row[f"top_{side}"] == ready().tokenizer.decode([int(found[0].argmax())])
    if not prompt.target:
        assert math.isnan(row[f"target_probability_{side}"])
        return
    chosen = [float(one[token]) for one, token in zip(found, prompt.target, strict=True)]
    assert row[f"target_probability_{side}"] == pytest.approx(math.exp(sum(chosen)), rel=1e-3)
    assert row[f"target_log_probability_{side}"] == pytest.approx(np.mean(chosen), rel=1e-4)
    assert row[f"target_first_probability_{side}"] == pytest.approx(math.exp(chosen[0]), rel=1e-3)
    assert row[f"target_rank_{side}"] == 1 + int((found[0] > found[0][prompt.target[0]]).sum())
    assert row[f"target_top1_{side}"] == all(
        int(one.argmax()) == token for one, token in zip(found, prompt.target, strict=True)
    )


def frame(kind: str, **columns: list) -> pd.DataFrame:
    count = len(next(iter(columns.values())))
    found = {"kind": [kind] * count, "item": list(range(count)), "top_changed": [False] * count, "kl": [0.0] * count}
    for name in ("target_log_probability", "true_log_probability", "target_probability", "target_top1", "target_rank"):
        found |= {f"{name}_{side}": [math.nan] * count for side in ("before", "after")}
    return pd.DataFrame(found | columns)


def metric(table: pd.DataFrame, name: str) -> pd.Series:
    return table.set_index("metric").loc[name]


def test_metrics_are_means_over_prompts_that_define_them() -> None:
    """Success: of three prompts with a known truth two after, one before; the fourth has none."""
    table = metrics_table(
        frame(
            "prompt",
            target_log_probability_before=[-1.0, -5.0, -5.0, -1.0],
            true_log_probability_before=[-2.0, -2.0, -2.0, math.nan],
            target_log_probability_after=[-1.0, -1.0, -5.0, -1.0],
            true_log_probability_after=[-2.0, -2.0, -2.0, math.nan],
            target_top1_before=[False, False, False, False],
            target_top1_after=[True, True, False, True],
            target_rank_before=[2, 4, 10, 5],
            target_rank_after=[1, 1, 2, 1],
            kl=[0.1, 0.2, 0.3, 0.4],
        )
    )
    success = metric(table, "efficacy_success")
    assert (success["n"], success["version"], success["kind"]) == (3, 1, "prompt")
    assert (success["before"], success["after"]) == pytest.approx((1 / 3, 2 / 3))
    assert success["low"] <= 2 / 3 <= success["high"]
    assert metric(table, "efficacy_top1")["after"] == 0.75
    assert metric(table, "efficacy_reciprocal_rank")["change"] == pytest.approx((3.5 - 0.5 - 0.25 - 0.1 - 0.2) / 4)
    assert metric(table, "efficacy_kl")["after"] == pytest.approx(0.25)
    magnitude = np.mean([math.exp(-1), math.exp(-1), math.exp(-5)]) - math.exp(-2)
    assert metric(table, "efficacy_magnitude")["after"] == pytest.approx(magnitude)


def test_locality_counts_what_stays() -> None:
    table = metrics_table(
        frame(
            "locality",
            top_changed=[True, False, False, False],
            kl=[0.4, 0.0, 0.0, 0.0],
            target_log_probability_before=[-3.0, -3.0, math.nan, math.nan],
            true_log_probability_before=[-1.0, -1.0, math.nan, math.nan],
            target_log_probability_after=[-1.0, -3.0, math.nan, math.nan],
            true_log_probability_after=[-2.0, -1.0, math.nan, math.nan],
        )
    )
    assert (metric(table, "locality_unchanged_top1")["before"], metric(table, "locality_unchanged_top1")["after"]) == (
        1,
        0.75,
    )
    assert metric(table, "locality_kl")["after"] == pytest.approx(0.1)
    assert (metric(table, "locality_success")["before"], metric(table, "locality_success")["after"]) == (1, 0.5)
    assert metric(table, "locality_success")["n"] == 2
    assert "locality_top1" not in set(table["metric"])


def test_intervals_draw_facts_with_all_their_prompts() -> None:
    """100 equal prompts of each of 8 facts are 8 observations: the width is that of 8, not of 800."""
    values = np.random.default_rng(0).normal(size=8)
    alone = mean_interval(values)
    repeated = mean_interval(np.repeat(values, 100), np.repeat(np.arange(8), 100))
    assert repeated == pytest.approx(alone)
    assert alone.high - alone.low == pytest.approx(2 * 1.96 * values.std() / math.sqrt(8), rel=0.15)
    within = mean_interval(values, np.zeros(8, dtype=int))
    assert within == pytest.approx(alone)
    assert all(math.isnan(end) for end in mean_interval(values[:1]))
    assert mean_interval(np.append(values, np.nan)) == pytest.approx(alone)


def test_texts_and_damage_are_those_of_the_dense_delta(tmp_path) -> None:
    """KL and perplexity by whole passes; damage as the mean of ‖ΔW x‖² over what the base's matrices read."""
    context = with_measure(tmp_path)
    changes = edit(context)
    matrices = by_matrix(changes)
    sequences = [[5, 20, 30, 40, 50, 60], [7, 8, 9]]
    inputs: dict[str, list[Tensor]] = {}
    hooks = [
        context.model.get_submodule(p.module).register_forward_pre_hook(
            lambda _m, x, name=p.module: inputs.setdefault(name, []).append(x[0][0])
        )
        for p, _ in matrices.values()
    ]
    with torch.no_grad():
        for sequence in sequences:
            context.model(torch.tensor([sequence]))
    for hook in hooks:
        hook.remove()
    model = attach(context.model, changes)
    try:
        for first in (True, False):
            with added_energy(model, list(matrices.values()), first_position=first) as energies:
                text_metrics(model, sequences)
            for (p, _), energy in zip(matrices.values(), energies, strict=True):
                x = torch.cat([rows if first else rows[1:] for rows in inputs[p.module]]).double()
                delta = dense(changes)[p.layer, p.role]
                assert energy.tokens == len(x)
                assert energy.mean == pytest.approx(float((x @ delta.T).square().sum(dim=1).mean()), rel=1e-4)
    finally:
        detach(model)


def test_all_is_measured_and_named(tmp_path) -> None:
    context = with_measure(tmp_path)
    changes = edit(context)
    for change in changes:
        context.statistics([change.projection])
    model = attach(context.model, changes)
    try:
        found = measure(context, Plan(changes, "a test", prompts=prompts()), model)
        assert not model.training
    finally:
        detach(model)
    assert set(found.tables) == {"prompts", "metrics", "texts", "damage"}
    text = found.tables["texts"].iloc[0]
    assert (text["text"], text["tokens"], text["format"]) == ("neutral", 150, "text")
    assert text["kl"] > 0
    assert text["perplexity_before"] != text["perplexity_after"]
    damage = found.tables["damage"]
    assert len(damage) == 4
    assert (damage["ratio"] - damage["measured"] / damage["predicted"]).abs().max() < 1e-12
    assert (damage["measured"] > 0).all()
    assert found.figures["kl_neutral"] == text["kl"]
    assert found.figures["efficacy_top1"] == metric(found.tables["metrics"], "efficacy_top1")["after"]
    assert [one["prompt"] for one in found.generations] == ["the cat", "a dog", "b", "a cat it"]
    assert any(one["before"] != one["after"] for one in found.generations)
    assert any("what is true was given" in note for note in found.notes)


def test_what_is_not_measured_is_said(tmp_path) -> None:
    context = with_measure(tmp_path, texts="builtin:chat_eval", max_new_tokens=0)
    context.tokenizer.chat_template = None
    changes = edit(context)
    model = attach(context.model, changes)
    try:
        found = measure(context, Plan(changes, "a test", prompts=prompts()[:1]), model)
        bare = measure(context, Plan(changes, "a test"), model)
    finally:
        detach(model)
    told = " ".join(found.notes)
    assert "no chat template" in told
    assert "locality was not measured" in told
    assert "generalisation was not measured" in told
    assert "no neutral text was read" in told
    assert found.generations == bare.generations == ()
    assert set(found.tables) == {"prompts", "metrics"}
    assert bare.tables == {}
    assert "no prompts" in bare.notes[0]


def test_answers_go_through_the_chat_template_and_continuations_do_not(tmp_path) -> None:
    """The same words as a recipe's own prompt, in both formats, are not answered alike."""
    written = {}
    for name in ("chat", "text"):
        context = with_measure(tmp_path, generations=["the cat"], tokens=0)
        if name == "text":
            context.tokenizer.chat_template = None
        model = attach(context.model, edit(context))
        try:
            found = measure(context, Plan(edit(context), "a test", prompts=prompts()), model)
        finally:
            detach(model)
        assert [one["prompt"] for one in found.generations] == ["the cat"]
        written[name] = found.generations[0]
    assert written["chat"] != written["text"]


def test_zero_tokens_measure_no_text(tmp_path) -> None:
    context = with_measure(tmp_path, tokens=0)
    found = measure_texts(context, edit(context), None)
    assert found.tables == {}
    assert "no neutral text was read" in found.notes[0]
