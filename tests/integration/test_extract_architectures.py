"""Every architecture and layout: what is streamed equals what is computed with both models in memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from readwrite_edit.edit.context import Context
from readwrite_edit.edit.extract import deltas as reading
from readwrite_edit.edit.extract import plan_extract, plan_project_adapter
from readwrite_edit.edit.plan import Plan
from readwrite_edit.edit.settings import EditRecipe
from readwrite_edit.interventions.forward import edited
from readwrite_edit.job.session import Session
from readwrite_edit.models.pathways import Projection, find_pathways, module_of, weight_of
from tests.slow_delta import WRITERS, Matrix, as_numpy, load, prediction_directions, random_moments, write_moments
from tests.tiny_models import TINY, VOCABULARY

K, RANK = 7, 4
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
ROWS = 7  # of a block: heads have 12 or 16 rows, so that every head lies in several blocks


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_BLOCK_NUMBERS", 48 * ROWS)


def write_pair(folder: Path, name: str, dtype: torch.dtype = torch.float32) -> tuple[Path, Path]:
    """A model and one whose every pathway is another; nothing else differs."""
    model = TINY[name]().to(dtype)
    model.save_pretrained(folder / "base")
    generator = torch.Generator().manual_seed(3)
    for projection in find_pathways(model).projections:
        weight: Any = module_of(model, projection).weight
        scale = 0.02 * (1 + 4 * torch.rand(weight.shape[1], generator=generator))
        weight.data += (scale * torch.randn(weight.shape, generator=generator)).to(dtype)
    model.save_pretrained(folder / "tuned")
    return folder / "base", folder / "tuned"


def planned(base: Path, kind: str, statistics: Path | None = None, **options: Any) -> Plan:
    recipe = {"model": {"path": str(base)}, kind: options, "statistics": {"file": statistics and str(statistics)}}
    context = Context(EditRecipe.model_validate(recipe), Session())
    plan = (plan_extract if kind == "extract" else plan_project_adapter)(context)
    assert "model" not in vars(context), "the base was loaded, though nothing needs it"
    return plan


def roles_of(model: Any) -> list[str]:
    return list(find_pathways(model).roles)


def adapted_roles(model: Any) -> list[str]:
    """All; in a mixture of experts those of attention: PEFT turns names of its dense MLPs into its experts'."""
    return [role for role in roles_of(model) if role in ATTENTION or "moe" not in model.config.model_type]


def slow_part(
    delta: Matrix, basis: Matrix | None, projection: Projection, rank: int
) -> tuple[Matrix, dict[str, float]]:
    """The best approximation of a rank, by numpy, and the row of the table that belongs to it."""
    part = delta
    if basis is not None:
        part = basis @ basis.T @ delta if projection.role in WRITERS else delta @ basis @ basis.T
    U, S, Vh = np.linalg.svd(part)
    kept = U[:, :rank] * S[:rank] @ Vh[:rank]
    energy = [float((matrix**2).sum()) for matrix in (delta, part, kept)]
    return kept, {
        "norm": energy[0] ** 0.5,
        "projected_norm": energy[1] ** 0.5,
        "retained_norm": energy[2] ** 0.5,
        "subspace_energy_fraction": energy[1] / energy[0],
        "retained_fraction": energy[2] / energy[0],
        "retained_of_projected_fraction": energy[2] / energy[1],
    }


def slow_bases(model: Any, moments: Mapping[str, Matrix], kind: str) -> dict[Projection, Matrix | None]:
    predicted = prediction_directions(model)
    found: dict[Projection, Matrix | None] = {}
    for projection in find_pathways(model).projections:
        vectors = np.linalg.eigh(moments[projection.site])[1][:, ::-1]
        vectors = predicted if projection.role in WRITERS else vectors
        found[projection] = None if kind == "none" else vectors[:, :K] if kind == "principal" else vectors[:, -K:]
    return found


@pytest.mark.parametrize("name", sorted(TINY))
def test_streamed_equals_dense(tmp_path: Path, name: str) -> None:
    paths = write_pair(tmp_path, name)
    base, tuned = (load(path) for path in paths)
    moments = random_moments(base)
    statistics = write_moments(tmp_path / "statistics.safetensors", moments)
    options = {"tuned": str(paths[1]), "modules": roles_of(base)}
    for kind in ("none", "principal", "minor"):
        plan = planned(paths[0], "extract", statistics, basis=kind, k=K, rank=RANK, **options)
        bases = slow_bases(base, moments, kind)
        rows = plan.tables["matrices"].to_dict("records")
        assert [change.projection for change in plan.changes] == list(find_pathways(base).projections)
        for change, row in zip(plan.changes, rows, strict=True):
            projection = change.projection
            delta = as_numpy(weight_of(tuned, projection)) - as_numpy(weight_of(base, projection))
            kept, expected = slow_part(delta, bases[projection], projection, RANK)
            assert (row["layer"], row["module"], row["path"]) == (
                projection.layer,
                projection.role,
                projection.module,
            )
            assert np.linalg.norm(change.update.dense().numpy() - kept) < 2e-6 * np.linalg.norm(kept)
            for column, value in expected.items():
                assert row[column] == pytest.approx(value, rel=1e-6), (column, kind)
        shares = [(row["norm"] ** 2, row["retained_norm"] ** 2) for row in rows]
        total = sum(kept for _, kept in shares) / sum(whole for whole, _ in shares)
        assert plan.figures["retained_fraction"] == pytest.approx(total)
    check_whole(base, tuned, planned(paths[0], "extract", rank=500, **options))


def check_whole(base: Any, tuned: Any, plan: Plan) -> None:
    """At full rank and without a subspace the changes of all pathways make the tuned model of the base."""
    assert plan.figures["retained_fraction"] == pytest.approx(1)
    ids = torch.randint(3, VOCABULARY, (2, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before, theirs = base(ids).logits, tuned(ids).logits
        with edited(base, [plan.changes]):
            ours = base(ids).logits
    assert (ours - theirs).abs().max() < 1e-4 * (theirs - before).abs().max()


def write_adapter(folder: Path, base: Path, name: str) -> Path:
    """A random adapter of the pathways, as stock PEFT saves it, and the same merged into the model."""
    model = load(base)
    modules = sorted({projection.module for projection in find_pathways(model).select(adapted_roles(model))})
    config = LoraConfig(target_modules=modules, r=5, lora_alpha=7, use_rslora=True, fan_in_fan_out=name == "gpt2")
    torch.manual_seed(1)
    adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
    for parameter_name, weight in adapted.named_parameters():
        if "lora_" in parameter_name:
            torch.nn.init.normal_(weight, std=0.2)
    adapted.save_pretrained(folder / "adapter")
    merged: Any = PeftModel.from_pretrained(load(base), str(folder / "adapter"), autocast_adapter_dtype=False)
    merged.merge_and_unload().save_pretrained(folder / "merged")
    return folder / "adapter"


@pytest.mark.parametrize("name", sorted(TINY))
def test_projecting_an_adapter_equals_extracting_from_it_merged(tmp_path: Path, name: str) -> None:
    model = TINY[name]().double()
    model.save_pretrained(tmp_path / "base")
    adapter = write_adapter(tmp_path, tmp_path / "base", name)
    statistics = write_moments(tmp_path / "statistics.safetensors", random_moments(model))
    shared = {"k": K, "rank": RANK, "modules": adapted_roles(model), "unrelated": True}
    for kind in ("none", "principal"):
        ours = planned(tmp_path / "base", "project_adapter", statistics, adapter=str(adapter), basis=kind, **shared)
        theirs = planned(tmp_path / "base", "extract", statistics, tuned=str(tmp_path / "merged"), basis=kind, **shared)
        for left, right in zip(ours.changes, theirs.changes, strict=True):
            assert left.projection == right.projection
            difference = (left.update.dense() - right.update.dense()).norm()
            assert difference < 1e-5 * right.update.dense().norm(), (kind, left.projection)
        tables = [plan.tables["matrices"].select_dtypes("number") for plan in (ours, theirs)]
        np.testing.assert_allclose(*tables, rtol=1e-6)
        assert ours.figures == pytest.approx(theirs.figures)


@pytest.mark.parametrize("name", ["llama", "phi3"])
def test_stored_types_are_widened_before_they_are_subtracted(tmp_path: Path, name: str) -> None:
    paths = write_pair(tmp_path, name, torch.bfloat16)
    base, tuned = (load(path).float() for path in paths)
    plan = planned(paths[0], "extract", tuned=str(paths[1]), rank=100)
    assert len(plan.changes) == 4
    for change in plan.changes:
        delta = weight_of(tuned, change.projection) - weight_of(base, change.projection)
        assert (change.update.dense() - delta).abs().max() < 1e-6
