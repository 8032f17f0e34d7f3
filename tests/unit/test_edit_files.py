"""An edit on a model and on the disk: stock LoRA, the base never written, back again bit for bit."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from readwrite_edit.adapter import certify
from readwrite_edit.adapter.install import lora_layer
from readwrite_edit.adapter.logits import LogitsRecord
from readwrite_edit.edit.assembly import assembled
from readwrite_edit.edit.context import Context
from readwrite_edit.edit.files import attach, certify_edit, detach, read_changes, write_adapter
from readwrite_edit.edit.settings import EditRecipe
from readwrite_edit.errors import AdapterError, EditError
from readwrite_edit.geometry import LowRank
from readwrite_edit.interventions.changes import Change
from readwrite_edit.interventions.forward import edited
from readwrite_edit.job.session import Session
from readwrite_edit.models.fingerprint import weights_hash
from readwrite_edit.models.pathways import find_pathways
from tests.small_edits import contents, dense, random_change, random_changes
from tests.small_runs import write_model
from tests.tiny_models import TINY

IDS = torch.arange(24).view(2, 12) + 5
LAYOUTS = ["llama", "gpt2", "phi3", "gpt_neox", "falcon_new_decoder", "bloom", "opt"]


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits


def context_on(folder: Path, **measure: Any) -> Context:
    """An edit of a model in a folder; what the intervention is does not matter here."""
    steer = {"direction": {"token": "a"}, "prompts": ["the cat"], "layer": 0}
    recipe = EditRecipe.model_validate({"model": {"path": str(folder)}, "steer": steer, "measure": measure})
    return Context(recipe, Session())


def anatomy(model: PreTrainedModel) -> tuple[list[str], list[str]]:
    return [name for name, _ in model.named_modules()], [name for name, _ in model.named_parameters()]


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_adapter_computes_what_the_hooks_compute_and_comes_off_without_a_trace(name: str) -> None:
    model = TINY[name]()
    changes = random_changes(find_pathways(model).projections, bias=True)
    before, fingerprint, parts = logits(model), weights_hash(model), anatomy(model)
    with edited(model, [changes]):
        expected = logits(model)
    wrapped = attach(model, changes)
    attached = logits(wrapped)
    assert weights_hash(wrapped) == fingerprint
    assert not wrapped.training and not any(weight.requires_grad for weight in wrapped.parameters())
    assert float((attached - before).abs().max()) > 0.1
    torch.testing.assert_close(attached, expected, rtol=0, atol=2e-5)
    assert detach(wrapped) is model
    assert torch.equal(logits(model), before) and weights_hash(model) == fingerprint
    assert anatomy(model) == parts and not hasattr(model, "peft_config")


def test_ranks_of_one_module_add_and_the_configuration_is_stock() -> None:
    model = TINY["llama"]()
    q, k = find_pathways(model).select(["q_proj", "k_proj"], [0])
    wrapped = attach(model, [random_change(q, 2), random_change(k, 1), random_change(q, 3, seed=1)])
    config = wrapped.peft_config["default"]
    assert config.r == config.lora_alpha == 5 and config.rank_pattern == config.alpha_pattern == {k.module: 1}
    assert config.modules_to_save is None and config.init_lora_weights is True and config.lora_bias is False
    assert set(config.target_modules) == {q.module, k.module}
    update = lora_layer(wrapped, assembled(model, [random_change(k, 1)])[0].target)
    assert update.scaling == {"default": 1.0}


def test_roles_of_a_fused_matrix_share_an_a_and_leave_other_rows_at_zero() -> None:
    model = TINY["gpt2"]()
    q, k, v = find_pathways(model).select(["q_proj", "k_proj", "v_proj"], [1])
    A = torch.randn(2, q.d_in, generator=torch.Generator().manual_seed(3))
    shared = [Change(one, LowRank(random_change(one, 2).update.B, A)) for one in (q, k)]
    (part,) = assembled(model, shared)
    assert part.A.shape == (2, 48) and part.B.shape == (144, 2)
    assert not part.B[96:].any() and part.B[:96].all(), "V stays, Q and K change"
    (apart,) = assembled(model, [*shared, random_change(v, 1)])
    assert apart.A.shape == (3, 48), "V reads by another A"
    (twice,) = assembled(model, [shared[0], shared[0]])
    assert twice.A.shape == (4, 48), "two changes of one projection are two, whatever they read by"


def test_a_constant_alone_is_an_adapter_of_rank_1_that_adds_it() -> None:
    model = TINY["llama"]()
    (o_proj,) = find_pathways(model).select(["o_proj"], [0])
    constant = torch.linspace(-1, 1, o_proj.d_out)
    empty = LowRank(torch.zeros(o_proj.d_out, 0), torch.zeros(0, o_proj.d_in))
    wrapped = attach(model, [Change(o_proj, empty, constant)])
    layer = model.get_submodule(o_proj.module)
    x = torch.randn(3, o_proj.d_in, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(x) - layer.base_layer(x), constant.expand(3, -1), rtol=0, atol=1e-6)
    assert wrapped.peft_config["default"].r == 1 and wrapped.peft_config["default"].lora_bias is True


@pytest.fixture(scope="module", params=["llama", "gpt2", "phi3"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny model on the disk, a context on it, changes with constants, and the adapter folder."""
    place = tmp_path_factory.mktemp(request.param)
    context = context_on(write_model(place / "model", request.param))
    changes = random_changes(context.pathways.projections[::2], bias=True)
    model = attach(context.model, changes)
    try:
        write_adapter(context, model, changes, place / "adapter")
    finally:
        detach(model)
    return context, changes, place / "adapter"


def test_what_was_written_is_read_back_whole(written: Any) -> None:
    context, changes, folder = written
    back = read_changes(folder, context.pathways)
    expected, found = dense(changes), dense(back)
    assert found.keys() == expected.keys(), "a projection that shares a module with an edited one is not edited"
    for key, delta in expected.items():
        torch.testing.assert_close(found[key], delta, rtol=1e-5, atol=1e-6)
    given = {(c.projection.layer, c.projection.role): c.bias for c in changes}
    for change in back:
        bias = given[change.projection.layer, change.projection.role]
        assert (change.bias is None) == (bias is None)
        if change.bias is not None and bias is not None:
            torch.testing.assert_close(change.bias.float(), bias, rtol=0, atol=0)


def test_writing_what_was_read_gives_the_same_tensors(written: Any, tmp_path: Path) -> None:
    context, _, folder = written
    back = read_changes(folder, context.pathways)
    model = attach(context.model, back)
    try:
        for name in ("first", "second", "second"):
            write_adapter(context, model, back, tmp_path / name)
    finally:
        detach(model)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")
    weights = "adapter_model.safetensors"
    assert (tmp_path / "first" / weights).read_bytes() == (folder / weights).read_bytes()


def test_a_base_that_is_never_loaded_gets_the_same_adapter_without_a_record(written: Any, tmp_path: Path) -> None:
    context, changes, folder = written
    fresh = context_on(Path(context.source.location), certify=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        write_adapter(fresh, None, changes, tmp_path / "adapter")
    assert "model" not in vars(fresh) and "fingerprint" not in vars(fresh)
    ours, theirs = contents(tmp_path / "adapter"), contents(folder)
    assert all(ours[name] == theirs[name] for name in ("adapter_config.json", "adapter_model.safetensors"))
    metadata = json.loads(ours["readwrite_edit.json"])
    assert metadata["logits"] is None and metadata["base"]["weights_hash"] is None
    with pytest.raises(AdapterError, match=r"measure\.certify"):
        certify_edit(context, tmp_path / "adapter")


def test_metadata_names_base_kind_and_rows(written: Any) -> None:
    context, changes, folder = written
    metadata = json.loads((folder / "readwrite_edit.json").read_text())
    config = json.loads((folder / "adapter_config.json").read_text())
    assert metadata["edit"] == {"kind": "steer", "name": None}
    assert metadata["base"]["source"] == config["base_model_name_or_path"] == context.source.location
    assert metadata["base"]["weights_hash"] == context.fingerprint and metadata["rounding_loss"] > 0
    fused = {change.projection.module for change in changes if change.projection.rows is not None}
    assert {name for name, module in metadata["modules"].items() if module["rows"] is not None} == fused
    assert config["lora_bias"] is True and config["modules_to_save"] is None
    assert config["target_modules"] == sorted(config["target_modules"])


def test_constants_in_rows_of_other_projections_fail_the_certificate(written: Any) -> None:
    folder = written[2]
    metadata = json.loads((folder / "readwrite_edit.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    name = next(iter(metadata["modules"]))
    size = tensors[f"base_model.model.{name}.lora_B.weight"].shape[0]
    metadata["modules"] = {name: {"rows": [[0, size // 2]], "basis_sha256": None}}
    tensors[f"base_model.model.{name}.lora_B.weight"][size // 2 :] = 0
    tensors[f"base_model.model.{name}.lora_B.bias"].zero_()
    assert certify._rows(metadata, tensors)[1]
    tensors[f"base_model.model.{name}.lora_B.bias"][-1] = 1e-30
    assert not certify._rows(metadata, tensors)[1]


def test_the_certificate_says_of_an_edit_what_is_so() -> None:
    module = {"m": {"rows": None, "basis_sha256": None}}
    assert "plain LoRA" in certify._basis({"modules": module}, {})[2]
    assert "an edit" in certify._basis({"modules": module, "edit": {"kind": "steer", "name": None}}, {})[2]
    assert "an edit" in certify._containment({"modules": module, "edit": {"kind": "steer", "name": None}}, {}, {})[2]
    record = LogitsRecord.of(TINY["llama"](), [[5, 6]])
    name, passed, detail = record.check_merge(torch.ones(1), None, 0.0, quantized=False)
    assert (name, passed) == ("merge", True) and "not possible" in detail and "lora_bias" in detail


def test_nothing_and_numbers_that_are_none_are_refused() -> None:
    model = TINY["llama"]()
    (q_proj,) = find_pathways(model).select(["q_proj"], [0])
    with pytest.raises(EditError, match="no matrix"):
        attach(model, [])
    for part in ("A", "B", "bias"):
        change = random_change(q_proj, bias=True)
        {"A": change.update.A, "B": change.update.B, "bias": change.bias}[part].view(-1)[0] = torch.nan
        with pytest.raises(EditError, match=r"layer 0 q_proj: .* holds NaN"):
            attach(model, [change])
    assert not hasattr(model, "peft_config")


@pytest.mark.parametrize("roles", [["gate_proj"], ["down_proj"], ["q_proj", "gate_proj", "up_proj"]])
def test_names_that_peft_takes_for_fused_experts_are_refused_and_leave_the_model_alone(roles: list[str]) -> None:
    """The dense layer of a mixture of experts: PEFT would put the adapter on the experts of the others."""
    model = TINY["qwen3_moe"]()
    parts, before = anatomy(model), logits(model)
    with pytest.raises(EditError, match="stock PEFT"):
        attach(model, random_changes(find_pathways(model).select(roles, [0])))
    assert anatomy(model) == parts and torch.equal(logits(model), before)
    (o_proj,) = find_pathways(model).select(["o_proj"], [0])
    assert detach(attach(model, [random_change(o_proj)])) is model
