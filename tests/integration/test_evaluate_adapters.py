"""LoRA adapters that other tools wrote, and of other forms, against the slow loop; and the run of an edit."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from readwrite_edit.cli import main
from tests.slow_evaluation import stock_models, text_sums
from tests.small_runs import write_model
from tests.tiny_models import tiny_tokenizer

FORMS = {
    "constants": ("opt", {"target_modules": ["q_proj"], "lora_bias": True}, "lora_bias"),
    "DoRA": ("llama", {"target_modules": ["q_proj"], "use_dora": True}, "use_dora is on"),
    "rank-stabilised": ("llama", {"target_modules": ["o_proj"], "use_rslora": True}, ""),
    "fused and transposed": ("gpt2", {"target_modules": ["c_attn"], "fan_in_fan_out": True}, ""),
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("READWRITE_EDIT_CACHE", str(tmp_path / "cache"))


def write_adapter(base: Path, folder: Path, **options: object) -> Path:
    torch.manual_seed(1)
    config = LoraConfig(r=3, lora_alpha=6, task_type="CAUSAL_LM", **options)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("architecture", "options", "note"), FORMS.values(), ids=FORMS)
def test_every_form_of_lora_is_measured_as_stock_peft_computes_it(architecture, options, note, tmp_path, capsys):
    base = write_model(tmp_path / "base", architecture)
    adapter = write_adapter(base, tmp_path / "adapter", **options)
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on a mat and the dog ran to the red house by the river", encoding="utf-8")
    assert main(["evaluate", str(adapter), "--protect", str(text), "--max-new-tokens", "0", "--json"]) == 0
    said = capsys.readouterr()
    figures = json.loads(said.out)["figures"]["text text"]
    ids = tiny_tokenizer()(text.read_text())["input_ids"]
    kl, nll, base_nll = (one / (len(ids) - 1) for one in text_sums(*stock_models(base, adapter), ids))
    assert figures["kl"]["value"] == pytest.approx(kl, rel=1e-4) and kl > 1e-4
    assert figures["perplexity"]["value"] == pytest.approx(math.exp(nll), rel=1e-5)
    assert figures["base_perplexity"]["value"] == pytest.approx(math.exp(base_nll), rel=1e-5)
    assert note in said.err and ("price" in figures) == (note != "use_dora is on")


def test_an_adapter_is_put_on_the_base_that_is_named(tmp_path, capsys):
    adapter = write_adapter(write_model(tmp_path / "base"), tmp_path / "adapter", target_modules=["q_proj"])
    (tmp_path / "base").rename(tmp_path / "moved")
    options = ["--tokens", "60", "--max-new-tokens", "0", "--json"]
    assert main(["evaluate", str(adapter), *options]) == 2
    assert re.search(r"--base MODEL|no such folder", capsys.readouterr().err)
    assert main(["evaluate", str(adapter), "--base", str(tmp_path / "moved"), *options]) == 0
    assert json.loads(capsys.readouterr().out)["subject"]["base"] == str(tmp_path / "moved")


def test_the_run_of_an_edit_is_measured_on_the_texts_of_its_recipe(tmp_path, monkeypatch, capsys):
    base = write_model(tmp_path / "base")
    recipe = {
        "model": {"path": str(base)},
        "project": {"direction": {"token": "a"}},
        "statistics": {"tokens": 400, "max_length": 64},
        "measure": {"tokens": 100, "max_new_tokens": 0},
        "controls": {"count": 3},
        "ledger": {"folder": str(tmp_path / "ledger"), "enter": False},
    }
    (tmp_path / "edit.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    run = tmp_path / "run"
    assert main(["edit", "--recipe", str(tmp_path / "edit.yaml"), "--run-dir", str(run)]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(run)]) == 0
    assert "no preference rows" in capsys.readouterr().err
    (path,) = (run / "evaluations").iterdir()
    figures = json.loads(path.read_text())["figures"]
    own = json.loads((run / "summary.json").read_text())["figures"]
    for name in ("prose", "chat"):
        assert figures[f"text {name}"]["kl"]["value"] == pytest.approx(own[f"kl_{name}"], rel=1e-3)
        assert figures[f"text {name}"]["perplexity"]["value"] == pytest.approx(own[f"perplexity_{name}"], rel=1e-4)
    shutil.rmtree(run)
