"""What can be wrong with a tuned model, an adapter or statistics to extract from: one error that says what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from readwrite_edit.edit.context import Context
from readwrite_edit.edit.extract import base_of_adapter, plan_extract, plan_project_adapter
from readwrite_edit.edit.settings import EditRecipe
from readwrite_edit.errors import AdapterError, DataError, EditError, ModelError, ReadWriteEditError
from readwrite_edit.job.session import Session
from tests.finished_run import write_finished_run
from tests.slow_delta import load, random_moments, write_moments
from tests.tiny_models import TINY

WEIGHTS, ADAPTER = "model.safetensors", "adapter_model.safetensors"
Q = "model.layers.1.self_attn.q_proj.weight"


@dataclass
class Desk:
    """A folder with a base, a tuned model, an adapter and statistics, all of them good, and the current one."""

    place: Path

    def planned(self, kind: str = "extract", **options: Any) -> Any:
        base, statistics = options.pop("base", "base"), options.pop("statistics", "statistics")
        named = {"extract": {"tuned": "tuned"}, "project_adapter": {"adapter": "adapter"}}[kind]
        recipe = {"model": {"path": base}, kind: named | options, "statistics": {"file": statistics}}
        make = plan_extract if kind == "extract" else plan_project_adapter
        return make(Context(EditRecipe.model_validate(recipe), Session()))

    def refused(self, error: type[ReadWriteEditError], kind: str = "extract", **options: Any) -> str:
        """The message; nothing may have been left behind or changed."""
        before = contents(self.place)
        with pytest.raises(error) as caught:
            self.planned(kind, **options)
        assert contents(self.place) == before and caught.value.exit_code == 2
        return str(caught.value)

    def edit(self, file: str, change: Callable[[dict[str, Tensor]], object]) -> None:
        """Change the tensors of a file."""
        tensors = load_file(self.place / file)
        change(tensors)
        save_file(tensors, self.place / file, metadata={"format": "pt"})

    def config(self, **changes: Any) -> None:
        """Change the adapter's configuration."""
        path = self.place / "adapter" / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("good")
    model = TINY["llama"]()
    model.save_pretrained(place / "base")
    write_moments(place / "statistics", random_moments(model))
    generator = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        weight.data += 0.01 * torch.randn(weight.shape, generator=generator)
    model.save_pretrained(place / "tuned")
    config = LoraConfig(r=4, target_modules=["q_proj", "o_proj"], init_lora_weights=False)
    get_peft_model(load(place / "base"), config).save_pretrained(place / "adapter")
    return place


@pytest.fixture
def desk(tmp_path: Path, good: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv("READWRITE_EDIT_CACHE", str(tmp_path / "cache"))
    place = Path(shutil.copytree(good, tmp_path / "desk"))
    monkeypatch.chdir(place)
    desk = Desk(place)
    desk.config(base_model_name_or_path="base")
    return desk


def test_the_good_ones_are_good(desk: Desk) -> None:
    """Else every refusal below could be for another reason."""
    for basis in ("none", "principal", "minor"):
        assert len(desk.planned(basis=basis).changes) == len(desk.planned("project_adapter", basis=basis).changes) == 4


# Tuned models


def test_an_adapter_or_a_run_is_pointed_to_its_command(desk: Desk) -> None:
    write_finished_run(desk.place / "run")
    shutil.copytree(desk.place / "adapter", desk.place / "run" / "adapter", dirs_exist_ok=True)
    for name in ("adapter", "run"):
        message = desk.refused(EditError, tuned=name)
        assert message == (f"{name} is an adapter, not a full model: use readwrite-edit edit project-adapter {name}")
    assert "use readwrite-edit edit extract MODEL tuned" in desk.refused(EditError, "project_adapter", adapter="tuned")
    assert "is an adapter, not a model" in desk.refused(ModelError, base="adapter")


def test_nothing_that_differs(desk: Desk) -> None:
    message = desk.refused(EditError, tuned="base")
    assert message.startswith("base: nothing differs: none of 4 chosen matrices has changed; choose other modules")


def test_nothing_of_it_in_the_subspace(desk: Desk) -> None:
    """A change that reads only the weakest direction of an input whose directions are the axes."""
    moments = {site: torch.diag(torch.arange(48, 0, -1.0)).numpy() for site in _attention_inputs()}
    write_moments(desk.place / "axes", moments)
    shutil.copytree(desk.place / "base", desk.place / "narrow")
    desk.edit(f"narrow/{WEIGHTS}", lambda tensors: tensors[Q][:, -1].add_(1.0))
    message = desk.refused(EditError, tuned="narrow", statistics="axes", basis="principal")
    assert message.startswith("narrow: nothing of what changed lies in the 16 principal directions")
    assert len(desk.planned(tuned="narrow", statistics="axes", basis="minor").changes) == 1


def _attention_inputs() -> list[str]:
    return [f"model.layers.{layer}.attention_input" for layer in range(2)]


def test_models_that_do_not_belong_together(desk: Desk) -> None:
    TINY["gpt2"]().save_pretrained(desk.place / "gpt2")
    assert "none of 4 matrices fits" in desk.refused(ModelError, tuned="gpt2")
    config = TINY["llama"]().config
    type(TINY["llama"]())(config).save_pretrained(desk.place / "fresh")
    assert desk.refused(ModelError, tuned="fresh").startswith("fresh does not descend from base: ")
    assert len(desk.planned(tuned="fresh", unrelated=True).changes) == 4
    config.hidden_size, config.head_dim = 32, 8
    type(TINY["llama"]())(config).save_pretrained(desk.place / "small")
    assert "is [48, 48] in BASE and [32, 32] in TUNED" in desk.refused(ModelError, tuned="small")


@pytest.mark.parametrize("kind", ["missing", "reshaped", "quantised"])
def test_a_chosen_matrix_that_can_not_be_compared_is_no_silence(desk: Desk, kind: str) -> None:
    changes: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
        "missing": (lambda tensors: tensors.pop(Q), "not in TUNED"),
        "reshaped": (lambda tensors: tensors.update({Q: tensors[Q][:12].clone()}), "[12, 48] in TUNED"),
        "quantised": (lambda tensors: tensors.update({Q: tensors[Q].to(torch.int8)}), "stored as I8"),
    }
    desk.edit(f"tuned/{WEIGHTS}", changes[kind][0])
    message = desk.refused(ModelError)
    assert (
        message.startswith(f"1 of 4 chosen matrices can not be compared, such as {Q}: ") and changes[kind][1] in message
    )
    assert len(desk.planned(layers=[0]).changes) == 2, "the rest can be had"


def test_a_tuned_model_all_of_whose_matrices_are_quantised(desk: Desk) -> None:
    def quantise(tensors: dict[str, Tensor]) -> None:
        tensors.update({name: tensor.to(torch.int8) for name, tensor in tensors.items() if tensor.ndim == 2})

    desk.edit(f"tuned/{WEIGHTS}", quantise)
    assert "not as plain floating-point; restore full weights first" in desk.refused(ModelError)


@pytest.mark.parametrize("folder", ["base", "tuned"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none(desk: Desk, folder: str, value: float) -> None:
    desk.edit(f"{folder}/{WEIGHTS}", lambda tensors: tensors[Q][3].fill_(value))
    message = desk.refused(ModelError)
    assert message.endswith(f"{folder}/{WEIGHTS}: {Q} holds NaN or infinity; the checkpoint is damaged")
    assert len(desk.planned(layers=[0]).changes) == 2


def test_a_difference_too_large_for_its_type(desk: Desk) -> None:
    desk.edit(f"base/{WEIGHTS}", lambda tensors: tensors[Q][3].fill_(-3e38))
    desk.edit(f"tuned/{WEIGHTS}", lambda tensors: tensors[Q][3].fill_(3e38))
    assert "differs from the base's by more than its type can hold" in desk.refused(ModelError, unrelated=True)


def test_files_that_are_damaged_or_absent(desk: Desk) -> None:
    assert desk.refused(ModelError, tuned="no/such/folder").startswith("no/such/folder: no such folder")
    assert "only models on the Hub have revisions" in desk.refused(ModelError, tuned="tuned@main")
    weights = desk.place / "tuned" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "not a whole safetensors file" in desk.refused(ModelError)


def test_roles_and_layers_that_are_not_there(desk: Desk) -> None:
    for kind in ("extract", "project_adapter"):
        assert desk.refused(ModelError, kind, layers=[0, 7]) == "layer 7: llama here has layers 0 to 1"
    TINY["gpt2"]().save_pretrained(desk.place / "gpt2")
    message = desk.refused(ModelError, base="gpt2", tuned="gpt2", modules=["gate_proj"])
    assert message.startswith("gpt2 has no 'gate_proj': its MLP has no gate")


# Subspaces


@pytest.mark.parametrize("kind", ["extract", "project_adapter"])
def test_a_subspace_that_does_not_fit(desk: Desk, kind: str) -> None:
    message = desk.refused(EditError, kind, basis="principal", k=49)
    assert message == "k 49: the input of layer 0 q_proj has 48 dimensions; expected at most as many"
    message = desk.refused(EditError, kind, basis="minor", k=49, modules=["o_proj"])
    assert message.startswith("k 49: the output of layer 0 o_proj has 48 dimensions")


def test_statistics_that_are_not_of_this_model(desk: Desk) -> None:
    write_moments(desk.place / "gpt2", random_moments(TINY["gpt2"]()))
    write_moments(desk.place / "narrow", {site: torch.eye(12).numpy() for site in _attention_inputs()})
    write_moments(desk.place / "half", {site: torch.eye(48).numpy() for site in _attention_inputs()[:1]})
    expected = {
        "none": "no such statistics file",
        "gpt2": "no statistics of site 'model.layers.0.attention_input' and 1 more; it holds transformer.h.0.",
        "narrow": "has width 12, expected 48",
        "half": "no statistics of site 'model.layers.1.attention_input'; it holds model.layers.0.attention_input; "
        "collect them with readwrite-edit probe activations base --sites attention_input --save FILE",
        "base/model.safetensors": "but not of statistics",
    }
    for name, message in expected.items():
        said = desk.refused(DataError, basis="principal", statistics=name)
        assert message in said and ("(of another model?)" in said) == (name == "gpt2"), name


@pytest.mark.parametrize(("energies", "basis", "remedy"), [
    ([1.0] * 10 + [0.0] * 38, "principal", "10 of 48 directions, so that 16 principal ones are not determined: give "
     "more text, a k of at most 10"),
    ([1.0] * 10 + [0.0] * 38, "minor", "10 of 48 directions, so that 16 minor ones are not determined: give more "
     "text, a k of at least 38"),
    ([0.0] * 48, "principal", "only 0 of 48 directions"),
    ([0.0] * 48, "minor", "only 0 of 48 directions"),
])  # fmt: skip
def test_directions_that_only_rounding_would_choose(desk: Desk, energies: list[float], basis: str, remedy: str) -> None:
    rotation = torch.linalg.qr(torch.randn(48, 48, generator=torch.Generator().manual_seed(0)).double())[0]
    moment = (rotation * torch.tensor(energies).double()) @ rotation.T
    write_moments(desk.place / "deficient", {site: moment.numpy() for site in _attention_inputs()})
    assert remedy in desk.refused(EditError, basis=basis, statistics="deficient")
    if any(energies):
        whole = {"principal": 10, "minor": 38}[basis]
        assert len(desk.planned(basis=basis, statistics="deficient", k=whole).changes) == 4


def test_a_checkpoint_without_an_unembedding(desk: Desk) -> None:
    desk.edit(f"base/{WEIGHTS}", lambda tensors: tensors.pop("lm_head.weight"))
    message = desk.refused(ModelError, basis="principal", modules=["o_proj"])
    assert message.startswith("the model's files hold no unembedding")
    assert len(desk.planned(basis="principal").changes) == 4, "what reads needs none"


# Adapters


def test_an_adapter_of_another_base(desk: Desk) -> None:
    desk.config(base_model_name_or_path="owner/other")
    message = desk.refused(AdapterError, "project_adapter")
    assert message.startswith("adapter is of owner/other, not of base: name its own base, or go on with --unrelated")
    assert len(desk.planned("project_adapter", unrelated=True).changes) == 4
    TINY["gpt2"]().save_pretrained(desk.place / "gpt2")
    message = desk.refused(AdapterError, "project_adapter", base="gpt2", unrelated=True)
    assert message.startswith("adapter: no module of this adapter fits the base")


def test_an_adapter_that_names_no_base(desk: Desk) -> None:
    desk.config(base_model_name_or_path=None)
    with pytest.raises(AdapterError, match="adapter names no base model: name it"):
        base_of_adapter("adapter")
    with pytest.raises(EditError, match="tuned is a full model"):
        base_of_adapter("tuned")
    assert len(desk.planned("project_adapter").changes) == 4, "the recipe names it"


@pytest.mark.parametrize("option", ["use_dora", "lora_bias"])
def test_an_update_that_is_no_product(desk: Desk, option: str) -> None:
    desk.config(**{option: True})
    assert f"{option} is on, and its delta is not B A: merge the adapter" in desk.refused(
        AdapterError, "project_adapter"
    )


def test_an_adapter_that_adapts_none_of_it_or_changes_nothing(desk: Desk) -> None:
    message = desk.refused(AdapterError, "project_adapter", modules=["k_proj"])
    assert message.startswith("adapter adapts none of the 2 chosen matrices; it adapts model.layers.0.self_attn.o_proj")
    desk.edit(f"adapter/{ADAPTER}", lambda tensors: [tensor.zero_() for tensor in tensors.values()])
    assert desk.refused(EditError, "project_adapter").startswith("adapter: nothing differs: none of 4 chosen matrices")


def test_an_adapter_with_damaged_factors(desk: Desk) -> None:
    desk.edit(f"adapter/{ADAPTER}", lambda tensors: next(iter(tensors.values())).fill_(float("nan")))
    assert "holds NaN or infinity; the adapter is damaged" in desk.refused(AdapterError, "project_adapter")
    (desk.place / "adapter" / ADAPTER).unlink()
    assert "only adapters in safetensors are read" in desk.refused(AdapterError, "project_adapter")
