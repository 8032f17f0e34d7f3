"""What can not be evaluated: one line that says why, exit code 2, no weights loaded and nothing written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from readwrite_edit.align.job import start_run
from readwrite_edit.cli import main
from tests.small_runs import as_recipe, small_recipe, write_model

PREFIX = "readwrite-edit: "


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; no test changes it."""
    place = tmp_path_factory.mktemp("finished")
    recipe = small_recipe(place, train={"max_steps": 1}, evaluation={"generations": [], "max_new_tokens": 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("READWRITE_EDIT_CACHE", str(place / "cache"))
        assert start_run(as_recipe(recipe), "small", place / "run").status == "finished"
    return place / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints")))


@pytest.fixture
def refused(monkeypatch, capsys) -> Callable[..., str]:
    """Call the command; it must refuse before any weight is loaded."""
    from readwrite_edit.evaluate import measuring

    def never(*_args, **_kwargs):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(measuring, "load_model", never)

    def call(*arguments: object) -> str:
        capsys.readouterr()
        code = main(["evaluate", *map(str, arguments)])
        said = capsys.readouterr()
        assert (code, said.out) == (2, ""), said.err
        assert all(line.startswith(PREFIX) and line.isprintable() for line in said.err.splitlines()), said.err
        return said.err

    return call


def state(run: Path, **change: object) -> None:
    path = run / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


def test_runs_that_have_nothing_to_evaluate(refused, run, tmp_path):
    state(run, status="failed", error="the loss is nan")
    told = refused(run)
    assert "this one's state is failed (the loss is nan)" in told and f"{run / 'adapter'} can be named itself" in told
    state(run, status="stopped", error=None)
    assert "this one's state is stopped" in refused(run)
    state(run, status="finished", kind="probe")
    assert "the run of a probe" in refused(run)
    state(run, kind="align")
    shutil.rmtree(run / "adapter")
    assert "this run has no adapter" in refused(run)
    (run / "state.json").write_text("{")
    assert "this one's state is broken" in refused(run)
    assert not (run / "evaluations").exists()


def test_names_that_mean_nothing(refused, tmp_path):
    assert "no such folder" in refused("nowhere/at all")
    assert "model path is empty" in refused("")
    (tmp_path / "runs" / "empty").mkdir(parents=True)
    assert "config.json" in refused("empty", "--root", tmp_path / "runs")


def test_damaged_and_foreign_adapters(refused, run):
    adapter = run / "adapter"
    config = json.loads((adapter / "adapter_config.json").read_text())

    def configured(**change: object) -> None:
        (adapter / "adapter_config.json").write_text(json.dumps({**config, **change}))

    configured(peft_type="IA3")
    assert "peft_type is 'IA3'" in refused(adapter)
    configured(modules_to_save=["lm_head"])
    assert "more than LoRA factors" in refused(adapter)
    configured(r=7)
    assert "do not belong together" in refused(adapter)
    configured()
    tensors = load_file(adapter / "adapter_model.safetensors")
    name = next(iter(tensors))
    save_file({**tensors, name: tensors[name] * float("nan")}, adapter / "adapter_model.safetensors")
    assert "holds NaN or infinity" in refused(adapter)
    odd = {one: torch.zeros(9, 9) if one == name else tensor for one, tensor in tensors.items()}
    save_file(odd, adapter / "adapter_model.safetensors")
    assert "does not fit" in refused(adapter) or "do not belong" in refused(adapter)
    (adapter / "adapter_model.safetensors").write_bytes(b"cut")
    assert "damaged or cut short" in refused(run)
    (adapter / "adapter_model.safetensors").unlink()
    assert "no adapter_model.safetensors" in refused(run)


def test_an_adapter_of_the_head(refused, run):
    adapter = run / "adapter"
    tensors = load_file(adapter / "adapter_model.safetensors")
    head = {"base_model.model.lm_head.lora_A.weight": torch.zeros(4, 48),
            "base_model.model.lm_head.lora_B.weight": torch.zeros(128, 4)}  # fmt: skip
    save_file({**tensors, **head}, adapter / "adapter_model.safetensors")
    assert "changes the language-model head" in refused(run)


def test_an_adapter_without_a_word_about_its_base(refused, run):
    adapter = run / "adapter"
    (adapter / "readwrite_edit.json").unlink()
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": None}))
    assert "name it with --base MODEL" in refused(adapter)


def test_weights_that_are_not_those_of_the_run_are_refused_and_with_base_said(run, finished, tmp_path, capsys):
    from transformers import AutoModelForCausalLM

    place = tmp_path / "changed"
    shutil.copytree(finished.parent / "model-llama", place)
    model = AutoModelForCausalLM.from_pretrained(place)
    model.model.layers[0].mlp.up_proj.weight.data += 1
    model.save_pretrained(place)
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    recipe["model"]["path"] = str(place)
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["evaluate", str(run), "--max-new-tokens", "0"]) == 2
    assert "are not those that the adapter was made for" in capsys.readouterr().err
    assert not list((run / "evaluations").glob("*")) if (run / "evaluations").exists() else True
    assert main(["evaluate", str(run), "--max-new-tokens", "0", "--base", str(place)]) == 0
    assert "are not those that the adapter was made for" in capsys.readouterr().err


def test_models_that_can_not_be_compared(refused, run, tmp_path):
    other = write_model(tmp_path / "other", "qwen2")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "vocab_size": 200}))
    assert "KL needs one vocabulary" in refused(other, "--base", write_model(tmp_path / "model"))


def test_a_sweep_names_its_runs(refused, run, tmp_path):
    (tmp_path / "sweep.json").write_text("{}")
    told = refused(tmp_path)
    assert f"is a sweep: name one of its runs: {run}; readwrite-edit compare {tmp_path}" in told
    shutil.rmtree(run)
    assert "none of its runs has begun" in refused(tmp_path)


@pytest.fixture
def changed(run, tmp_path) -> Path:
    """The run with one row fewer in its file, so that the split of all others is another."""
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    lines = Path(recipe["data"]["path"]).read_text().splitlines(keepends=True)
    (tmp_path / "rows.jsonl").write_text("".join(lines[1:]))
    recipe["data"]["path"] = str(tmp_path / "rows.jsonl")
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return run


def test_rows_that_are_no_longer_those_of_the_run(refused, changed, tmp_path):
    """Rows that were trained on would be held out."""
    told = refused(changed)
    assert f"the rows of {tmp_path / 'rows.jsonl'} are no longer those that the run began with" in told
    assert "put them back, or name rows with --data FILE" in told and not (changed / "evaluations").exists()


def test_rows_of_ones_own_do_without_those_of_the_run_and_say_so(changed, tmp_path, capsys):
    """Nobody knows any more what the run was trained on."""
    options = ["--data", str(tmp_path / "rows.jsonl"), "--tokens", "40", "--max-new-tokens", "0", "--json"]
    assert main(["evaluate", str(changed), *options]) == 0
    said = capsys.readouterr()
    assert "whether the run was trained on any of this is not known: the rows of" in said.err
    found = json.loads(said.out)
    assert found["rows"]["count"] == 23 and found["shared_with_training"] == {}


def test_a_gpu_that_is_not_there(refused, run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "device 'cuda': PyTorch finds no GPU; take cpu (--device cpu" in refused(run, "--device", "cuda")
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    recipe["model"]["device"] = "cuda:0"
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert "device 'cuda:0'" in refused(run)


def test_rows_and_texts_that_can_not_be_read(refused, run, tmp_path):
    assert "no such file" in refused(run, "--data", tmp_path / "rows.jsonl")
    (tmp_path / "rows.jsonl").write_text('{"prompt": 1}\n')
    assert "rows.jsonl" in refused(run, "--data", tmp_path / "rows.jsonl")
    (tmp_path / "empty.txt").write_text("")
    assert "empty" in refused(run, "--protect", tmp_path / "empty.txt")
    (tmp_path / "one.txt").write_text("a")
    assert "no two tokens in a row" in refused(run, "--protect", tmp_path / "one.txt")
    assert "no such built-in data" in refused(run, "--protect", "builtin:porse")
    twice = ["--protect", "a=builtin:prose", "--protect", "a=builtin:chat"]
    assert "two texts are named 'a'" in refused(run, *twice)
    (tmp_path / "prompts.txt").write_text("\n \n")
    assert "expected prompts" in refused(run, "--prompts", tmp_path / "prompts.txt")
    (tmp_path / "prompts.txt").write_bytes(b"\xff\xfe\xfa")
    assert "UTF-8" in refused(run, "--prompts", tmp_path / "prompts.txt")


def test_numbers_that_make_no_sense_are_all_told_at_once(refused, run):
    told = refused(run, "--tokens", 1, "--batch-size", 0, "--beta", "nan", "--ngram", 0, "--max-new-tokens", -1)
    assert told.count("\n") == 5 and "--tokens is 1; expected at least 2" in told and "--beta is nan" in told
    assert "--lm-eval-limit belongs to --lm-eval" in refused(run, "--lm-eval-limit", 3)


def test_the_harness_that_is_not_installed(refused, run, monkeypatch):
    from readwrite_edit.evaluate import harness

    monkeypatch.setattr(harness, "find_spec", lambda _name: None)
    assert "pip install 'readwrite-edit[lm-eval]'" in refused(run, "--lm-eval", "hellaswag")


def test_a_place_that_takes_no_result(refused, run, tmp_path):
    (tmp_path / "there.json").write_text("{}")
    assert "exists: name a new file with --out" in refused(run, "--out", tmp_path / "there.json")
    (tmp_path / "file").write_text("")
    told = refused(run, "--out", tmp_path / "file" / "result.json")
    assert f"{tmp_path / 'file'} is not a folder: name another file with --out" in told
    (run / "evaluations").write_text("")
    assert "name another file with --out" in refused(run)
