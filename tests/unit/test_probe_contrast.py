"""The graded control: arms that differ in nothing but the loss, and trends that are there or are not."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset

from readwrite_edit.align.preferences import load_preferences
from readwrite_edit.align.tokenised import tokenise_pairs
from readwrite_edit.align.trl_names import DPOConfig, DPOTrainer
from readwrite_edit.errors import DataError, ModelError, ReadWriteEditError, RecipeError
from readwrite_edit.job.result import Result
from readwrite_edit.models.loading import load_model
from readwrite_edit.models.pathways import find_pathways, weight_of
from readwrite_edit.models.source import parse_source
from readwrite_edit.probe import probe_contrast, probe_delta
from readwrite_edit.probe.contrast.arms import Arm
from readwrite_edit.probe.contrast.tables import contrast_table, t_interval, trend, trend_table, verdict
from readwrite_edit.probe.job import resume_probe, start_probe
from readwrite_edit.probe.settings.contrast import ContrastSettings
from readwrite_edit.recipe.sections import Data
from tests.small_runs import write_model, write_rows
from tests.tiny_models import tiny_tokenizer

GRADES, SEEDS, STEPS, BATCH = (0.0, 0.5, 1.0), (0, 1), 2, 3
OPTIONS = {
    "steps": STEPS,
    "batch_size": BATCH,
    "max_length": 64,
    "eval_rows": 4,
    "k": 4,
    "tokens": 400,
    "learning_rate": 1e-3,
    "beta": 0.5,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and rows; one cache for all tests."""
    folder = tmp_path_factory.mktemp("contrast")
    write_model(folder / "model")
    write_rows(folder / "rows.jsonl", 24)
    return folder


@pytest.fixture(autouse=True)
def own_cache(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("READWRITE_EDIT_CACHE", str(place / "cache"))


@pytest.fixture(scope="module")
def result(place: Path) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("READWRITE_EDIT_CACHE", str(place / "cache"))
        return _probe(place, grades=GRADES, seeds=SEEDS)


def _probe(place: Path, **options: object) -> Result:
    named = {"data": str(place / "rows.jsonl"), **OPTIONS}
    return probe_contrast(str(place / "model"), **{**named, **options})


def _settings(place: Path, **options: object) -> ContrastSettings:
    named = {"model": str(place / "model"), "data": str(place / "rows.jsonl")}
    return ContrastSettings.checked({**named, **OPTIONS, **options})


def test_arms_of_a_seed_share_rows_and_order_and_seeds_do_not(result: Result) -> None:
    hashes = result.tables["arms"].groupby("seed")["rows_sha256"].unique()
    assert [len(found) for found in hashes] == [1, 1]
    assert hashes[0] != hashes[1]


def test_every_arm_begins_at_the_same_start(result: Result) -> None:
    """Then the first loss of a grade g is (1 − g) times that of cross-entropy, plus g log 2."""
    first = result.tables["steps"].query("step == 1").set_index(["seed", "grade"])["loss"]
    for seed in SEEDS:
        for grade in GRADES:
            expected = (1 - grade) * first[seed, 0.0] + grade * math.log(2)
            assert first[seed, grade] == pytest.approx(expected, rel=1e-5)


def test_an_arm_does_not_depend_on_those_before_it(place: Path, result: Result) -> None:
    alone = _probe(place, grades=(0.5, 1.0), seeds=(1,)).tables["geometry"]
    among = result.tables["geometry"].query("seed == 1 and grade > 0").reset_index(drop=True)
    pd.testing.assert_frame_equal(alone.reset_index(drop=True), among)


def test_grade_1_is_a_stock_dpo_training_and_grade_0_stock_cross_entropy(place: Path, tmp_path: Path) -> None:
    """Plain descent, where a rounding of the gradient stays one of the step."""
    options = {"optimizer": "sgd", "learning_rate": 0.05}
    geometry = _probe(place, grades=(0.0, 1.0), seeds=(1,), **options).tables["geometry"]
    train = load_preferences(Data(path=str(place / "rows.jsonl"), eval_rows=4)).train
    tokenised = tokenise_pairs(train, tiny_tokenizer(), max_length=64).rows
    chosen = Arm(1.0, 1).rows(list(range(len(tokenised))), STEPS * BATCH)
    assert len(tokenised) == len(train), "no row of these is dropped, so that positions agree"
    for grade, loss in ((0.0, "sft"), (1.0, "sigmoid")):
        model = _stock(place, [train[index] for index in chosen], loss, tmp_path / loss)
        start = load_model(parse_source(str(place / "model")), device="cpu")
        norms = geometry[geometry["grade"] == grade].set_index("path")["norm"]
        for projection in find_pathways(start).select(["q_proj", "k_proj", "o_proj", "down_proj"]):
            delta = weight_of(model, projection) - weight_of(start, projection)
            assert norms[projection.module] == pytest.approx(float(delta.norm()), rel=1e-3)


def _stock(place: Path, rows: list[dict], loss: str, folder: Path):
    """TRL as anybody would use it, its reference loaded from the model's folder."""
    model = load_model(parse_source(str(place / "model")), device="cpu")
    arguments = DPOConfig(
        output_dir=str(folder),
        loss_type=[loss],
        beta=0.5,
        max_steps=STEPS,
        per_device_train_batch_size=BATCH,
        learning_rate=0.05,
        lr_scheduler_type="constant",
        optim="sgd",
        max_grad_norm=0.0,
        max_length=64,
        train_sampling_strategy="sequential",
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    DPOTrainer(model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tiny_tokenizer()).train()
    return model


def test_a_kept_arm_is_a_model_whose_delta_is_that_of_the_arm(place: Path, tmp_path: Path) -> None:
    """So that ``probe delta BASE RUN/arms/grade-1-seed-0`` sees what this probe saw."""
    settings = _settings(place, grades=(0.0, 1.0), seeds=(0,), keep_arms=("1:0",))
    found = start_probe(settings, tmp_path / "run", "command").result
    assert found is not None
    kept = [path.name for path in (tmp_path / "run" / "arms").iterdir() if path.is_dir()]
    assert kept == ["grade-1-seed-0"]
    delta = probe_delta(str(place / "model"), str(tmp_path / "run" / "arms" / kept[0]), k=4, device="cpu").frame
    ours = found.tables["geometry"].query("grade == 1").set_index(["layer", "module"])
    theirs = delta.set_index(["layer", "module"]).loc[ours.index]
    for column in ("norm", "relative_norm", "write_fraction", "cosine"):
        np.testing.assert_allclose(ours[column].astype(float), theirs[column].astype(float), rtol=1e-4)


def test_tables_have_a_row_for_each_thing_they_are_about(result: Result) -> None:
    arms = len(GRADES) * len(SEEDS)
    assert len(result.tables["geometry"]) == arms * 4 * 2
    assert len(result.tables["arms"]) == arms * 4
    assert len(result.tables["steps"]) == arms * STEPS
    frame = result.frame.set_index(["grade", "side", "module", "quantity"])
    assert not frame.index.has_duplicates and set(frame["n_seeds"]) == {2}
    q = result.tables["geometry"].query("grade == 0.5 and module in ('q_proj', 'k_proj')")
    assert frame.loc[(0.5, "read", "all", "fraction"), "mean"] == pytest.approx(q["read_fraction"].mean())
    assert {"read_fraction", "read_relative_energy", "held_out_margin", "delta_norm"} <= set(result.tables["arms"])


def test_what_an_arm_learned_is_in_nats(place: Path, result: Result) -> None:
    """Cross-entropy raises the chosen answer; the preference loss the margin, more than cross-entropy does."""
    arms = _probe(place, grades=(0.0, 1.0), seeds=(0,), steps=8).tables["arms"].groupby("grade").first()
    assert arms.loc[0.0, "held_out_chosen"] > 0.5
    assert arms.loc[1.0, "held_out_margin"] > max(0.5, arms.loc[0.0, "held_out_margin"])
    assert (arms["loss_last"] < arms["loss_first"]).all()


def test_every_held_out_row_counts_alike(place: Path) -> None:
    """Seven rows in batches of 3 would be batches of 3, 3 and 1, and TRL gives each batch the same weight."""
    arms = _probe(place, grades=(0.0, 1.0), seeds=(0,), eval_rows=7).tables["arms"]
    sevenths = arms["held_out_accuracy"] * 7
    assert (sevenths - sevenths.round()).abs().max() < 1e-6


def test_a_finished_arm_is_not_trained_again_and_a_half_one_is(place: Path, tmp_path: Path, result: Result) -> None:
    run = tmp_path / "run"
    assert start_probe(_settings(place, grades=GRADES, seeds=SEEDS), run, "command").result is not None
    arms = run / "arms"
    (arms / "grade-1-seed-0.json").write_text("{", encoding="utf-8")
    (arms / "grade-0.5-seed-1.json").unlink()
    marked = json.loads((arms / "grade-0-seed-0.json").read_text())
    (arms / "grade-0-seed-0.json").write_text(json.dumps(marked | {"norm": 77.0}))
    state = json.loads((run / "state.json").read_text())
    (run / "state.json").write_text(json.dumps(state | {"status": "stopped", "step": 1}))
    again = resume_probe(run).result
    assert again is not None
    norms = again.tables["arms"].groupby(["grade", "seed"])["delta_norm"].first()
    assert norms[0.0, 0] == 77.0
    pd.testing.assert_frame_equal(again.tables["geometry"], result.tables["geometry"])
    assert len({(line["step"], line["layer"], line["module"]) for line in _geometry(run)}) == 6 * 8


def _geometry(run: Path) -> list[dict]:
    from readwrite_edit.runs.reader import geometry

    return geometry(run)


@pytest.mark.parametrize(("name", "kind"), [("weights_sha256", ModelError), ("data_sha256", DataError)])
def test_a_run_does_not_mix_arms_of_another_start(place: Path, tmp_path: Path, name: str, kind: type) -> None:
    run = tmp_path / "run"
    start_probe(_settings(place, grades=(0.0, 1.0), seeds=(0,)), run, "command")
    (run / "report.html").unlink(missing_ok=True)
    hashes = json.loads((run / "arms" / "start.json").read_text())
    (run / "arms" / "start.json").write_text(json.dumps(hashes | {name: "other"}))
    with pytest.raises(kind, match="no longer those that the probe began with"):
        resume_probe(run)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grades": (0.0, 0.0, 1.0)}, "each may be named once"),
        ({"grades": (0.0, 1.5)}, "at most 1.0"),
        ({"keep_arms": ("0.5:0",), "grades": (0.0, 1.0)}, "0.5:0 is no arm"),
        ({"keep_arms": ("one:0",)}, "keep_arms"),
        ({"seeds": ()}, "seeds"),
    ],
)
def test_impossible_settings_are_refused(place: Path, options: dict, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        _settings(place, **options)


def test_rows_that_all_drop_out_are_refused(place: Path) -> None:
    with pytest.raises(ReadWriteEditError, match="max_length") as caught:
        _probe(place, max_length=4)
    assert caught.value.exit_code == 2


def test_rows_that_drop_out_are_counted_on_both_sides(place: Path, tmp_path: Path) -> None:
    """Ten of 24 prompts fill the 64 tokens; 12 rows are held out."""
    rows = [json.loads(line) for line in (place / "rows.jsonl").read_text().splitlines()]
    for row in rows[:10]:
        row["prompt"][0]["content"] += " and on it goes" * 5
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = _probe(place, data=str(tmp_path / "rows.jsonl"), grades=(0.0, 1.0), seeds=(0,), eval_rows=12)
    counts = [re.match(r"(\d+) of 12 (training|held-out) rows are dropped", note) for note in found.notes]
    dropped = {match[2]: int(match[1]) for match in counts if match}
    assert set(dropped) == {"training", "held-out"} and sum(dropped.values()) == 10


def test_rows_are_taken_again_where_there_are_too_few(place: Path) -> None:
    found = _probe(place, grades=(0.0, 1.0), seeds=(0,), steps=9)
    assert any("27 rows are needed an arm and there are 20" in note for note in found.notes)
    assert set(found.tables["arms"]["steps"]) == {9}


def test_an_interval_is_that_of_student() -> None:
    """t of 2 degrees of freedom at 97.5 % is 4.3027; s/√3 of 1, 2, 3 is 0.57735."""
    found = t_interval([1.0, 2.0, 3.0, math.nan])
    assert found.mean == 2.0 and found.high - 2.0 == pytest.approx(4.302653 * 0.577350, rel=1e-5)
    assert math.isnan(t_interval([1.0]).low) and t_interval([1.0]).side_of_zero == 0
    assert [t_interval(values).side_of_zero for values in ([1.0, 1.1], [-1.0, -1.1], [1.0, -1.0])] == [1, -1, 0]


def _means(write: np.ndarray, read: np.ndarray) -> pd.DataFrame:
    """Seeds × grades of each side, as ``seed_means`` gives them."""
    grades = np.linspace(0, 1, write.shape[1])
    return pd.DataFrame(
        {"grade": grade, "seed": seed, "side": side, "module": "all", "quantity": "relative_isotropic", "value": value}
        for side, values in (("write", write), ("read", read))
        for seed, row in enumerate(values)
        for grade, value in zip(grades, row, strict=True)
    )


def test_a_planted_fall_is_shown_and_a_level_side_is_not() -> None:
    noise = np.random.default_rng(0).normal(0, 0.02, (2, 3, 5))
    means = _means(1.7 - 0.6 * np.linspace(0, 1, 5) + noise[0], 3 + noise[1])
    table = trend_table(means).set_index("side")
    assert table.loc["write", "slope"] == pytest.approx(-0.6, abs=0.05)
    assert table.loc["write", "spearman"] < -0.9
    assert table.loc["read", "slope_low"] < 0 < table.loc["read", "slope_high"]
    sentence = verdict(contrast_table(means), table.reset_index(), "sigmoid")
    assert sentence.startswith("From cross-entropy to sigmoid: write-side fraction falls from 1.7")
    write, read = sentence.split(";")
    assert ": shown (slope -0.6" in write and "3 seeds" in write
    assert ": not shown (slope" in read


def test_one_seed_shows_nothing() -> None:
    means = _means(np.array([[1.7, 1.4, 1.1]]), np.array([[3.0, 3.0, 3.0]]))
    sentence = verdict(contrast_table(means), trend_table(means), "ipo")
    assert "not shown (slope -0.6, 1 seed gives no interval)" in sentence and ": shown" not in sentence


def test_a_slope_is_false_no_more_often_than_its_level() -> None:
    """200 draws without a trend: 5 % of 95 % intervals miss 0, at most 19 of 200 but for 1 in 200 suites."""
    draw = np.random.default_rng(1)
    wrong = 0
    for _ in range(200):
        found = trend(pd.DataFrame(draw.normal(size=(3, 5)), columns=np.linspace(0, 1, 5)))
        wrong += not found["slope_low"] <= 0 <= found["slope_high"]
    assert wrong <= 19


def test_the_change_is_between_the_ends_and_paired_by_seed() -> None:
    values = pd.DataFrame([[1.0, 5.0, 2.0], [11.0, 0.0, 12.0]], columns=[0.0, 0.5, 1.0])
    found = trend(values)
    assert (found["change"], found["change_low"], found["change_high"]) == (1.0, 1.0, 1.0)


def test_losses_of_weight_0_are_left_out() -> None:
    assert Arm(0.0, 0).losses("ipo") == (["sft"], [1.0])
    assert Arm(1.0, 0).losses("ipo") == (["ipo"], [1.0])
    assert Arm(0.25, 3).losses("ipo") == (["sft", "ipo"], [0.75, 0.25])
    assert Arm(0.25, 3).name == "grade-0.25-seed-3"


def test_gradients_are_off_again_and_torch_is_as_it_was(place: Path) -> None:
    _probe(place, grades=(0.0, 1.0), seeds=(0,))
    assert torch.is_grad_enabled()
