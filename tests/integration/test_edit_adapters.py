"""Edits as files that stock tools load: certified in a fresh process, on fused, biased and GGUF bases."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from readwrite_edit.edit.context import Context
from readwrite_edit.edit.files import attach, certify_edit, detach, write_adapter
from readwrite_edit.edit.ledger import Ledger, open_ledger
from readwrite_edit.edit.settings import EditRecipe
from readwrite_edit.edit.stack import stack
from readwrite_edit.interventions.changes import Change
from readwrite_edit.job.session import Session
from readwrite_edit.models.fingerprint import weights_hash
from readwrite_edit.runs.folder import RunFolder
from tests.small_edits import contents, random_changes, with_papers
from tests.small_runs import write_model
from tests.tiny_gguf import write_tiny_gguf


def context_on(model: Path) -> Context:
    """An edit of a model on the disk; what the intervention is does not matter here."""
    steer = {"direction": {"token": "a"}, "prompts": ["the cat"], "layer": 0}
    return Context(EditRecipe.model_validate({"model": {"path": str(model)}, "steer": steer}), Session())


def written(context: Context, changes: tuple[Change, ...], folder: Path) -> Path:
    model = attach(context.model, changes)
    try:
        write_adapter(context, model, changes, folder)
    finally:
        detach(model)
    return folder


def test_an_edit_of_fused_transposed_matrices_with_biases_is_certified_and_merges(tmp_path: Path) -> None:
    """GPT-2: Q|K|V in one Conv1D that has a bias of its own, into which the edit's constant can go."""
    context = context_on(write_model(tmp_path / "model", "gpt2"))
    roles = ["q_proj", "v_proj", "down_proj"]
    folder = written(context, random_changes(context.pathways.select(roles), bias=True), tmp_path / "adapter")
    certificate = certify_edit(context, folder)
    said = {check.name: check.detail for check in certificate.checks}
    assert certificate.passed, said
    assert (
        "differ by 0" in said["reload"]
        and said["basis"] == "an edit: lora_A is its own, there is no frozen basis to keep"
    )
    assert "exactly zero in 2 fused matrices" in said["rows"] and said["merge"].startswith("merged logits differ by")


def test_an_edit_of_a_gguf_model_writes_neither_the_file_nor_its_conversion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A constant on a Llama, whose matrices have no bias: it stays an adapter, and the certificate says so."""
    monkeypatch.setenv("READWRITE_EDIT_CACHE", str(tmp_path / "cache"))
    gguf = tmp_path / "tiny.gguf"
    write_tiny_gguf(gguf)
    context = context_on(gguf)
    changes = random_changes(context.pathways.select(["o_proj", "down_proj"]), bias=True)
    file, converted = gguf.read_bytes(), contents(tmp_path / "cache")
    assert any(name.endswith(".safetensors") for name in converted)
    folder = written(context, changes, tmp_path / "adapter")
    certificate = certify_edit(context, folder)
    said = {check.name: check.detail for check in certificate.checks}
    assert certificate.passed and "differ by 0" in said["reload"] and "not possible" in said["merge"], said
    assert gguf.read_bytes() == file and contents(tmp_path / "cache") == converted
    config, metadata = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("adapter_config", "readwrite_edit")
    )
    assert config["base_model_name_or_path"] == metadata["base"]["source"] == str(gguf)
    assert metadata["base"]["weights_hash"] == context.fingerprint


def test_undo_restores_model_and_stack_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the ledger, from files alone: enter, stack, enter another, undo it, stack again."""
    monkeypatch.setenv("READWRITE_EDIT_CACHE", str(tmp_path / "cache"))
    context = context_on(write_model(tmp_path / "model"))
    ids = torch.arange(20).view(2, 10) + 5
    before, fingerprint = _logits(context, ids), context.fingerprint
    ledger = open_ledger(tmp_path / "edits", context.base())
    _enter(ledger, context, tmp_path / "run-1", seed=1)
    stack(ledger, [], tmp_path / "alone", certify=False)
    _enter(ledger, context, tmp_path / "run-2", seed=2)
    stack(ledger, [], tmp_path / "both", certify=False)
    ledger.undo("steer-2")
    stacked = stack(ledger, [], tmp_path / "again", certify=False)
    assert contents(tmp_path / "alone") == contents(tmp_path / "again") != contents(tmp_path / "both")
    assert stacked.entries == ("steer-1",)
    model = attach(context.model, ledger.changes_of(ledger.active[0], context.pathways))
    assert not torch.equal(_logits(context, ids), before)
    detach(model)
    assert torch.equal(_logits(context, ids), before) and weights_hash(context.model) == fingerprint


def _enter(ledger: Ledger, context: Context, place: Path, *, seed: int) -> None:
    run = RunFolder(place)
    written(context, random_changes(context.pathways.select(["o_proj", "q_proj"]), seed=seed), run.adapter)
    ledger.add(kind="steer", title=f"seed {seed}", run=with_papers(run))


def _logits(context: Context, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return context.model(input_ids=ids, use_cache=False).logits
