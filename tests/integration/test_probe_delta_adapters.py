"""Adapters: what their factors give equals what the difference of the merged weights gives, whatever made them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from readwrite_edit.errors import AdapterError
from readwrite_edit.probe import Result, probe_delta
from tests.finished_run import write_finished_run
from tests.slow_delta import load, random_moments, write_moments
from tests.tiny_models import TINY

K = 5
# Sums over single entries are not taken of factors.
ENTRIES = {"cosine", "changed_fraction", "under_step_fraction", "step_dtype"}
TARGETS = {
    "llama": ["q_proj", "v_proj", "o_proj", "gate_proj", "down_proj"],
    "gpt2": ["c_attn", "c_proj"],
    "phi3": ["qkv_proj", "o_proj", "gate_up_proj"],
    "falcon_new_decoder": ["query_key_value", "dense"],
}
PLAIN: dict[str, Any] = {"r": 3, "lora_alpha": 7}
PATTERNS: dict[str, Any] = {
    "r": 4,
    "lora_alpha": 8,
    "use_rslora": True,
    "rank_pattern": {"layers.0.self_attn.q_proj": 2, "down_proj": 6},
    "alpha_pattern": {"o_proj": 3, "down_proj": 5},
}


def write_base(folder: Path, name: str) -> Path:
    """A tiny model in float64, so that a merged difference is exact."""
    TINY[name]().double().save_pretrained(folder)
    return folder


def write_adapter(folder: Path, base: Path, name: str, seed: int = 0, **options: Any) -> Path:
    """A random adapter as stock PEFT saves it."""
    config = LoraConfig(target_modules=TARGETS[name], fan_in_fan_out=name == "gpt2", **{**PLAIN, **options})
    torch.manual_seed(seed)
    model = get_peft_model(load(base), config, autocast_adapter_dtype=False)
    for parameter_name, weight in model.named_parameters():
        if "lora_" in parameter_name:
            torch.nn.init.normal_(weight, std=0.2)
    model.save_pretrained(folder)
    return folder


def merged(folder: Path, base: Path, adapter: Path) -> Path:
    """The base with an adapter merged in by stock PEFT."""
    model: Any = PeftModel.from_pretrained(load(base), str(adapter), autocast_adapter_dtype=False)
    model.merge_and_unload().save_pretrained(folder)
    return folder


def probed(base: Path | str, tuned: Path | str | None, statistics: Path) -> Result:
    return probe_delta(str(base), None if tuned is None else str(tuned), statistics=str(statistics), k=K)


def check_alike(low_rank: Result, dense: Result, *, sizes: bool = True) -> None:
    """Every number of the low-rank tables is the dense one; sizes relative to W only where W is the same."""
    keys = {"geometry": ["layer", "module"], "heads": ["layer", "module", "head", "side"]}
    for table, key in keys.items():
        left, right = low_rank.tables[table].set_index(key), dense.tables[table].set_index(key)
        assert len(left), table
        for column in left.select_dtypes("number").columns.difference(
            [*ENTRIES, *([] if sizes else ["relative_norm"])]
        ):
            ours, theirs = left[column].astype(float), right.loc[left.index, column].astype(float)
            assert (ours.isna() == theirs.isna()).all(), column
            # a p-value is as far off as the fraction's rounding carries it: its own tests are elsewhere
            allowed = 1e-4 if column.endswith("_p") else 1e-6 * theirs.fillna(0).abs().clip(lower=1)
            assert ((ours - theirs).abs().fillna(0) <= allowed).all(), column
    ours, theirs = (found.tables["curves"].set_index(["layer", "module", "side", "k"]) for found in (low_rank, dense))
    assert (ours["fraction"] - theirs.loc[ours.index, "fraction"]).abs().max() < 1e-6


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a llama as ``base``, two adapters, and statistics."""
    place = tmp_path_factory.mktemp("llama")
    base = write_base(place / "base", "llama")
    write_adapter(place / "first", base, "llama", seed=1)
    write_adapter(place / "second", base, "llama", seed=2, **PATTERNS)
    write_moments(place / "statistics.safetensors", random_moments(load(base)))
    return place


@pytest.mark.parametrize("name", ["gpt2", "phi3", "falcon_new_decoder"])
def test_factors_equal_the_merged_difference_in_fused_and_transposed_modules(tmp_path: Path, name: str) -> None:
    base = write_base(tmp_path / "base", name)
    adapter = write_adapter(tmp_path / "adapter", base, name)
    statistics = write_moments(tmp_path / "statistics.safetensors", random_moments(load(base)))
    low_rank = probed(base, adapter, statistics)
    assert low_rank.frame["step_dtype"].isna().all() and set(low_rank.frame["effective_rank"] < 3.001) == {True}
    check_alike(low_rank, probed(base, merged(tmp_path / "merged", base, adapter), statistics))


def test_patterns_and_rslora_scale_as_peft_scales_them(llama: Path, tmp_path: Path) -> None:
    statistics = llama / "statistics.safetensors"
    dense = probed(llama / "base", merged(tmp_path / "merged", llama / "base", llama / "second"), statistics)
    low_rank = probed(llama / "base", llama / "second", statistics)
    check_alike(low_rank, dense)
    details = low_rank.tables["tensors"].set_index("name")["detail"]
    assert details["model.layers.0.self_attn.q_proj.weight"] == "rank 2"
    assert details["model.layers.1.self_attn.q_proj.weight"] == "rank 4"
    assert details["model.layers.1.mlp.down_proj.weight"] == "rank 6"


def test_the_difference_of_two_adapters(llama: Path, tmp_path: Path) -> None:
    statistics = llama / "statistics.safetensors"
    both = [merged(tmp_path / name, llama / "base", llama / name) for name in ("first", "second")]
    low_rank = probed(llama / "first", llama / "second", statistics)
    check_alike(low_rank, probed(both[0], both[1], statistics), sizes=False)


def test_of_two_adapters_with_different_modules_the_lone_updates_stand(llama: Path, tmp_path: Path) -> None:
    statistics = llama / "statistics.safetensors"
    lone = tmp_path / "lone"
    shutil.copytree(llama / "first", lone)
    weights = load_file(lone / "adapter_model.safetensors")
    weights = {name: tensor for name, tensor in weights.items() if "q_proj" in name}
    save_file(weights, lone / "adapter_model.safetensors", metadata={"format": "pt"})
    forth, back = probed(lone, llama / "second", statistics), probed(llama / "second", lone, statistics)
    alone = probed(llama / "base", llama / "second", statistics)
    assert set(forth.frame["module"]) == set(alone.frame["module"])
    columns = ["layer", "module", "read_fraction", "write_fraction", "norm"]
    for found in (forth, back):
        rest = found.frame[found.frame["module"] != "q_proj"][columns].reset_index(drop=True)
        assert rest.equals(alone.frame[alone.frame["module"] != "q_proj"][columns].reset_index(drop=True))


def test_an_adapter_alone_finds_its_base(llama: Path) -> None:
    statistics = llama / "statistics.safetensors"
    config = json.loads((llama / "first" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(llama / "base")
    alone, named = probed(llama / "first", None, statistics), probed(llama / "base", llama / "first", statistics)
    for table in named.tables:
        assert alone.tables[table].equals(named.tables[table]), table


def test_a_run_alone_takes_its_adapter_and_the_base_of_its_recipe(llama: Path, tmp_path: Path) -> None:
    run = write_finished_run(tmp_path / "run", base=str(llama / "base"), layers=2)
    shutil.rmtree(run / "adapter", ignore_errors=True)
    shutil.copytree(llama / "first", run / "adapter")
    config = json.loads((run / "adapter" / "adapter_config.json").read_text())
    (run / "adapter" / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "x/nothing"}))
    statistics = llama / "statistics.safetensors"
    alone, named = probed(run, None, statistics), probed(llama / "base", llama / "first", statistics)
    assert alone.frame.equals(named.frame)
    assert probed(llama / "base", run, statistics).frame.equals(named.frame)


def test_what_an_adapter_does_not_change_is_left_out(llama: Path) -> None:
    found = probed(llama / "base", llama / "first", llama / "statistics.safetensors")
    assert set(found.frame["module"]) == set(TARGETS["llama"])
    options = {"statistics": str(llama / "statistics.safetensors")}
    with pytest.raises(AdapterError, match="adapts none of the 2 matrices to measure"):
        probe_delta(str(llama / "base"), str(llama / "first"), modules=("k_proj",), **options)


def test_an_adapter_that_changes_nothing_is_identical(llama: Path, tmp_path: Path) -> None:
    found = probed(llama / "first", llama / "first", llama / "statistics.safetensors")
    # [B, -B] [A; A] is zero, up to the rounding of its QR
    assert (found.frame["norm"] < 1e-12).all()
    shutil.copytree(llama / "first", tmp_path / "fresh")
    weights = load_file(tmp_path / "fresh" / "adapter_model.safetensors")
    zero = {name: tensor * ("lora_B" not in name) for name, tensor in weights.items()}
    save_file(zero, tmp_path / "fresh" / "adapter_model.safetensors", metadata={"format": "pt"})
    fresh = probed(llama / "base", tmp_path / "fresh", llama / "statistics.safetensors")
    assert set(fresh.tables["tensors"]["status"]) == {"identical"} and fresh.frame["read_fraction"].isna().all()
    assert fresh.verdict is not None and "no read matrix changed" in fresh.verdict
