"""What an adapter leaves on the disk: the same bytes each time, its logits, and what rounding would eat."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from readwrite_edit import BasisChoice, build_adapter, choose_targets, collect_statistics, find_pathways
from readwrite_edit.adapter import Target, basis_hash, save_adapter
from readwrite_edit.adapter.install import lora_layer
from readwrite_edit.adapter.logits import LogitsRecord
from readwrite_edit.adapter.merge import rounding_loss
from readwrite_edit.errors import AdapterError
from tests.small_runs import WORDS
from tests.tiny_models import TINY, tiny_tokenizer


@pytest.fixture(scope="module")
def record() -> LogitsRecord:
    return LogitsRecord.of(TINY["llama"]().train(), [[5, 6, 7], [8, 9, 10]])


def recorded_logits() -> Tensor:
    with torch.no_grad():
        return TINY["llama"]()(torch.tensor([[5, 6, 7], [8, 9, 10]])).logits


def test_equal_logits_pass_and_a_difference_passes_only_within_rounding(record: LogitsRecord) -> None:
    logits_now = recorded_logits()
    assert record.check_reload(logits_now, exact=True)[1:] == (
        True,
        "fresh process with stock transformers and peft: logits differ by 0",
    )
    near, far = logits_now + 1e-6, logits_now * 1.01
    assert [record.check_reload(near, exact=exact)[1] for exact in (True, False)] == [False, True]
    assert "1.0e-06" in record.check_reload(near, exact=False)[2] or "e-07" in record.check_reload(near, exact=False)[2]
    assert not record.check_reload(far, exact=False)[1]
    assert not record.check_reload(torch.full_like(far, torch.nan), exact=False)[1]


def test_merged_logits_must_agree_within_rounding(record: LogitsRecord) -> None:
    adapter_logits = recorded_logits()
    assert record.check_merge(adapter_logits, adapter_logits + 1e-6, 0.25, quantized=False)[1]
    assert "alter the update by 25%" in record.check_merge(adapter_logits, adapter_logits, 0.25, quantized=False)[2]
    assert not record.check_merge(adapter_logits, adapter_logits * 1.01, 0.25, quantized=False)[1]
    assert not record.check_merge(adapter_logits, adapter_logits * torch.nan, 0.25, quantized=False)[1]


def test_a_record_survives_json_and_leaves_the_model_as_it_was(record: LogitsRecord) -> None:
    assert LogitsRecord.from_dict(json.loads(json.dumps(vars(record)))) == record
    model = TINY["llama"]().train()
    LogitsRecord.of(model, [[5, 6]])
    assert model.training
    with pytest.raises(AdapterError, match="record of logits"):
        LogitsRecord.from_dict({"input_ids": []})


def built(name: str) -> tuple[Any, tuple[Target, ...]]:
    """A wrapped tiny model whose B is not zero, masked rows apart."""
    model = TINY[name]()
    statistics = collect_statistics(model, tiny_tokenizer(), [" ".join(WORDS)], tokens=80)
    targets = choose_targets(statistics, find_pathways(model).select(["q_proj", "k_proj"]), BasisChoice(rank=3))
    wrapped = build_adapter(model, targets)
    for index, target in enumerate(targets):
        weight = lora_layer(wrapped, target).lora_B["default"].weight.data
        weight.normal_(0, 0.05, generator=torch.Generator().manual_seed(index))
        if target.rows is not None:
            weight[96:] = 0
    return wrapped, targets


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Backwards(set[str]):
    """A set in an order that another hash seed could give it."""

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(super().__iter__(), reverse=True))


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    """Also over an older folder, and from a process whose sets have another order."""
    metadata = {"modules": {}, "base": {"dtype": "float32"}}
    for folder in ("first", "second", "second"):
        model, _ = built("llama")
        if folder == "second":
            model.peft_config["default"].target_modules = Backwards(model.peft_config["default"].target_modules)
        save_adapter(model, tmp_path / folder, base_model="base", revision="main", metadata=metadata)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")
    assert sorted(contents(tmp_path / "first")) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "readwrite_edit.json",
    ]
    config = json.loads((tmp_path / "first" / "adapter_config.json").read_text())
    assert config["target_modules"] == ["k_proj", "q_proj"] and config["r"] == config["lora_alpha"] == 3
    assert (config["base_model_name_or_path"], config["revision"]) == ("base", "main")


def test_saved_files_can_be_read_by_whoever_the_umask_lets_read(tmp_path: Path) -> None:
    save_adapter(built("llama")[0], tmp_path / "adapter", base_model="base")
    modes = {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in (tmp_path / "adapter").iterdir()}
    assert len(set(modes.values())) == 1, modes


def test_a_basis_hash_depends_on_bits_shape_and_dtype() -> None:
    basis = torch.arange(6.0).view(2, 3)
    variants = [basis, basis.view(3, 2), basis.double(), basis.bfloat16(), basis + 1e-6, basis.T.contiguous()]
    assert len({basis_hash(variant) for variant in variants}) == len(variants)
    assert basis_hash(basis.T.contiguous().T) == basis_hash(basis), "only values count, not the layout in memory"


def test_the_loss_by_rounding_is_that_of_the_dense_merge() -> None:
    """GPT-2: fused Q|K|V stored as the transpose; only Q and K rows count."""
    model, targets = built("gpt2")
    lost = total = 0.0
    for target in targets:
        layer = lora_layer(model, target)
        delta = (layer.lora_B["default"].weight @ layer.lora_A["default"].weight).detach()[:96]
        weight = layer.base_layer.weight.detach().T[:96]
        kept = (weight + delta).bfloat16().float() - weight.bfloat16().float()
        lost, total = lost + float((delta - kept).square().sum()), total + float(delta.square().sum())
    assert 0.001 < rounding_loss(model, targets, torch.bfloat16) < 0.5
    assert rounding_loss(model, targets, torch.bfloat16) == pytest.approx((lost / total) ** 0.5, rel=1e-5)
    assert rounding_loss(model, targets, torch.float32) < 1e-5
