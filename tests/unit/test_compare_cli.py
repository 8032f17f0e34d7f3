"""``readwrite-edit compare`` from its command line on: what it prints and writes, and every wrong input."""

import csv
import json
import os

import pytest

from readwrite_edit.cli import main
from tests.compared_runs import CHOICE, evaluations_of, write_compared, write_sweep

ARMS = {"principal": {"": (1.2, 0.008)}, "random": {"": (0.2, 0.004)}, "lora": {"": (1.0, 0.02)}}


@pytest.fixture(autouse=True)
def _narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def sweep(tmp_path):
    return write_sweep(tmp_path / "sweep", ARMS)


def run(capsys, *words):
    code = main(["compare", *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refused(capsys, *words):
    code, said, complaint = run(capsys, *words)
    assert (code, said) == (2, "") and complaint.startswith("readwrite-edit: ") and "Traceback" not in complaint
    return complaint


def test_a_sweep_is_compared_in_lines_that_fit_a_terminal(sweep, capsys):
    code, said, complaint = run(capsys, sweep, "--draws", 200)
    assert code == 0 and complaint == ""
    assert max(map(len, said.splitlines())) <= 80
    for words in (
        "margin at equal KL on 'prose'",
        "KL on 'chat' at equal margin",
        "spent less",
        "never there",
        "pass ",
    ):
        assert words in said
    assert "*: differs from lora" in said and "p =" not in said and "nan" not in said and "inf" not in said
    full = run(capsys, sweep, "--draws", 200, "--full", "--text", "chat")[1]
    assert "against lora" in full and "p = " in full
    assert "'prose'" not in full.replace("sequences of 'prose'", "") and "Holm" in full


def test_json_holds_everything_and_no_number_that_json_has_not(sweep, capsys):
    code, said, _ = run(capsys, sweep, "--draws", 100, "--json", "--gain", "loss")
    found = json.loads(said, parse_constant=lambda name: pytest.fail(name))
    assert code == 0 and found["schema"] == 1 and found["baseline"] == "lora" and found["seeds"] == [0, 1, 2]
    never = next(one for one in found["levels"]["prose"][-1] if one["arm"] == "random")
    assert never["cost"][0] is None and never["p"] is None and never["reached"] == 0


def test_the_page_and_its_data_are_written(sweep, tmp_path, capsys):
    code, said, _ = run(capsys, sweep, "--draws", 100, "--out", tmp_path / "out")
    assert code == 0 and "report.html" in said
    points = list(csv.DictReader((tmp_path / "out" / "points.csv").open()))
    assert len(points) == 3 * 3 * 3 and {"arm", "seed", "step", "gain", "kl_prose", "kl_chat"} <= set(points[0])
    matched = list(csv.DictReader((tmp_path / "out" / "matched.csv").open()))
    assert {row["kind"] for row in matched} == {"margin_at_kl", "kl_at_margin"}
    assert all(row["p_holm"] == "" for row in matched if row["arm"] == "lora")


def test_the_baseline_and_the_places_are_the_users(sweep, capsys):
    words = ("--baseline", "random", "--at-kl", "0.001", "--at-gain", "0.05", "--at-gain", "0.1", "--draws", "100")
    found = json.loads(run(capsys, sweep, *words, "--json")[1])
    assert found["baseline"] == "random"
    assert [group[0]["budget"] for group in found["budgets"]["prose"]] == [0.001]
    assert [group[0]["level"] for group in found["levels"]["prose"]] == [0.05, 0.1]


def test_without_a_name_plain_lora_is_the_baseline(tmp_path, capsys):
    paths = [write_compared(tmp_path / name, recipe={"adapter": {"basis": name}}) for name in ("random", "lora")]
    paths[1] = paths[1].rename(tmp_path / "20260101-plain")
    assert json.loads(run(capsys, *paths, "--draws", "100", "--json")[1])["baseline"] == "20260101-plain"


def test_a_choice_is_made_on_other_rows_and_named(tmp_path, capsys):
    values = {"low": (0.5, 0.01), "high": (1.0, 0.01)}
    sweep = write_sweep(tmp_path / "s", {"a": values, "lora": values}, seeds=2, choose=CHOICE)
    found = json.loads(run(capsys, sweep, "--draws", "100", "--json")[1])
    assert [arm["chosen"] for arm in found["arms"]] == ["high", "high"]
    assert all(run.endswith(("high_s0", "high_s1")) for arm in found["arms"] for run in arm["runs"])


def test_single_runs_that_differ_by_seed_alone_are_one_arm(tmp_path, capsys):
    same = {"adapter": {"basis": "principal"}}
    paths = [write_compared(tmp_path / f"p{seed}", seed=seed, recipe=same) for seed in (0, 1)]
    paths += [write_compared(tmp_path / f"q{seed}", seed=seed) for seed in (0, 1)]
    for path in paths[2:]:
        (path / "recipe.yaml").write_text((path / "recipe.yaml").read_text().replace(path.name, "other"))
    code, said, _ = run(capsys, *paths, "--draws", "100", "--json")
    arms = json.loads(said)["arms"]
    assert code == 0 and [(arm["arm"], len(arm["runs"])) for arm in arms] == [("p0", 2), ("q0", 2)]


def test_runs_of_one_name_in_different_folders_are_kept_apart(tmp_path, capsys):
    one, other = write_compared(tmp_path / "x" / "r"), write_compared(tmp_path / "y" / "r")
    (other / "recipe.yaml").write_text((other / "recipe.yaml").read_text().replace("basis: r", "basis: lora"))
    arms = json.loads(run(capsys, one, other, "--draws", "100", "--json")[1])["arms"]
    assert [arm["arm"] for arm in arms] == ["r", str(other)]


def test_two_sweeps_with_an_arm_of_one_name_are_two_arms(sweep, tmp_path, capsys):
    other = write_sweep(tmp_path / "more", {"lora": {"": (2.0, 0.02)}})
    found = json.loads(run(capsys, sweep, other, "--draws", "100", "--json")[1])
    assert sum(arm["arm"].endswith("/lora") for arm in found["arms"]) == 2 and len(found["arms"]) == 4


def test_the_same_run_twice_is_one_run(sweep, capsys):
    path = sweep / "lora_s0"
    found = json.loads(run(capsys, path, path, sweep / ".." / sweep.name / path.name, "--draws", "100", "--json")[1])
    assert found["arms"][0]["runs"] == ["lora_s0"] and found["left_out"] == []


def test_a_copy_of_a_run_is_left_out_and_said(sweep, tmp_path, capsys):
    os.rename(write_compared(tmp_path / "a_s0"), tmp_path / "copy")
    code, _, complaint = run(capsys, write_compared(tmp_path / "a_s0"), tmp_path / "copy", "--draws", "100")
    assert code == 0 and "left out: copy: it has the arm and the seed of" in complaint


def test_one_arm_alone_says_so(sweep, capsys):
    code, said, _ = run(capsys, sweep / "lora_s0", "--draws", "100")
    assert code == 0 and "One arm: there is nothing to compare it with." in said and "One seed" in said
    assert "differs from" not in said


def test_runs_that_are_not_finished_are_left_out_and_said(sweep, capsys):
    state = sweep / "lora_s2" / "state.json"
    state.write_text(state.read_text().replace("finished", "stopped"))
    code, said, complaint = run(capsys, sweep, "--draws", "100")
    assert code == 0 and "left out: lora_s2: it was stopped at step 15" in complaint
    assert "FAIL  every run: 1 run left out: lora_s2" in said
    assert "FAIL  same seeds: only seeds 0, 1 are compared" in said


def test_a_baseline_that_gained_nothing_has_no_levels_and_no_p(tmp_path, capsys):
    sweep = write_sweep(tmp_path / "s", {"a": {"": (1.0, 0.01)}, "lora": {"": (-0.5, 0.02)}}, seeds=2)
    code, said, _ = run(capsys, sweep, "--draws", "100")
    assert code == 0 and "lora gained nothing: nothing is compared at equal gain" in said
    assert "KL on 'prose' at equal margin" not in said
    named = run(capsys, sweep, "--draws", "100", "--at-gain", "0.3", "--full")[1]
    levels = named.partition("KL on 'prose' at equal margin")[2].partition("margin at")[0]
    assert "never there" in levels and "against lora" not in levels


def test_a_baseline_that_cost_nothing_has_no_budgets(tmp_path, capsys):
    sweep = write_sweep(tmp_path / "s", {"a": {"": (1.0, 0.01)}, "lora": {"": (0.5, 0.0)}}, seeds=1)
    code, said, _ = run(capsys, sweep, "--draws", "100", "--full", "--out", tmp_path / "out")
    assert code == 0 and "lora cost nothing: nothing is compared at equal KL" in said and "nan" not in said
    assert (tmp_path / "out" / "report.html").exists()


# ---- wrong input


def test_a_folder_that_is_neither_is_refused(tmp_path, capsys):
    assert "no sweep: it has no sweep.json" in refused(capsys, tmp_path)
    assert "no run" in refused(capsys, tmp_path / "missing") and "no run ''" in refused(capsys, "")


def test_a_sweep_with_nothing_finished_is_refused(tmp_path, capsys):
    sweep = write_sweep(tmp_path / "s", {"a": {"": (1.0, 0.01)}}, seeds=2)
    for seed in (0, 1):
        (sweep / f"a_s{seed}" / "state.json").unlink()
    complaint = refused(capsys, sweep)
    assert "nothing to compare: a_s0: it can not be read: " in complaint and "(and 1 more run)" in complaint


def test_a_baseline_and_a_text_that_do_not_exist_are_refused(sweep, capsys):
    assert "expected one of principal, random, lora" in refused(capsys, sweep, "--baseline", "plain")
    assert "expected one of prose, chat" in refused(capsys, sweep, "--text", "news")


def test_arms_without_a_common_seed_are_refused(tmp_path, capsys):
    sweep = write_sweep(tmp_path / "s", {"a": {"": (1.0, 0.01)}, "b": {"": (1.0, 0.01)}}, seeds=2)
    for name in ("a_s0", "b_s1"):
        (sweep / name / "state.json").unlink()
    assert "no seed that every arm has a finished run of" in refused(capsys, sweep)


def test_other_rows_are_refused(tmp_path, capsys):
    one = write_compared(tmp_path / "a")
    other = write_compared(tmp_path / "b", evaluations_of(names="x"))
    assert "a and b were evaluated with different held-out rows" in refused(capsys, one, other)
    text = write_compared(tmp_path / "c", evaluations_of(texts=("prose", "chat", "news")))
    assert "news in one of them alone" in refused(capsys, one, text)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"schema": 2}', '{"schema": 1, "runs": 5}', "\udcff"])
def test_a_damaged_record_of_a_sweep_is_refused(sweep, capsys, content):
    (sweep / "sweep.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert "sweep.json" in refused(capsys, sweep)


@pytest.mark.parametrize("name", ["../lora_s0", "/etc", "", ".", "a/b"])
def test_a_record_that_names_runs_elsewhere_is_refused(sweep, capsys, name):
    record = json.loads((sweep / "sweep.json").read_text())
    record["runs"][0]["name"] = name
    (sweep / "sweep.json").write_text(json.dumps(record))
    assert "not the record of a sweep" in refused(capsys, sweep)


def test_names_from_files_reach_the_terminal_as_text(tmp_path, capsys):
    evil = "\x1b[31mred"
    paths = [write_compared(tmp_path / f"{evil}{n}", evaluations_of(texts=(evil,))) for n in "ab"]
    said = "".join(map(str, run(capsys, *paths, "--draws", "100", "--full")))
    assert "\x1b" not in said and "\\x1b[31mred" in said
    assert "\x1b" not in refused(capsys, *paths, "--baseline", "\x1b[0m")


def test_a_folder_that_can_not_be_written_and_wrong_numbers(sweep, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert "name a folder that can be written" in refused_with_output(capsys, sweep, "--out", tmp_path / "file")
    assert "expected 100 to" in refused(capsys, sweep, "--draws", "5")
    for words in (("--at-kl", "0"), ("--at-gain", "-1"), ("--at-kl", "nan"), ("--at-kl", "abc")):
        with pytest.raises(SystemExit) as caught:
            run(capsys, sweep, *words)
        assert caught.value.code == 2 and "expected a number above 0" in capsys.readouterr().err


def refused_with_output(capsys, *words):
    code, _, complaint = run(capsys, *words)
    assert code == 2 and "Traceback" not in complaint
    return complaint
