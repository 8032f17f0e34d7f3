"""Every architecture, layout and stored type: what is streamed equals what is computed with both models in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from readwrite_edit.probe import Result, probe_delta
from readwrite_edit.probe.delta import dense
from tests.slow_delta import check_geometry, load, random_moments, write_moments
from tests.tiny_models import TINY

K = 5
ROWS = 7  # of a block: heads have 12 or 16 rows, so that every head lies in several blocks


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "BLOCK_NUMBERS", 48 * ROWS)


def write_pair(folder: Path, name: str, *, types: tuple[Any, Any], shard: str = "5GB") -> tuple[Path, Path]:
    """A model and a tuned one: most matrices changed everywhere, some in a few rows, some not at all."""
    model = TINY[name]()
    model.to(types[0]).save_pretrained(folder / "base", max_shard_size=shard)
    generator = torch.Generator().manual_seed(3)
    model.float()
    for index, (parameter_name, weight) in enumerate(model.named_parameters()):
        if weight.ndim != 2 or index % 5 == 1:
            continue
        changed = weight.data if index % 5 else weight.data[3:5]
        scale = 0.02 * (1 + 4 * torch.rand(changed.shape[1], generator=generator))
        changed += scale * torch.randn(changed.shape, generator=generator)
        assert parameter_name
    model.to(types[1]).save_pretrained(folder / "tuned", max_shard_size=shard)
    return folder / "base", folder / "tuned"


def measured(folder: Path, base: Path, tuned: Path, **options: Any) -> tuple[Result, Any, Any, dict[str, Any]]:
    models = load(base), load(tuned)
    moments = random_moments(models[0])
    path = write_moments(folder / "statistics.safetensors", moments)
    return probe_delta(str(base), str(tuned), statistics=str(path), k=K, **options), *models, moments


@pytest.mark.parametrize("name", sorted(TINY))
def test_streamed_equals_dense(tmp_path: Path, name: str) -> None:
    result, base, tuned, moments = measured(tmp_path, *write_pair(tmp_path, name, types=(torch.float32,) * 2))
    assert check_geometry(result.tables, base, tuned, moments, K) > 100
    assert set(result.tables["tensors"]["status"]) >= {"measured", "identical"}
    assert not result.tables["tensors"]["status"].isin(["missing", "extra", "reshaped", "unreadable"]).any()


@pytest.mark.parametrize(
    ("name", "types"),
    [
        ("llama", (torch.bfloat16, torch.bfloat16)),
        ("phi3", (torch.float16, torch.float16)),
        ("falcon_new_decoder", (torch.float32, torch.bfloat16)),
        ("gpt_neox", (torch.float16, torch.float32)),
    ],
)
def test_stored_types_alike_and_different(tmp_path: Path, name: str, types: tuple[Any, Any]) -> None:
    result, base, tuned, moments = measured(tmp_path, *write_pair(tmp_path, name, types=types))
    check_geometry(result.tables, base, tuned, moments, K)
    assert set(result.frame["step_dtype"]) == {str(types[1]).removeprefix("torch.")}


def test_a_wider_type_with_the_same_numbers_is_identical(tmp_path: Path) -> None:
    model = TINY["llama"]().to(torch.bfloat16)
    model.save_pretrained(tmp_path / "base")
    model.float().save_pretrained(tmp_path / "tuned")
    result, *_ = measured(tmp_path, tmp_path / "base", tmp_path / "tuned")
    assert (result.frame["norm"] == 0).all() and result.frame["read_fraction"].isna().all()
    assert set(result.tables["tensors"]["status"]) == {"identical"}


def test_shards(tmp_path: Path) -> None:
    name = "gpt2"
    base, _ = write_pair(tmp_path, name, types=(torch.float32,) * 2, shard="40KB")
    assert len(list(base.glob("*.safetensors"))) > 2
    whole = write_pair(tmp_path / "whole", name, types=(torch.float32,) * 2)
    result, *models, moments = measured(tmp_path, base, whole[1])
    check_geometry(result.tables, *models, moments, K)
    again, *_ = measured(tmp_path, *whole)
    for table in result.tables:
        left, right = (found.tables[table].sort_index(axis=1) for found in (result, again))
        assert left.equals(right), table


def test_large_blocks_give_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = write_pair(tmp_path, "falcon_new_decoder", types=(torch.bfloat16,) * 2)
    small, *_ = measured(tmp_path, *pair)
    monkeypatch.setattr(dense, "BLOCK_NUMBERS", 1 << 20)
    large, *models, moments = measured(tmp_path, *pair)
    check_geometry(large.tables, *models, moments, K)
    numbers = small.frame.select_dtypes("number").columns
    assert (small.frame[numbers] - large.frame[numbers]).abs().max(axis=None) < 1e-6


def test_curves_end_at_the_whole_and_pass_through_the_table(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, "llama", types=(torch.float32,) * 2)
    result, *_ = measured(tmp_path, *pair)
    curves = result.tables["curves"]
    last = curves.groupby(["layer", "module", "side"]).last()
    assert (last["fraction"] - 1).abs().max() < 1e-5 and (last["isotropic_null"] == 1).all()
    at_k = curves[(curves["k"] == K) & (curves["side"] == "read")].set_index(["layer", "module"])["fraction"]
    table = result.frame.set_index(["layer", "module"])["read_fraction"].dropna()
    assert len(table) and (at_k.loc[table.index] - table).abs().max() < 1e-6
