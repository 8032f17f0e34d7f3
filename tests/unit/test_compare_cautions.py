"""What a comparison must not pass over: damaged evaluations, changed data, few sequences, places never measured."""

import csv
import json
import re

import pytest

from readwrite_edit.cli import main
from readwrite_edit.compare.cautions import basis_of, cautions
from readwrite_edit.compare.result import compare_runs
from readwrite_edit.compare.text import at_equal_cost, at_equal_gain
from readwrite_edit.report.compare_page import render
from tests.compared_runs import CHOICE, evaluations_of, write_compared, write_sweep
from tests.report_pages import Page

ARMS = {"principal": {"": (1.2, 0.008)}, "lora": {"": (1.0, 0.02)}}
VALUES = {"low": (0.5, 0.01), "high": (1.0, 0.01)}


@pytest.fixture
def sweep(tmp_path):
    return write_sweep(tmp_path / "sweep", ARMS)


def run(capsys, *words):
    code = main(["compare", "--draws", "100", *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def page_of(*paths):
    return Page(render(compare_runs(paths, draws=100), command="c")).words


# ---- what is damaged or missing


def _null(lines):
    line = json.loads(lines[-1])
    line["texts"]["chat"]["kl"][0] = None
    return "\n".join([*lines[:-1], json.dumps(line)]) + "\n"


def _other_rows(lines):
    line = json.loads(lines[-1])
    line["rows"]["ids"].reverse()
    return "\n".join([*lines[:-1], json.dumps(line)]) + "\n"


DAMAGES = {
    "a number that is none": (_null, "the evaluation at step 15 can not be used: texts.chat.kl has 1 entry"),
    "no JSON": (
        lambda lines: "\n".join([lines[0], "garbage", lines[2]]) + "\n",
        "1 line can not be read: no valid JSON",
    ),
    "NaN": (lambda lines: re.sub(r'"kl": \[[^,]*', '"kl": [NaN', "\n".join(lines)) + "\n", "3 lines can not be read"),
    "its end is missing": (lambda lines: "\n".join(lines)[:-40], "with its step (steps that can: 5, 10)"),
    "bytes": (lambda lines: "\x00\xff" * 99, "with its step (steps that can: none)"),
    "nothing": (lambda lines: "", "it has no evaluations.jsonl with evaluations"),
    "other rows": (_other_rows, "its evaluations are not of one set of rows and texts"),
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGES.values(), ids=DAMAGES)
def test_a_run_with_a_damaged_evaluation_is_left_out_with_its_reason_and_not_counted_with_the_rest(
    sweep, capsys, damage, reason
):
    without = compare_runs([sweep / name for name in ("lora_s0", "principal_s0", "lora_s1", "principal_s1")], draws=100)
    file = sweep / "lora_s2" / "evaluations.jsonl"
    file.write_text(damage(file.read_text().splitlines()), encoding="latin-1")
    code, said, complaint = run(capsys, sweep)
    assert code == 0 and "left out: lora_s2: it" in complaint and reason in complaint
    assert "FAIL  every run: 1 run left out: lora_s2" in said and "FAIL  same seeds" in said
    found = compare_runs([sweep], draws=100)
    assert [one.gain.value for one in found.budgets["chat"][0]] == [
        pytest.approx(next(other.gain.value for other in without.budgets["chat"][0] if other.arm == f"{one.arm}_s0"))
        for one in found.budgets["chat"][0]
    ]
    assert "Not fair: every run." in page_of(sweep)


def test_a_file_that_can_not_be_opened_is_said(sweep, capsys):
    file = sweep / "lora_s2" / "evaluations.jsonl"
    file.unlink()
    file.mkdir()
    assert "lora_s2: its evaluations.jsonl is damaged: it can not be read: it is a folder" in run(capsys, sweep)[2]


@pytest.mark.parametrize(("status", "words"), [("failed", "it failed"), ("queued", "not started yet")])
def test_a_run_that_has_no_end_is_described_in_english(sweep, capsys, status, words):
    state = sweep / "lora_s2" / "state.json"
    state.write_text(state.read_text().replace("finished", status))
    assert f"left out: lora_s2: {words}\n" in run(capsys, sweep)[2]


def test_a_choice_among_fewer_values_than_were_planned_is_not_apart(tmp_path, capsys):
    sweep = write_sweep(tmp_path / "s", {"a": VALUES, "lora": VALUES}, seeds=2, choose=CHOICE)
    assert "pass  chosen apart" in run(capsys, sweep)[1]
    (sweep / "a_high_s0" / "evaluations.jsonl").unlink()
    said = " ".join(run(capsys, sweep)[1].split())
    assert "FAIL chosen apart" in said and "(a: low of 1, planned 2, lora: high of 2)" in said
    (sweep / "a_low_s0" / "evaluations.jsonl").unlink()
    assert "a_low_s1: its arm has no run of seed 0 to choose a value by" in run(capsys, sweep)[2]


def test_a_value_that_is_missing_counts_for_its_own_sweep_where_two_have_an_arm_of_one_name(tmp_path):
    one, two = (write_sweep(tmp_path / name, {"a": VALUES}, seeds=1, choose=CHOICE) for name in ("one", "two"))
    (two / "a_high_s0" / "evaluations.jsonl").unlink()
    detail = next(check.detail for check in compare_runs([one, two], draws=100).checks if check.name == "chosen apart")
    assert f"{one}/a: high of 2, {two}/a: low of 1, planned 2" in detail


# ---- the data


def test_rows_that_were_changed_in_their_place_are_not_the_same_data(tmp_path, capsys):
    one = write_compared(tmp_path / "a_s0")
    other = write_compared(
        tmp_path / "b_s0", recipe={"provenance": {"data_sha256": "2" * 64}, "adapter": {"basis": "a"}}
    )
    code, said, _ = run(capsys, one, other)
    assert code == 0 and "FAIL  same rows in training: the runs read other rows from the same place" in said
    assert "a_s0" in said and "b_s0" in said, "recipes alike, but two arms"
    assert "Not fair: same rows in training." in page_of(one, other)


# ---- how much the figures rest on


def test_the_terminal_and_the_page_say_what_the_figures_rest_on_and_where_that_is_little(sweep, capsys):
    said, shown = " ".join(run(capsys, sweep)[1].split()), page_of(sweep)
    for words in (
        "figures rest on 3 seeds, 8 held-out rows, 4 sequences of 'prose', 4 sequences of 'chat'",
        "3 seeds: intervals from so few are too narrow",
        "8 held-out rows, 4 sequences of 'prose', 4 sequences of 'chat': fewer than 10.",
    ):
        assert words in said and words in shown, words


def test_enough_rows_sequences_and_seeds_need_no_caution(tmp_path):
    made = [
        write_compared(
            tmp_path / f"{arm}_s{seed}", evaluations_of(rows=60, sequences=15, steps=range(1, 16)), seed=seed
        )
        for arm in "ab"
        for seed in range(5)
    ]
    found = compare_runs(made, draws=100, budgets=[0.005], levels=[0.5])
    assert basis_of(found) == "5 seeds, 40 held-out rows, 10 sequences of 'prose', 10 sequences of 'chat'"
    assert list(cautions(found)) == []


def test_a_path_of_one_evaluation_is_said(tmp_path):
    made = [write_compared(tmp_path / "a", evaluations_of(steps=(15,))), write_compared(tmp_path / "b")]
    assert any("One evaluation in a run of a: its path is one point" in one for one in cautions(compare_runs(made)))
    assert not any("One evaluation" in one for one in cautions(compare_runs(made[1:])))


def test_places_before_the_first_evaluation_are_marked_in_tables_and_data(sweep, tmp_path, capsys):
    places = {"budgets": [1e-9, 0.005], "levels": [1e-9, 0.6]}
    found = compare_runs([sweep], draws=100, **places)
    for table in (at_equal_cost, at_equal_gain):
        for row in table(found, "chat", full=True)[1:]:
            assert row[1].startswith("~") and not row[2].startswith("~"), row
    assert any(one.startswith("~: before") for one in cautions(found))
    assert not any("~" in one for one in cautions(compare_runs([sweep], budgets=[0.005], levels=[0.6], draws=100)))
    out = tmp_path / "out"
    run(capsys, sweep, "--at-kl", "1e-9", "--at-kl", "0.005", "--at-gain", "0.6", "--out", out)
    lines = list(csv.DictReader((out / "matched.csv").open()))
    assert {(line["at"], line["assumed"]) for line in lines} == {("1e-09", "1"), ("0.005", "0"), ("0.6", "0")}


def test_a_difference_from_a_baseline_that_was_not_measured_there_is_marked(sweep):
    """lora's first evaluation costs 0.0022 on average, principal's 0.0009."""
    rows = at_equal_cost(compare_runs([sweep], draws=100, budgets=[0.0015]), "chat", full=True)[1:]
    assert [row[1].startswith("~") for row in rows] == [False, True, True]


# ---- where it reads and writes


def test_nothing_is_written_into_a_run_nor_in_place_of_a_stranger(sweep, tmp_path, capsys):
    report = sweep / "lora_s0" / "report.html"
    report.write_text("of the run")
    for folder in (report.parent, report.parent / "deeper"):
        assert "is the folder of a run" in run(capsys, sweep, "--out", folder)[2]
    assert report.read_text() == "of the run" and not (report.parent / "points.csv").exists()
    assert "expected a folder" in run(capsys, sweep, "--out", "")[2]
    for name in ("report.html", "points.csv", "matched.csv"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text("mine")
        code, _, complaint = run(capsys, sweep, "--out", tmp_path / name)
        assert code == 2 and f"{name} is there, and of no comparison" in complaint
        assert [path.name for path in (tmp_path / name).iterdir()] == [name]


def test_an_earlier_comparison_is_made_again(sweep, tmp_path, capsys):
    assert run(capsys, sweep, "--out", tmp_path / "out")[0] == 0
    pages = [(tmp_path / "out" / "report.html").read_text()]
    assert run(capsys, sweep, "--out", tmp_path / "out", "--gain", "loss")[0] == 0
    assert (tmp_path / "out" / "report.html").read_text() not in pages


def test_runs_and_sweeps_are_found_by_name_and_the_last_one_too(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_sweep(tmp_path / "runs" / "sweep-r", ARMS)
    write_compared(tmp_path / "runs" / "2026-r")
    assert "2026-r" in run(capsys, "last")[1] and "2026-r" in run(capsys, "2026")[1]
    code, said, _ = run(capsys, "sweep-r", "--out", "out")
    assert code == 0 and "principal" in said
    assert "readwrite-edit compare runs/sweep-r " in (tmp_path / "out" / "report.html").read_text()
    monkeypatch.chdir("/")
    assert run(capsys, "last", "--root", tmp_path / "runs")[0] == 0
    assert "did you mean 'sweep-r'?" in run(capsys, "sweep-q", "--root", tmp_path / "runs")[2]


def test_escape_sequences_of_names_do_not_reach_the_csv_files(tmp_path, capsys):
    made = [write_compared(tmp_path / f"\x1b[31m{n}", evaluations_of(texts=("\x1b]0;x",))) for n in "ab"]
    assert run(capsys, *made, "--out", tmp_path / "out")[0] == 0
    for name in ("points.csv", "matched.csv"):
        text = (tmp_path / "out" / name).read_text()
        assert "\x1b" not in text and "\\x1b[31ma" in text
