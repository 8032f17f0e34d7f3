"""A penalty is what its definition says, and it holds the policy to its base."""

import json

import pytest
import torch

from readwrite_edit import BasisChoice, build_adapter, choose_targets, find_pathways
from readwrite_edit.adapter.install import factors_of
from readwrite_edit.align.job import start_run
from readwrite_edit.align.penalty import penalty
from readwrite_edit.errors import RecipeError
from readwrite_edit.evaluate.texts import text_metrics
from readwrite_edit.recipe.penalty import Penalty
from readwrite_edit.runs import records
from readwrite_edit.statistics import collect_token_statistics
from tests.small_runs import as_recipe, small_recipe
from tests.tiny_models import tiny_model


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("READWRITE_EDIT_CACHE", str(tmp_path / "cache"))


def sequences() -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 60, (12 + 5 * number,), generator=generator).tolist() for number in range(4)]


def adapted(name: str = "llama"):
    """A tiny model, an adapter that changes it, its targets and the protected text's statistics."""
    model = tiny_model(name)
    projections = find_pathways(model).select(["q_proj", "k_proj"])
    statistics = collect_token_statistics(model, sequences(), projections)
    targets = choose_targets(statistics, projections, BasisChoice(rank=4))
    wrapped = build_adapter(model, targets)
    return wrapped, targets, statistics


def disturb(model, targets, scale: float = 0.3) -> None:
    generator = torch.Generator().manual_seed(2)
    for target in targets:
        weight = factors_of(model, target)[1]
        weight.data = scale * torch.randn(weight.shape, generator=generator)


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_kl_is_the_kl_of_the_sequences_and_has_a_gradient(name):
    model, targets, statistics = adapted(name)
    term = penalty(Penalty(kl=2.0, kl_tokens=10_000), model, targets, {"p": (1.0, sequences())}, statistics)
    assert float(term(0).detach()) == pytest.approx(0.0, abs=1e-6)
    disturb(model, targets)
    found = term(0)
    assert float(found) == pytest.approx(2 * text_metrics(model, sequences())["kl"], rel=1e-4)
    found.backward()
    assert all(float(factors_of(model, target)[1].grad.norm()) > 0 for target in targets)


def test_kl_reads_other_sequences_at_each_step_and_the_same_at_the_same_step():
    model, targets, statistics = adapted()
    disturb(model, targets)
    term = penalty(Penalty(kl=1.0, kl_tokens=15), model, targets, {"p": (1.0, sequences())}, statistics)
    values = [float(term(step)) for step in range(4)]
    assert len(set(values)) == 4
    assert float(term(4)) == pytest.approx(values[0], rel=1e-6)  # four sequences, one at a step


def test_price_is_a_share_of_the_matrices_own_output_energy():
    """tr(ΔW C ΔWᵀ)/tr(W C Wᵀ) of dense matrices, in float64."""
    model, targets, statistics = adapted()
    disturb(model, targets)
    term = penalty(Penalty(price=3.0), model, targets, {"p": (1.0, sequences())}, statistics)
    shares = []
    for target in targets:
        C = statistics.second_moment(target.projections[0].site)
        a, b = (factor.detach().double() for factor in factors_of(model, target))
        weight = model.base_model.model.get_submodule(target.module).base_layer.weight.detach().double()
        shares.append(float(torch.trace(b @ a @ C @ (b @ a).T) / torch.trace(weight @ C @ weight.T)))
    assert float(term(0)) == pytest.approx(3 * sum(shares) / len(shares), rel=1e-5)
    term(0).backward()
    assert all(float(factors_of(model, target)[1].grad.norm()) > 0 for target in targets)


def test_both_are_summed_and_neither_is_nothing():
    model, targets, statistics = adapted()
    disturb(model, targets)
    protect = {"p": (1.0, sequences())}
    one, other, both = (
        penalty(Penalty(**weights), model, targets, protect, statistics)
        for weights in ({"kl": 1.0}, {"price": 1.0}, {"kl": 1.0, "price": 1.0})
    )
    assert float(both(0)) == pytest.approx(float(one(0)) + float(other(0)), rel=1e-5)
    assert penalty(Penalty(), model, targets, protect, statistics) is None
    with pytest.raises(RecipeError, match=r"calibration\.protect"):
        penalty(Penalty(kl=1.0), model, targets, {}, None)


@pytest.mark.parametrize("weights", [{"kl": 300.0}, {"price": 3000.0}], ids=["kl", "price"])
def test_a_penalised_run_costs_less_and_records_its_penalty(weights, tmp_path):
    train = {"max_steps": 6, "save_strategy": "no"}
    ends = {}
    for name, chosen in (("free", {}), ("held", weights)):
        recipe = small_recipe(tmp_path, train=train, adapter={"basis": "lora"}) | {"penalty": chosen}
        ends[name] = start_run(as_recipe(recipe), name, tmp_path / name).summary["after"]
    assert ends["held"]["kl_prose"] < 0.5 * ends["free"]["kl_prose"]
    lines = [line["values"] for line in records.metrics(tmp_path / "held") if line["kind"] == "train"]
    assert lines[0]["penalty"] == pytest.approx(0.0, abs=1e-5) and lines[-1]["penalty"] > 0
    free = [line["values"] for line in records.metrics(tmp_path / "free") if line["kind"] == "train"]
    assert all("penalty" not in values for values in free)


def test_a_recipe_with_a_penalty_needs_protected_text(tmp_path):
    recipe = small_recipe(tmp_path, calibration={"protect": []}) | {"penalty": {"kl": 1.0}}
    with pytest.raises(ValueError, match="penalty needs a protected text"):
        as_recipe(json.loads(json.dumps(recipe)))
