"""Exports as their receivers meet them: stock PEFT, stock transformers, and a server that speaks the Hub's API."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from readwrite_edit.cli import export as command
from readwrite_edit.errors import ExportError
from readwrite_edit.export import export_run, planned_files, push
from tests.finished_run import write_finished_run, write_tiny_adapter, write_tiny_base
from tests.integration.hub_server import OWNER, TOKEN, Hub, Repository, card_problems, running_hub

ADAPTER_FILES = {"adapter_config.json", "adapter_model.safetensors", "readwrite_edit.json"}
IDS = torch.tensor([[5, 17, 42, 8, 60]])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    base = write_tiny_base(root / "base")
    run = write_finished_run(root / "20251122-231455-dpo_readonly", base=str(base), layers=2)
    write_tiny_adapter(run, base)
    return run


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def base_of(run: Path) -> Path:
    return run.parent / "base"


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def stock_logits(run: Path, adapter: Path) -> torch.Tensor:
    return logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base_of(run)), adapter))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_adapter_is_exported_byte_for_byte_with_a_card(run: Path, tmp_path: Path) -> None:
    written = export_run(run, tmp_path / "out")
    assert {file.name for file in written} == {*ADAPTER_FILES, "README.md"} == set(contents(tmp_path / "out"))
    for name in ADAPTER_FILES:
        assert (tmp_path / "out" / name).read_bytes() == (run / "adapter" / name).read_bytes()
    assert card_problems((tmp_path / "out" / "README.md").read_text()) == []
    assert {file.name: file.size_bytes for file in written} == {
        name: len(data) for name, data in contents(tmp_path / "out").items()
    }


def test_card_s_own_snippet_loads_the_export(run: Path, tmp_path: Path) -> None:
    export_run(run, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    match = re.search(r"```python\n(.*?)\n```", card, re.DOTALL)
    assert match
    snippet = match[1].replace("path/to/the/base/model", str(base_of(run)))
    names: dict[str, object] = {}
    exec(snippet.replace("path/to/this/folder", str(tmp_path / "out")), names)
    model = names["model"]
    assert isinstance(model, PeftModel)
    bare = logits(AutoModelForCausalLM.from_pretrained(base_of(run)))
    assert torch.equal(logits(model), stock_logits(run, run / "adapter"))
    assert (logits(model) - bare).abs().max() > 0.01


def test_merged_model_loads_with_stock_transformers(run: Path, tmp_path: Path) -> None:
    export_run(run, tmp_path / "out", merge=True)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out", use_safetensors=True)
    assert not any("lora" in name for name in merged.state_dict())
    torch.testing.assert_close(logits(merged), stock_logits(run, run / "adapter"), rtol=1e-5, atol=1e-5)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer("abc")["input_ids"] == AutoTokenizer.from_pretrained(base_of(run))("abc")["input_ids"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert card_problems(card) == [] and "library_name: transformers" in card


@pytest.mark.parametrize("merge", [False, True])
def test_whoever_reads_the_card_reads_the_weights(run: Path, tmp_path: Path, merge: bool) -> None:
    export_run(run, tmp_path / "out", merge=merge)
    (tmp_path / "ordinary").touch()
    modes = {path.name: path.stat().st_mode for path in (tmp_path / "out").iterdir()}
    assert set(modes.values()) == {(tmp_path / "ordinary").stat().st_mode}, modes


def test_dry_run_tells_the_sizes_and_writes_nothing(run: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.parent.rglob("*"))
    planned = planned_files(run, tmp_path / "out")
    merged = {file.name: file for file in planned_files(run, tmp_path / "out", merge=True)}
    assert sorted(tmp_path.parent.rglob("*")) == before
    assert {(file.name, file.size_bytes) for file in planned} == {
        (file.name, file.size_bytes) for file in export_run(run, tmp_path / "out")
    }
    export_run(run, tmp_path / "merged", merge=True)
    weights = (tmp_path / "merged" / "model.safetensors").stat().st_size
    assert merged["model.safetensors"].estimated
    assert abs(merged["model.safetensors"].size_bytes - weights) < 4096  # the file's header


def test_force_replaces_an_earlier_export_whole(run: Path, tmp_path: Path) -> None:
    export_run(run, tmp_path / "out", merge=True)
    export_run(run, tmp_path / "out", force=True)
    assert set(contents(tmp_path / "out")) == {*ADAPTER_FILES, "README.md"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_command_line_exports_and_pushes(run: Path, tmp_path: Path, hub: Hub) -> None:
    script = "import sys; from readwrite_edit.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["export", str(run), "--to", str(tmp_path / "out"), "--push", f"{OWNER}/concise", "--private"]
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"uploaded to {hub.url}/{OWNER}/concise" in done.stdout
    assert hub.files(f"{OWNER}/concise") == contents(tmp_path / "out")
    assert hub.repositories[f"{OWNER}/concise"].private
    assert "POST /api/validate-yaml" in hub.requests
    assert len(hub.objects) == 1  # the weights went through LFS
    assert f"PeftModel.from_pretrained(model, '{OWNER}/concise')" in hub.files(f"{OWNER}/concise")["README.md"].decode()


def test_merged_model_is_pushed_to_a_branch(run: Path, tmp_path: Path, hub: Hub) -> None:
    export_run(run, tmp_path / "out", merge=True)
    address = push(tmp_path / "out", f"{OWNER}/merged", revision="trial")
    assert address == f"{hub.url}/{OWNER}/merged"
    assert hub.files(f"{OWNER}/merged", "trial") == contents(tmp_path / "out")
    assert hub.files(f"{OWNER}/merged") == {}
    assert not hub.repositories[f"{OWNER}/merged"].private


def test_command_line_answers_programs_in_json(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    answers = []
    for more in (["--dry-run"], []):
        args = parser.parse_args(["export", str(run), "--to", str(tmp_path / "out"), "--json", *more])
        assert args.run(args) == 0
        answers.append(json.loads(capsys.readouterr().out))
    planned, written = answers
    assert planned["dry_run"] and not written["dry_run"]
    assert sorted(planned["files"], key=lambda file: str(file["name"])) == written["files"]
    assert written["to"] == str(tmp_path / "out") and written["push"] is written["address"] is None


def test_pushing_again_updates_the_repository(run: Path, tmp_path: Path, hub: Hub) -> None:
    export_run(run, tmp_path / "out")
    push(tmp_path / "out", f"{OWNER}/concise")
    (tmp_path / "out" / "README.md").write_text((tmp_path / "out" / "README.md").read_text() + "\nMore.\n")
    push(tmp_path / "out", f"{OWNER}/concise")
    assert hub.files(f"{OWNER}/concise") == contents(tmp_path / "out")


def test_private_upload_never_goes_to_a_public_repository(run: Path, tmp_path: Path, hub: Hub) -> None:
    hub.repositories[f"{OWNER}/known"] = Repository(private=False)
    export_run(run, tmp_path / "out")
    with pytest.raises(ExportError, match="exists and is public"):
        push(tmp_path / "out", f"{OWNER}/known", private=True)
    assert hub.files(f"{OWNER}/known") == {} and hub.objects == {}


def test_command_line_dry_run(run: Path, tmp_path: Path, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    target = tmp_path / "out"
    args = parser.parse_args(["export", str(run), "--to", str(target), "--dry-run", "--push", f"{OWNER}/concise"])
    assert args.run(args) == 0
    out = capsys.readouterr().out
    size = (run / "adapter" / "adapter_model.safetensors").stat().st_size
    assert f"{size:,} bytes  adapter_model.safetensors" in out and f"would upload to {OWNER}/concise" in out
    assert not target.exists() and hub.requests == []


def test_metadata_of_the_merged_model_says_so(run: Path, tmp_path: Path) -> None:
    export_run(run, tmp_path / "out", merge=True)
    original = json.loads((run / "adapter" / "readwrite_edit.json").read_text())
    assert json.loads((tmp_path / "out" / "readwrite_edit.json").read_text()) == original | {"merged": True}
