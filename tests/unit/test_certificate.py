"""The certificate passes what a run leaves behind, and each kind of breakage fails its own check."""

from __future__ import annotations

import ast
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from readwrite_edit.adapter import certify, certify_folder, logits, read_metadata
from readwrite_edit.adapter.certify import read_adapter
from readwrite_edit.adapter.logits import stock_logits
from readwrite_edit.align.job import Outcome, start_run
from readwrite_edit.errors import AdapterError
from tests.small_runs import as_recipe, small_recipe

pytestmark = pytest.mark.cold_process

Tensors = dict[str, Tensor]
Q = "model.layers.0.self_attn.q_proj"
A, B = f"base_model.model.{Q}.lora_A.weight", f"base_model.model.{Q}.lora_B.weight"


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    """One finished run of a tiny model."""
    folder = tmp_path_factory.mktemp("certified")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("READWRITE_EDIT_CACHE", str(folder / "cache"))
        yield start_run(as_recipe(small_recipe(folder)), "certified", folder / "run")


@pytest.fixture
def adapter(outcome: Outcome, tmp_path: Path) -> Path:
    """A copy of the run's adapter that a test may break."""
    return Path(shutil.copytree(outcome.folder.adapter, tmp_path / "adapter"))


@pytest.fixture
def bases(outcome: Outcome) -> Tensors:
    return load_file(outcome.folder.basis)


@pytest.fixture
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise AssertionError("a damaged adapter must be refused before a process is started")

    monkeypatch.setattr(certify, "stock_logits", refuse)


def base_of(outcome: Outcome) -> tuple[str, str]:
    recorded = read_metadata(outcome.folder.adapter)["base"]
    return recorded["source"], recorded["weights_hash"]


def break_tensors(adapter: Path, change: Callable[[Tensors], None]) -> tuple[dict[str, Any], Tensors]:
    tensors = {name: tensor.clone() for name, tensor in load_file(adapter / "adapter_model.safetensors").items()}
    change(tensors)
    save_file(tensors, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    return read_metadata(adapter), read_adapter(adapter)[1]


def break_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_finished_run_is_certified_whole(outcome: Outcome) -> None:
    checks = {check["name"]: check for check in outcome.summary["certificate"]["checks"]}
    assert outcome.summary["certificate"]["passed"] and all(check["passed"] for check in checks.values())
    assert set(checks) == {"finite", "configuration", "basis", "containment", "rows", "reload", "merge"}
    assert "differ by 0" in checks["reload"]["detail"] and "4 modules" in checks["basis"]["detail"]
    assert "bfloat16 would alter" in checks["merge"]["detail"]


def test_weights_changed_after_the_logits_were_recorded_fail_the_reload_alone(
    outcome: Outcome, adapter: Path, bases: Tensors
) -> None:
    """End to end, in a fresh process: a B changed by one part in 1000 is still a read-subspace update."""
    break_tensors(adapter, lambda tensors: tensors[B].mul_(1.001))
    certificate = certify_folder(adapter, *base_of(outcome), bases=bases, exact=True)
    assert [check.name for check in certificate.checks if not check.passed] == ["reload"]
    reload = next(check for check in certificate.checks if check.name == "reload")
    assert not certificate.passed and "0 is demanded" in reload.detail
    assert certificate.as_dict()["passed"] is False


def test_a_basis_that_moved_by_one_bit_is_noticed(adapter: Path, bases: Tensors) -> None:
    def next_float(tensors: Tensors) -> None:
        tensors[A][0, 0] = torch.nextafter(tensors[A][0, 0], torch.tensor(9.0))

    intact = certify._basis(*break_tensors(adapter, lambda _tensors: None))
    moved = certify._basis(*break_tensors(adapter, next_float))
    assert intact[1] and not moved[1] and Q in moved[2]


def test_an_update_that_leaves_its_basis_is_not_contained(adapter: Path, bases: Tensors) -> None:
    assert certify._containment(*break_tensors(adapter, lambda _tensors: None), bases)[1]
    metadata, tensors = break_tensors(adapter, lambda tensors: tensors[A][0, 0].add_(1e-4))
    passed, detail = certify._containment(metadata, tensors, bases)[1:]
    outside = _dense_outside(tensors[B], tensors[A], bases[Q])
    assert not passed and outside > 1e-6 and f"{outside:.1e}" in detail


def test_without_saved_bases_lora_a_itself_must_be_orthonormal(adapter: Path) -> None:
    metadata, tensors = break_tensors(adapter, lambda tensors: tensors[A].mul_(1.01))
    assert not certify._containment(metadata, tensors, {})[1]


def test_a_whitened_basis_contains_its_span_and_no_more(adapter: Path, bases: Tensors) -> None:
    scales = torch.linspace(0.5, 2.0, bases[Q].shape[1])
    metadata, tensors = break_tensors(adapter, lambda tensors: tensors[A].mul_(scales[:, None]))
    scaled = {**bases, Q: bases[Q] * scales}
    assert not certify._containment(metadata, tensors, scaled)[1]
    assert certify._containment(metadata | {"whiten": True}, tensors, scaled)[1]
    tensors[A][0, 0] += 1e-4
    assert not certify._containment(metadata | {"whiten": True}, tensors, scaled)[1]


def _dense_outside(lora_b: Tensor, lora_a: Tensor, basis: Tensor) -> float:
    delta = lora_b.double() @ lora_a.double()
    return float((delta - delta @ basis.double() @ basis.double().T).norm() / delta.norm())


def test_numbers_that_are_not_finite_are_named(adapter: Path) -> None:
    _, tensors = break_tensors(adapter, lambda tensors: tensors[B][1, 1].fill_(torch.nan))
    assert certify._finite(tensors) == ("finite", False, f"NaN or infinity in {B}")


def test_an_update_of_nan_is_not_called_contained(adapter: Path, bases: Tensors) -> None:
    metadata, tensors = break_tensors(adapter, lambda tensors: tensors[B][1, 1].fill_(torch.nan))
    assert not certify._containment(metadata, tensors, bases)[1]


def test_rows_of_other_projections_must_be_exactly_zero(adapter: Path) -> None:
    metadata, tensors = break_tensors(adapter, lambda tensors: tensors[B][40:].zero_())
    metadata["modules"][Q]["rows"] = [[0, 20], [20, 40]]
    assert certify._rows(metadata, tensors)[1] and "1 fused" in certify._rows(metadata, tensors)[2]
    tensors[B][45, 2] = 1e-30
    assert certify._rows(metadata, tensors) == ("rows", False, f"rows of other projections changed in {Q}")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"lora_alpha": 8}, "lora_alpha"),
        ({"rank_pattern": {Q: 2}}, "lora_alpha"),
        ({"rank_pattern": {Q: 9}, "alpha_pattern": {Q: 9}}, "largest rank"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"init_lora_weights": "eva"}, "init_lora_weights"),
        ({"target_modules": ["q_proj", "k_proj"]}, "not sorted"),
    ],
)
def test_a_configuration_that_other_loaders_read_differently_fails(
    adapter: Path, changes: dict[str, Any], complaint: str
) -> None:
    assert certify._configuration(adapter, read_adapter(adapter)[0])[1]
    break_json(adapter / "adapter_config.json", **changes)
    name, passed, detail = certify._configuration(adapter, read_adapter(adapter)[0])
    assert (name, passed) == ("configuration", False) and complaint in detail


@pytest.mark.usefixtures("no_process")
def test_an_adapter_of_another_base_is_refused(outcome: Outcome, adapter: Path) -> None:
    with pytest.raises(AdapterError, match="another base"):
        certify_folder(adapter, base_of(outcome)[0], "0" * 64)


@pytest.mark.usefixtures("no_process")
@pytest.mark.parametrize("kept", [0, 6, 200, -1])
def test_weights_that_are_cut_short_are_refused(outcome: Outcome, adapter: Path, kept: int) -> None:
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(AdapterError, match="damaged or cut short"):
        certify_folder(adapter, *base_of(outcome))


@pytest.mark.usefixtures("no_process")
@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json", "readwrite_edit.json"])
def test_a_missing_file_is_named(outcome: Outcome, adapter: Path, name: str) -> None:
    (adapter / name).unlink()
    with pytest.raises(AdapterError, match=name):
        certify_folder(adapter, *base_of(outcome))


@pytest.mark.usefixtures("no_process")
@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"schema": "one"}', '{"schema": 99}', '{"schema": 1}'])
def test_metadata_that_is_damaged_or_newer_is_refused(outcome: Outcome, adapter: Path, text: str) -> None:
    (adapter / "readwrite_edit.json").write_text(text)
    with pytest.raises(AdapterError, match=r"readwrite_edit\.json|metadata"):
        certify_folder(adapter, *base_of(outcome))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_configuration_that_is_damaged_is_refused(adapter: Path, text: str) -> None:
    (adapter / "adapter_config.json").write_text(text)
    with pytest.raises(AdapterError):
        certify._configuration(adapter, read_adapter(adapter)[0])


@pytest.mark.usefixtures("no_process")
@pytest.mark.parametrize("change", [lambda t: t.pop(B), lambda t: t.update({"more.weight": torch.ones(1)})])
def test_tensors_that_the_metadata_does_not_name_are_refused(
    outcome: Outcome, adapter: Path, change: Callable[[Tensors], None]
) -> None:
    break_tensors(adapter, change)
    with pytest.raises(AdapterError, match="do not fit its metadata"):
        certify_folder(adapter, *base_of(outcome))


def test_a_process_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'Traceback' >&2\necho 'KeyError: lora' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(logits.sys, "executable", str(broken))
    fields = {"device": "cpu", "dtype": "float32", "quantization": None, "attn_implementation": "sdpa", "tf32": False}
    with pytest.raises(AdapterError, match=r"can not load.*KeyError: lora$"):
        stock_logits("base", tmp_path, [[1]], base_fields=fields)


def test_the_fresh_process_imports_nothing_of_this_package() -> None:
    script = Path(logits.__file__).with_name("reload.py")
    tree = ast.walk(ast.parse(script.read_text()))
    imported = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
        for node in tree
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert {name.split(".")[0] for name in imported} <= {"torch", "peft", "safetensors", "transformers"} | set(
        sys.stdlib_module_names
    )
