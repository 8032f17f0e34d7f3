"""Evaluations of a small run: while it trains, and by the command afterwards."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import Mock

import pytest

from readwrite_edit.align.job import resume_run, start_run
from readwrite_edit.cli import main
from readwrite_edit.cli.evaluate_table import print_result
from readwrite_edit.evaluate.metrics import figures_of
from readwrite_edit.evaluate.records import find_evaluations, row_id
from readwrite_edit.evaluate.result import read_result
from readwrite_edit.runs import records
from tests.slow_evaluation import answer, stock_models
from tests.small_runs import as_recipe, small_recipe, write_model, write_rows

TRAIN = {"max_steps": 4, "eval_strategy": "steps", "eval_steps": 2, "save_steps": 2, "learning_rate": 0.05}
TRAIN |= {"per_device_eval_batch_size": 3}  # four rows are held out: a batch of three, and one of one


def train(place: Path, name: str, **sections: dict) -> Path:
    recipe = small_recipe(place, **{"train": TRAIN, **sections})
    assert start_run(as_recipe(recipe), "small", place / name).status == "finished"
    return place / name


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return Path(tmp_path_factory.mktemp("evaluations"))


@pytest.fixture(scope="module", autouse=True)
def _own_cache(place):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("READWRITE_EDIT_CACHE", str(place / "cache"))
        yield


@pytest.fixture(scope="module")
def run(place) -> Path:
    """A finished run; tests only add files under its ``evaluations``."""
    return train(place, "run")


def lines_of_metrics(run: Path, step: int) -> dict[str, float]:
    found: dict[str, float] = {}
    for line in records.metrics(run):
        if line["kind"] == "eval" and line["step"] == step:
            found |= line["values"]
    return found


@pytest.mark.parametrize("ld_alpha", [None, 0.25])
def test_the_metrics_are_means_over_what_is_recorded_of_each_row(place, run, ld_alpha):
    folder = run if ld_alpha is None else train(place, "ld", objective={"ld_alpha": ld_alpha})
    found = find_evaluations(folder).evaluations
    assert [one.step for one in found] == [2, 4] and found[0].beta == 0.5
    for one in found:
        assert one.rows is not None and len(one.rows.ids) == 4 and one.price["protected"] > 0
        trl = lines_of_metrics(folder, one.step)
        figures = figures_of("rows", one.rows, beta=one.beta)
        assert sum(one.rows.chosen) / 4 == pytest.approx(trl["eval_logps/chosen"], rel=1e-5)
        assert sum(one.rows.rejected) / 4 == pytest.approx(trl["eval_logps/rejected"], rel=1e-5)
        for side in ("chosen", "rejected"):
            change = sum(getattr(one.rows, side)) - sum(getattr(one.rows, f"reference_{side}"))
            assert trl[f"eval_rewards/{side}"] == pytest.approx(0.5 * change / 4, rel=1e-4, abs=1e-4)
        assert figures["margin"].value == pytest.approx(trl["eval_rewards/margins"], rel=1e-4, abs=1e-5)
        assert figures["accuracy"].value == trl["eval_rewards/accuracies"]
        assert figures["loss"].value == pytest.approx(trl["eval_loss"], rel=1e-4)
        for name, text in one.texts.items():
            assert figures_of("texts", text)["kl"].value == pytest.approx(trl[f"kl_{name}"], rel=1e-5)


def test_rows_with_ld_alpha_are_the_weighted_sums_of_the_slow_loop(place, run):
    folder = place / "ld"
    if not folder.is_dir():
        train(place, "ld", objective={"ld_alpha": 0.25})
    from readwrite_edit.align.prepare import prepare
    from readwrite_edit.recipe import load_recipe

    rows = prepare(load_recipe(str(folder / "recipe.yaml"))).held_out.rows
    tuned, base = stock_models(place / "model-llama", folder / "adapter")
    scores = find_evaluations(folder).evaluations[-1].rows
    assert scores is not None
    for row in rows:
        index = scores.ids.index(row_id(row))
        shared = min(min(len(row["prompt_ids"]) + len(row[f"{side}_ids"]), 64) - len(row["prompt_ids"])
                     for side in ("chosen", "rejected"))  # fmt: skip
        for side in ("chosen", "rejected"):
            told = answer(tuned, row["prompt_ids"], row[f"{side}_ids"], 64, weight=0.25, shared=shared)
            assert getattr(scores, side)[index] == pytest.approx(told, rel=1e-4)
            told = answer(base, row["prompt_ids"], row[f"{side}_ids"], 64, weight=0.25, shared=shared)
            assert getattr(scores, f"reference_{side}")[index] == pytest.approx(told, rel=1e-4)


def test_a_resumed_run_has_each_evaluation_once_and_the_same(place, run, monkeypatch):
    from readwrite_edit.align import recorder

    original = recorder.RunRecorder.on_step_end

    def killed(self, args, state, control, **more):
        result = original(self, args, state, control, **more)
        if state.global_step == 3:
            raise RuntimeError("the machine is gone")
        return result

    monkeypatch.setattr(recorder.RunRecorder, "on_step_end", killed)
    recipe = small_recipe(place, train=TRAIN)
    with pytest.raises(RuntimeError):
        start_run(as_recipe(recipe), "small", place / "torn")
    assert [one.step for one in find_evaluations(place / "torn").evaluations] == [2]
    monkeypatch.setattr(recorder.RunRecorder, "on_step_end", original)
    assert resume_run(place / "torn").status == "finished"
    assert find_evaluations(place / "torn").evaluations == find_evaluations(run).evaluations


@pytest.fixture(scope="module")
def evaluated(place, run) -> dict:
    """The result of the command on the run, as it is filed."""
    assert main(["evaluate", str(run), "--max-new-tokens", "3"]) == 0
    (path,) = (run / "evaluations").iterdir()
    assert read_result(path).evaluation is not None
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_command_says_of_a_run_what_its_own_summary_says(run, evaluated):
    after = json.loads((run / "summary.json").read_text())["after"]
    rows = evaluated["figures"]["rows"]
    assert rows["loss"]["value"] == pytest.approx(after["eval_loss"], rel=1e-4)
    assert rows["margin"]["value"] == pytest.approx(after["eval_rewards/margins"], rel=1e-4)
    assert rows["accuracy"]["value"] == after["eval_rewards/accuracies"]
    texts = {name[3:] for name in after if name.startswith("kl_")}
    assert set(evaluated["texts"]) == texts
    for name in texts:
        figures = evaluated["figures"][f"text {name}"]
        assert figures["kl"]["value"] == pytest.approx(after[f"kl_{name}"], rel=1e-4)
        assert figures["perplexity"]["value"] == pytest.approx(after[f"perplexity_{name}"], rel=1e-5)
        assert figures["price"]["value"] > 0 and figures["kl"]["low"] <= figures["kl"]["value"] <= figures["kl"]["high"]


def test_the_result_holds_the_rows_and_the_definitions(run, evaluated):
    last = find_evaluations(run).evaluations[-1]
    found = evaluated["evaluation"]
    chosen = dict(zip(found["rows"]["ids"], found["rows"]["chosen"], strict=True))
    assert chosen == pytest.approx(dict(zip(last.rows.ids, last.rows.chosen, strict=True)), rel=1e-5)
    ids = {name: text.ids for name, text in last.texts.items()}
    assert {name: tuple(text["ids"]) for name, text in found["texts"].items()} == ids
    assert evaluated["metrics"]["kl"]["version"] == 1 and evaluated["metrics"]["kl"]["definition"]
    assert [sorted(one) for one in evaluated["generations"]] == [
        ["after", "before", "ended_after", "ended_before", "prompt", "tokens_after", "tokens_before"]
    ]
    assert evaluated["shared_with_training"].keys() == {"rows", *evaluated["texts"]}


def test_an_adapter_folder_and_the_same_data_give_the_same_figures(place, run, evaluated, capsys):
    rows = place / "held_out.jsonl"
    write_rows(rows)
    options = ["--data", str(rows), "--max-length", "64", "--beta", "0.5", "--max-new-tokens", "0", "--json"]
    assert main(["evaluate", str(run / "adapter"), *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"]["count"] == 24 and not (run / "adapter" / "evaluations").exists()
    assert found["texts"].keys() == {"prose", "chat"} and "answers" not in found["figures"]
    whole = dict(zip(found["evaluation"]["rows"]["ids"], found["evaluation"]["rows"]["chosen"], strict=True))
    part = evaluated["evaluation"]["rows"]
    assert [whole[name] for name in part["ids"]] == pytest.approx(part["chosen"], rel=1e-5)


def test_where_one_format_is_named_the_other_is_added_and_said_so(place, run, capsys):
    text, chat = place / "own.txt", place / "talk.jsonl"
    text.write_text("the cat sat on a mat and the dog ran to the red house by the river\n\n" * 9, encoding="utf-8")
    write_rows(chat)
    options = ["--tokens", "60", "--max-new-tokens", "0", "--out"]
    assert main(["evaluate", str(run), "--protect", f"mine={text}", *options, str(place / "a.json")]) == 0
    said = capsys.readouterr()
    found = read_result(place / "a.json").content["texts"]
    assert {name: about["format"] for name, about in found.items()} == {"mine": "text", "chat": "chat"}
    assert "builtin:chat_eval is added" in said.err and found["chat"]["added"] and not found["mine"]["added"]
    assert "mine  text" in said.out and all(about["tokens"] <= 60 for about in found.values())
    assert main(["evaluate", str(run), "--protect", str(chat), *options, str(place / "b.json")]) == 0
    found = read_result(place / "b.json").content
    assert {name: about["format"] for name, about in found["texts"].items()} == {"talk": "chat", "prose": "text"}
    # the chats are the rows that were trained on
    assert found["shared_with_training"]["talk"] > 0.5 and "'talk' are in what the run" in capsys.readouterr().err


def test_a_whole_model_is_compared_with_a_base_or_with_nothing(place, run, capsys):
    other = write_model(place / "other", "qwen2")
    assert main(["evaluate", str(other), "--tokens", "60", "--max-new-tokens", "2", "--json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert set(found["figures"]["text prose"]) == {"perplexity"} and "base_answers" not in found["figures"]
    print_result(found)
    shown = capsys.readouterr().out
    assert "\ntexts\n" in shown and "metric      model  95 %    unit" in shown and "price" not in shown
    assert "no base was named" in said.err and found["evaluation"]["texts"]["prose"]["kl"][0] is None
    base = ["--base", str(place / "model-llama"), "--data", str(place / "rows.jsonl")]
    assert main(["evaluate", str(other), *base, "--tokens", "60", "--max-new-tokens", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["figures"]
    assert found["text prose"]["kl"]["value"] > 0.01 and "price" not in found["text prose"]
    assert found["rows"]["loss"]["value"] > 0 and found["base_answers"]["length"]["value"] == 2


def test_outputs_that_are_no_numbers_are_said_and_give_no_figure(place, run, capsys, monkeypatch):
    from readwrite_edit.evaluate import measuring

    original = measuring.predictor

    def spoilt(model):
        whole = original(model)
        return type(whole)(whole.hidden, lambda states: whole.logits(states) * math.nan, whole.device)

    monkeypatch.setattr(measuring, "predictor", spoilt)
    assert main(["evaluate", str(run), "--max-new-tokens", "0", "--out", str(place / "nan.json")]) == 3
    said = capsys.readouterr()
    assert "NaN (4 of 4)" in said.out and "the outputs are NaN or infinite in 4 of 4 rows of 'rows'" in said.err
    found = read_result(place / "nan.json")
    assert found.evaluation is None and found.content["figures"]["rows"]["loss"]["value"] is None


def test_an_interruption_ends_with_130_and_leaves_no_file(place, run, monkeypatch, capsys):
    from readwrite_edit.evaluate import job

    monkeypatch.setattr(job, "measure", Mock(side_effect=KeyboardInterrupt))
    assert main(["evaluate", str(run), "--out", str(place / "never.json")]) == 130
    assert not (place / "never.json").exists() and "interrupted" in capsys.readouterr().err


def harness(monkeypatch, *, load=lambda names: None, evaluate=None) -> list[dict]:
    """A stand-in for lm-evaluation-harness; returns the arguments that it was called with."""
    calls: list[dict] = []

    def simple_evaluate(**given):
        calls.append(given)
        if evaluate is not None:
            return evaluate(given)
        return {"results": {"tiny": {"alias": "tiny", "acc,none": 0.75, "acc_stderr,none": 0.1}}, "odd": object()}

    class Manager:
        def __init__(self, include_path=None):
            self.load = load

        def match_tasks(self, names):
            return [name for name in names if name == "tiny"]

    package, tasks = ModuleType("lm_eval"), ModuleType("lm_eval.tasks")
    package.simple_evaluate, package.__spec__ = simple_evaluate, SimpleNamespace(name="lm_eval")
    tasks.TaskManager = Manager
    monkeypatch.setitem(sys.modules, "lm_eval", package)
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", tasks)
    return calls


def test_the_harness_gets_base_and_adapter_and_its_results_are_filed(place, run, monkeypatch, capsys):
    calls = harness(monkeypatch)
    out = place / "lm.json"
    options = ["--tokens", "40", "--max-new-tokens", "0", "--out", str(out)]
    assert main(["evaluate", str(run), "--lm-eval", "tiny", "--lm-eval-limit", "5", *options]) == 0
    (call,) = calls
    assert call["model"] == "hf" and call["tasks"] == ["tiny"] and call["limit"] == 5
    assert call["model_args"] == {
        "pretrained": str(place / "model-llama"), "peft": str(run / "adapter"), "dtype": "float32"
    }  # fmt: skip
    filed = read_result(out).content["lm_eval"]
    assert filed["results"]["tiny"]["acc,none"] == 0.75 and "odd" not in filed
    assert "acc,none  0.75" in capsys.readouterr().out


def test_a_harness_that_can_not_load_its_data_is_told_before_anything_is_loaded(place, run, monkeypatch, capsys):
    def offline(names):
        raise ConnectionError("Couldn't reach 'tiny' on the Hub (offline)\nlong traceback")

    harness(monkeypatch, load=offline)
    out = place / "offline.json"
    assert main(["evaluate", str(run), "--lm-eval", "tiny", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "Couldn't reach 'tiny' on the Hub" in said and "connect" in said and not out.exists()
    assert main(["evaluate", str(run), "--lm-eval", "tyni", "--out", str(out)]) == 2
    assert "has no task 'tyni'" in capsys.readouterr().err


def test_a_harness_that_fails_spoils_nothing_of_the_rest(place, run, monkeypatch, capsys):
    def broken(_given):
        raise ValueError("no such device")

    harness(monkeypatch, evaluate=broken)
    out = place / "broken.json"
    options = ["--tokens", "40", "--max-new-tokens", "0", "--out", str(out)]
    assert main(["evaluate", str(run), "--lm-eval", "tiny", *options]) == 3
    assert "failed on tiny: ValueError: no such device" in capsys.readouterr().err
    found = read_result(out)
    assert found.evaluation is not None and found.content["lm_eval"] is None
