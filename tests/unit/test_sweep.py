"""Sweeps: axes and names of the grid, and settings that undo one another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from readwrite_edit.errors import RecipeError
from readwrite_edit.sweep.grid import parse_arms, parse_axis, planned_runs, split_at_commas
from tests.compared_runs import CHOICE

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
    with pytest.raises(RecipeError, match=r"adapter\.rank is set twice, by --over adapter\.rank and by --arm"):
        planned_runs([parse_axis("adapter.rank=4"), parse_arms(["a:adapter.rank=8"])], [0])
    with pytest.raises(RecipeError, match="distinct values"):
        parse_arms(["a b:x.y=1", "a-b:x.y=2"])


def test_a_name_that_no_system_takes_is_refused():
    with pytest.raises(RecipeError, match="name the arms"):
        planned_runs([parse_axis(f"data.path={'x' * 130}")], [0])


def test_what_is_chosen_on_must_be_an_axis():
    with pytest.raises(RecipeError, match=r"expected adapter\.basis or train\.learning_rate"):
        planned_runs(AXES, [0], "adapter.rank")
    with pytest.raises(RecipeError, match=r"expected --over adapter\.rank=V1,V2 beside it"):
        planned_runs([], [0], "adapter.rank")


@pytest.mark.parametrize(
    ("axes", "settings", "complaint"),
    [
        (["adapter.rank=2,4"], ["adapter.rank=8"], r"adapter\.rank is set twice, by --set and by --over adapter\.rank"),
        (["train={max_steps: 2},{max_steps: 4}"], ["train.max_steps=8"], r"train\.max_steps is set twice"),
        (["train.max_steps=2,4"], ["train={max_steps: 8}"], r"train\.max_steps is set twice"),
        (['train={"seed":1},{"seed":2}'], [], r"sets train\.seed: use --seeds"),
        (["adapter.rank=2,4"], ["train.seed=5"], r"--set sets train\.seed: use --seeds"),
        (["adapter.rank=2,4", "adapter.rank=8,16"], [], "--over adapter.rank is given twice"),
        (
            [f"adapter.rank={','.join(map(str, range(1, 101)))}", f"a.b={','.join(map(str, range(51)))}"],
            [],
            "more than",
        ),
    ],
)
def test_what_would_be_undone_without_a_word_is_refused(axes, settings, complaint):
    with pytest.raises(RecipeError, match=complaint):
        planned_runs([parse_axis(axis) for axis in axes], [0], settings=settings)


def test_settings_beside_one_another_undo_nothing():
    axes = [parse_arms(["a:adapter.contrastive.form=difference", "b:"]), parse_axis("adapter.contrastive.epsilon=1,2")]
    assert len(planned_runs(axes, [0], settings=["train={max_steps: 4}", "train.eval_steps=2"])) == 4
