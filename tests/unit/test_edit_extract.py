"""What ``extract`` and ``project-adapter`` keep, count and say."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor

from readwrite_edit.edit.context import Context
from readwrite_edit.edit.extract import base_of_adapter, plan_extract, plan_project_adapter, subspaces
from readwrite_edit.edit.plan import Plan
from readwrite_edit.edit.settings import EditRecipe
from readwrite_edit.edit.settings.extract import Extract, ProjectAdapter
from readwrite_edit.geometry import minor_basis, principal_basis
from readwrite_edit.job.session import Session
from readwrite_edit.models.pathways import find_pathways
from readwrite_edit.models.unembedding import model_prediction_basis
from tests.finished_run import write_finished_run
from tests.slow_delta import load, random_moments, write_moments
from tests.small_runs import write_model
from tests.tiny_models import TINY

Change = Callable[[str, Tensor], Tensor | None]


def context(base: Path | str, statistics: Path | None = None, **kind: Any) -> Context:
    options = {"file": str(statistics)} if statistics else {"tokens": 300, "max_length": 64}
    recipe = {"model": {"path": str(base)}, "statistics": options, **kind}
    return Context(EditRecipe.model_validate(recipe), Session())


def extracted(base: Path, tuned: Path, statistics: Path | None = None, **options: Any) -> Plan:
    return plan_extract(context(base, statistics, extract={"tuned": str(tuned), **options}))


def projected(base: Path, adapter: Path, statistics: Path | None = None, **options: Any) -> Plan:
    return plan_project_adapter(context(base, statistics, project_adapter={"adapter": str(adapter), **options}))


def write_pair(folder: Path, name: str, change: Change) -> tuple[Path, Path]:
    """A tiny model and the same with what ``change`` gives for a tensor's name; None leaves it."""
    model = TINY[name]()
    model.save_pretrained(folder / "base")
    for parameter_name, weight in model.named_parameters():
        added = change(parameter_name, weight.data)
        if added is not None:
            weight.data += added
    model.save_pretrained(folder / "tuned")
    return folder / "base", folder / "tuned"


def noise(*parts: str, scale: float = 0.02) -> Change:
    """Random change of the tensors whose name holds one of the parts."""
    generator = torch.Generator().manual_seed(0)

    def change(name: str, weight: Tensor) -> Tensor | None:
        if not any(part in name for part in parts):
            return None
        return scale * torch.randn(weight.shape, generator=generator)

    return change


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``base``, ``tuned`` (every tensor differs), an ``adapter`` of rank 5 and ``statistics``."""
    place = tmp_path_factory.mktemp("llama")
    write_pair(place, "llama", noise("weight"))
    write_model(place / "base")  # with its tokenizer
    write_moments(place / "statistics", random_moments(load(place / "base")))
    config = LoraConfig(r=5, target_modules=["q_proj", "down_proj", "lm_head"], init_lora_weights=False)
    get_peft_model(load(place / "base"), config).save_pretrained(place / "adapter")
    return place


@pytest.mark.parametrize("basis", ["principal", "minor"])
def test_the_part_lies_in_the_subspace_of_its_side(llama: Path, basis: str) -> None:
    plan = extracted(
        llama / "base", llama / "tuned", llama / "statistics", basis=basis, k=6, modules=["q_proj", "down_proj"]
    )
    moments, model = random_moments(load(llama / "base")), load(llama / "base")
    predicted = model_prediction_basis(model, find_pathways(model), 48)
    choose = {"principal": principal_basis, "minor": minor_basis}[basis]
    for change in plan.changes:
        update = change.update.dense().double()
        if change.projection.role == "q_proj":
            U = choose(torch.tensor(moments[change.projection.site]), 6)
            outside = update - update @ U @ U.T
        else:
            V = predicted[:, :6] if basis == "principal" else predicted[:, -6:]
            outside = update - V @ V.T @ update
        assert len(change.update.A) == 6 and outside.norm() < 1e-6 * update.norm()
        A = change.update.A
        assert A.dtype == torch.float32 and (A @ A.T - torch.eye(6)).abs().max() < 1e-6


def test_wide_inputs_take_their_directions_from_the_cache(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above a width directions are kept as float32: the same to that, and the second time nothing is decomposed."""
    monkeypatch.setenv("READWRITE_EDIT_CACHE", str(tmp_path))
    options = {"k": 6, "modules": ["q_proj", "o_proj"]}
    for basis in ("principal", "minor"):
        narrow = extracted(llama / "base", llama / "tuned", llama / "statistics", basis=basis, **options)
        with monkeypatch.context() as wide:
            wide.setattr(subspaces, "DEAR", 10)
            plans = [
                extracted(llama / "base", llama / "tuned", llama / "statistics", basis=basis, **options)
                for _ in range(2)
            ]
        kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "bases").iterdir()}
        assert len(kept) == (3 if basis == "principal" else 6)  # two inputs and the unembedding
        for left, first, second in zip(narrow.changes, *(plan.changes for plan in plans), strict=True):
            assert (left.update.dense() - first.update.dense()).norm() < 1e-5 * left.update.dense().norm()
            assert torch.equal(first.update.dense(), second.update.dense())


def test_without_a_file_statistics_are_collected_and_without_a_basis_nothing_is_loaded(llama: Path) -> None:
    for basis, loaded in (("none", False), ("principal", True)):
        given = context(llama / "base", extract={"tuned": str(llama / "tuned"), "basis": basis, "k": 3})
        plan = plan_extract(given)
        assert ("model" in vars(given)) == loaded
        assert len(plan.changes) == 4 and plan.effect is None and not plan.prompts


def test_matrices_that_did_not_change_are_told_and_not_adapted(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, "llama", noise("layers.1.self_attn.q_proj", "layers.0.self_attn.k_proj"))
    plan = extracted(*pair, rank=2)
    assert [(c.projection.layer, c.projection.role) for c in plan.changes] == [(0, "k_proj"), (1, "q_proj")]
    assert plan.notes[0] == "2 matrices did not change and are not in the adapter: layer 0 q_proj, layer 1 k_proj"
    assert plan.figures["matrices"] == plan.figures["matrices_without_change"] == 2
    row = plan.tables["matrices"].query("layer == 0 and module == 'q_proj'").iloc[0]
    assert row["rank"] == row["norm"] == row["retained_norm"] == 0 and math.isnan(row["retained_fraction"])


def test_a_rank_deficient_change_has_no_empty_directions(tmp_path: Path) -> None:
    """Rank 2, exact in float32: nothing of rank 16 is left to fill up."""

    def change(name: str, weight: Tensor) -> Tensor | None:
        if "q_proj" not in name:
            return None
        added = torch.zeros_like(weight)
        added[3, 5], added[7, 2] = 0.5, 0.25
        return (weight + added) - weight

    plan = extracted(*write_pair(tmp_path, "llama", change), modules=["q_proj"])
    assert list(plan.tables["matrices"]["rank"]) == [2, 2]
    assert plan.figures["retained_fraction"] == pytest.approx(1)


def test_energy_chooses_each_rank_and_says_where_the_limit_stops_it(llama: Path) -> None:
    options = {"modules": ["q_proj", "k_proj"], "energy": 0.6}
    whole = extracted(llama / "base", llama / "tuned", rank=None, **options)
    table = whole.tables["matrices"]
    assert (table["retained_of_projected_fraction"] >= 0.6).all() and table["rank"].nunique() > 1
    for change, row in zip(whole.changes, table.to_dict("records"), strict=True):
        energy = change.update.B.double().square().sum(dim=0)
        assert len(energy) == row["rank"]
        assert float(energy[:-1].sum()) / row["norm"] ** 2 < 0.6, "one rank less would not do"
    short = extracted(llama / "base", llama / "tuned", max_rank=3, **options)
    assert (short.tables["matrices"]["rank"] == 3).all()
    assert "4 matrices hold less than a share of 0.6 within max_rank 3: layer 0 q_proj, " in " ".join(short.notes)


def test_roles_of_a_fused_module_add_up(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, "phi3", noise("qkv_proj"))
    plan = extracted(*pair, rank=3)
    # a module of rank 3 + 3, with 48 inputs and 48 + 24 + 24 outputs, in two layers
    assert plan.figures["largest_rank"] == 6 and plan.figures["parameters"] == 2 * 6 * (48 + 96)
    assert plan.figures["adapter_bytes"] == 4 * plan.figures["parameters"]
    assert any("their ranks add up" in note for note in plan.notes)
    assert {change.update.B.shape[0] for change in plan.changes} == {48, 24}


def test_what_is_not_in_the_adapter_is_told(tmp_path: Path) -> None:
    base, tuned = write_pair(tmp_path, "qwen2", noise("self_attn", "norm"))
    weights = load_file(tuned / "model.safetensors")
    weights["model.embed_tokens.weight"] = weights["model.embed_tokens.weight"][:100].clone()
    save_file(weights, tuned / "model.safetensors", metadata={"format": "pt"})
    told = "\n".join(extracted(base, tuned).notes)
    assert "model.embed_tokens.weight: [128, 48] in BASE, [100, 48] in TUNED; other vocabulary" in told
    assert "4 biases of the chosen matrices changed too and are not in the adapter" in told
    assert "v_proj.bias" not in told, "not of a chosen matrix"
    assert "no other tensor was looked at" in told
    quantised = context(base, extract={"tuned": str(tuned)})
    model = quantised.recipe.model.model_copy(update={"quantization": "nf4"})
    quantised.recipe = quantised.recipe.model_copy(update={"model": model})
    assert "in nf4 the adapter adds it to the quantised ones" in plan_extract(quantised).notes[-1]


def test_the_plan_says_what_it_keeps(llama: Path) -> None:
    plan = extracted(llama / "base", llama / "tuned", llama / "statistics", basis="principal", k=4, layers=[1])
    name = llama / "tuned"
    assert plan.title == f"the change of {name} in 4 principal directions"
    assert plan.why == f"{plan.title}: q_proj, k_proj of 1 layer, at rank 16; pathways: the recipe's"


# Adapters


def test_an_adapter_keeps_its_rank_and_its_pathways_where_nothing_is_asked(llama: Path) -> None:
    plan = projected(llama / "base", llama / "adapter")
    assert {change.projection.role for change in plan.changes} == {"q_proj", "down_proj"}
    assert (plan.tables["matrices"]["rank"] == 5).all() and plan.figures["retained_fraction"] == pytest.approx(1)
    weights = load_file(llama / "adapter" / "adapter_model.safetensors")
    for change in plan.changes:
        name = f"base_model.model.{change.projection.module}.lora_"
        delta = 8 / 5 * weights[f"{name}B.weight"] @ weights[f"{name}A.weight"]
        assert (change.update.dense() - delta).norm() < 1e-6 * delta.norm()
    assert any(
        note == "1 adapted modules are not among the chosen pathways, left out: lm_head.weight" for note in plan.notes
    )
    assert plan.why.endswith("at its rank; pathways: all that it changes")


def test_an_adapter_at_a_lower_rank_in_some_layers(llama: Path) -> None:
    plan = projected(llama / "base", llama / "adapter", rank=2, layers=[1], modules=["q_proj", "k_proj"])
    ((change,), row) = plan.changes, plan.tables["matrices"].iloc[0]
    assert (change.projection.layer, change.projection.role, row["rank"]) == (1, "q_proj", 2)
    assert 0 < row["retained_fraction"] < 1 and row["subspace_energy_fraction"] == 1
    energy = projected(llama / "base", llama / "adapter", energy=float(row["retained_fraction"]) + 0.01)
    assert energy.tables["matrices"].query("layer == 1 and module == 'q_proj'")["rank"].item() == 3


def test_factors_that_are_no_update_are_told(llama: Path, tmp_path: Path) -> None:
    weights = load_file(llama / "adapter" / "adapter_model.safetensors")
    weights["base_model.model.model.norm.weight"] = torch.ones(48)
    (tmp_path / "adapter_config.json").write_text((llama / "adapter" / "adapter_config.json").read_text())
    save_file(weights, tmp_path / "adapter_model.safetensors", metadata={"format": "pt"})
    notes = projected(llama / "base", tmp_path).notes
    assert "base_model.model.model.norm.weight: in the adapter, but no factor of an update B A; left out" in notes


def test_the_base_of_an_adapter_or_a_run(llama: Path, tmp_path: Path) -> None:
    assert base_of_adapter(str(llama / "adapter")) == str(llama / "base")
    config = json.loads((llama / "adapter" / "adapter_config.json").read_text())
    changed = config | {"base_model_name_or_path": "owner/name", "revision": "v2"}
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(changed))
    save_file({"x": torch.ones(1)}, tmp_path / "adapter" / "adapter_model.safetensors")
    assert base_of_adapter(str(tmp_path / "adapter")) == "owner/name@v2"
    run = write_finished_run(tmp_path / "run", base=str(llama / "base"), layers=2)
    for file in (tmp_path / "adapter").iterdir():
        (run / "adapter" / file.name).write_bytes(file.read_bytes())
    assert base_of_adapter(str(run)) == str(llama / "base"), "the run's recipe knows better"


# Settings


def test_a_rank_or_a_share_of_energy() -> None:
    assert Extract.model_validate({"tuned": "x", "energy": 0.9}).rank is None
    assert ProjectAdapter.model_validate({"adapter": "x"}).rank is None
    wrong = [
        ({"tuned": "x", "energy": 0.9, "rank": 4}, "rank 4 is given too"),
        ({"tuned": "x", "rank": None}, "neither rank nor energy is given"),
        ({"tuned": "x", "modules": ["q_proj", "q_proj"]}, "named twice"),
    ]
    for options, message in wrong:
        with pytest.raises(ValidationError, match=message):
            Extract.model_validate(options)
