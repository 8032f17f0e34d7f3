"""Sweeps: axes and names of the grid, the record of what was planned, and the command's refusals."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from readwrite_edit.cli import main
from readwrite_edit.errors import RecipeError
from readwrite_edit.recipe import dump_recipe
from readwrite_edit.runs.folder import FolderError
from readwrite_edit.sweep.carrying import checked, opened, plan
from readwrite_edit.sweep.grid import parse_arms, parse_axis, planned_runs, split_at_commas
from readwrite_edit.sweep.progress import seconds_left, standing
from readwrite_edit.sweep.record import SweepRecord, read_record, record_path, write_record
from tests.compared_runs import CHOICE, TOOK_S, write_sweep
from tests.fake_sweeps import fake_recipe

AXES = [parse_axis("adapter.basis=principal,lora"), parse_axis(f"{CHOICE}=1e-3,3e-3")]


def names(runs):
    return [run.name for run in runs]


# ---- the grid


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a,b", ["a", "b"]),
        ("[q_proj,k_proj],[v_proj]", ["[q_proj,k_proj]", "[v_proj]"]),
        ("{a: 1, b: [2,3]},x", ["{a: 1, b: [2,3]}", "x"]),
        ("'a,b',\"c,d\"", ["'a,b'", '"c,d"']),
        ("'],',x", ["'],'", "x"]),
        ("", [""]),
    ],
)
def test_commas_in_brackets_and_quotes_divide_nothing(text, parts):
    assert split_at_commas(text) == parts


@given(st.lists(st.text("abc1.[]{}", min_size=1, max_size=6), min_size=1, max_size=4))
def test_dividing_loses_nothing(parts):
    assert ",".join(split_at_commas(",".join(parts))) == ",".join(parts)


def test_the_settings_of_a_run_are_those_of_its_axes_and_every_seed():
    run = planned_runs([parse_axis("adapter.rank=4,16")], [2])[1]
    assert run.settings == ("adapter.rank=16", "train.seed=2", "adapter.seed=2")
    assert (run.name, run.arm, run.chosen, run.seed) == ("rank16_s2", "rank16", "", 2)


def test_the_first_seed_of_everything_comes_first_and_what_is_chosen_on_is_no_part_of_an_arm():
    runs = planned_runs(AXES, range(2), CHOICE)
    assert names(runs)[:2] == ["principal_learning_rate1e-3_s0", "principal_learning_rate3e-3_s0"]
    assert [run.seed for run in runs] == [0] * 4 + [1] * 4 and {run.arm for run in runs} == {"principal", "lora"}


def test_a_list_as_a_value_names_a_folder_that_every_system_takes():
    (run,) = planned_runs([parse_axis("adapter.modules=[q_proj, k_proj]")], [0])
    assert run.name == "modulesq-proj-k-proj_s0" and run.settings[0] == "adapter.modules=[q_proj, k_proj]"


def test_arms_are_named_by_the_user():
    axis = parse_arms(["wide:adapter.basis=contrastive,adapter.contrastive.epsilon=0.1", "plain:"])
    runs = planned_runs([axis], [0])
    assert names(runs) == ["wide_s0", "plain_s0"] and runs[0].settings[:2] == axis.choices[0].settings
    assert runs[1].settings == ("train.seed=0", "adapter.seed=0")


@pytest.mark.parametrize(
    "text", ["adapter.rank", "=4", "adapter.rank=", "adapter.rank=4,,8", "adapter.rank=4,4", "a b=1", "train.seed=1,2"]
)
def test_a_wrong_axis_is_refused_with_its_form(text):
    with pytest.raises(RecipeError):
        parse_axis(text)


@pytest.mark.parametrize("text", ["adapter.rank=4", ":adapter.rank=4", "x:rank", "x:a=1,b", "///:a=1"])
def test_a_wrong_arm_is_refused_with_its_form(text):
    with pytest.raises(RecipeError, match="expected NAME:KEY=VALUE"):
        parse_arms([text])


def test_two_axes_of_one_key_and_two_values_of_one_name_are_refused():
    with pytest.raises(RecipeError, match=r"adapter\.rank is set by two axes"):
        planned_runs([parse_axis("adapter.rank=4"), parse_arms(["a:adapter.rank=8"])], [0])
    with pytest.raises(RecipeError, match="distinct values"):
        parse_arms(["a b:x.y=1", "a-b:x.y=2"])


def test_a_name_that_no_system_takes_is_refused():
    with pytest.raises(RecipeError, match="name the arms"):
        planned_runs([parse_axis(f"data.path={'x' * 130}")], [0])


def test_what_is_chosen_on_must_be_an_axis():
    with pytest.raises(RecipeError, match=r"expected one of adapter\.basis"):
        planned_runs(AXES, [0], "adapter.rank")


# ---- the plan


def test_only_chosen_values_get_further_seeds():
    record = SweepRecord(recipe="r", choose=CHOICE)
    assert len(plan(record, AXES, 3, {})) == 4
    runs = plan(record, AXES, 3, {"lora": "learning_rate3e-3"})
    assert names(runs)[4:] == ["lora_learning_rate3e-3_s1", "lora_learning_rate3e-3_s2"]
    assert len(plan(replace(record, choose=None), AXES, 3, {})) == 12


def test_every_recipe_is_checked_before_any_run(tmp_path):
    record = SweepRecord(recipe=str(fake_recipe(tmp_path)))
    checked(record, planned_runs([parse_axis("adapter.rank=4,8")], [0]), tmp_path)
    with pytest.raises(RecipeError, match="rank"):
        checked(record, planned_runs([parse_axis("adapter.rank=4,eight")], [0]), tmp_path)


def test_a_folder_with_a_run_of_another_recipe_is_refused(tmp_path):
    record = SweepRecord(recipe=str(fake_recipe(tmp_path)))
    runs = planned_runs([parse_axis("adapter.rank=4")], [0])
    recipes = checked(record, runs, tmp_path / "s")
    (tmp_path / "s" / runs[0].name).mkdir(parents=True)
    kept = tmp_path / "s" / runs[0].name / "recipe.yaml"
    kept.write_text(dump_recipe(recipes[runs[0].name]))
    checked(record, runs, tmp_path / "s")
    kept.write_text(kept.read_text().replace("rank: 4", "rank: 8"))
    with pytest.raises(RecipeError, match="made by another recipe"):
        checked(record, runs, tmp_path / "s")


# ---- the record


def test_a_record_is_read_as_it_was_written_and_grows(tmp_path):
    runs = planned_runs(AXES, [0], CHOICE)
    record = SweepRecord(recipe="r.yaml", settings=("train.max_steps=4",), choose=CHOICE).with_runs(runs)
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record and read_record(tmp_path / "none") is None
    later = opened(tmp_path, SweepRecord(recipe="r.yaml", settings=("train.max_steps=4",), choose=CHOICE))
    assert len(later.with_runs(planned_runs(AXES, [0, 1], CHOICE)).runs) == 8


@pytest.mark.parametrize("other", [{"recipe": "x.yaml"}, {"settings": ("a=1",)}, {"choose": None}])
def test_a_folder_of_another_sweep_is_refused(tmp_path, other):
    record = SweepRecord(recipe="r.yaml", choose=CHOICE)
    write_record(tmp_path, record)
    with pytest.raises(RecipeError, match="name another folder"):
        opened(tmp_path, replace(record, **other))


def test_a_damaged_record_is_refused_and_kept(tmp_path):
    record_path(tmp_path).write_text('{"schema": 1, "recipe": "r", "settings": [], "choose": null, "runs": [{}]}')
    with pytest.raises(FolderError, match="not the record of a sweep"):
        read_record(tmp_path)
    assert record_path(tmp_path).exists()


# ---- time


def test_the_time_left_is_known_once_a_run_is_finished(tmp_path):
    folder = write_sweep(tmp_path / "s", {"a": {"": (1.0, 0.01)}, "b": {"": (1.0, 0.01)}}, seeds=2)
    runs = list(read_record(folder).runs.values())
    assert seconds_left(folder, standing(folder, runs)) == 0
    for name in ("a_s1", "b_s0", "b_s1"):
        (folder / name / "state.json").unlink()
    assert seconds_left(folder, standing(folder, runs)) == pytest.approx(3 * TOOK_S)
    assert seconds_left(folder, standing(folder, runs), jobs=3) == pytest.approx(TOOK_S)
    assert seconds_left(folder, standing(folder, runs[1:])) is None


# ---- the command


def sweep(capsys, *words):
    code = main(["sweep", *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_dry_run_prints_the_grid_and_writes_nothing(tmp_path, capsys):
    recipe, folder = fake_recipe(tmp_path), tmp_path / "s"
    words = ("--recipe", recipe, "--dir", folder, "--over", "adapter.basis=principal,lora", "--seeds", 2, "--dry-run")
    code, said, _ = sweep(capsys, *words)
    assert code == 0 and "lora_s1" in said and "0 of 4 finished" in said and "known once a first run" in said
    told = json.loads(sweep(capsys, *words, "--json")[1])
    assert len(told["runs"]) == 4 and told["seconds_left"] is None and not folder.exists()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--jobs", "2"), "one run on each GPU"),
        (("--jobs", "0"), "at least 1"),
        (("--seeds", "0"), "expected 1 to"),
        (("--json",), "--dry-run"),
        (("--over", "adapter.basis=nonsense"), "nonsense"),
        (("--over", "no.such.key=1"), "no.such"),
        (("--choose", "train.learning_rate"), "no axis of the sweep"),
        (("--set", "train.max_steps=many"), "max_steps"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_written(tmp_path, capsys, monkeypatch, words, complaint):
    monkeypatch.setattr("readwrite_edit.queue.device.why_absent", lambda device: f"there is no {device}")
    code, _, err = sweep(capsys, "--recipe", fake_recipe(tmp_path), "--dir", tmp_path / "s", *words)
    assert code == 2 and complaint in err and "Traceback" not in err and not (tmp_path / "s").exists()


def test_a_folder_that_can_not_be_written_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    code, _, err = sweep(capsys, "--recipe", fake_recipe(tmp_path), "--dir", tmp_path / "file")
    assert code == 2 and "Traceback" not in err and str(tmp_path / "file") in err
