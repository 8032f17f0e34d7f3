"""Every supported architecture, end to end: statistics, adapter, three steps, certificate."""

import math

import pytest
from safetensors.torch import load_file

from readwrite_edit.align.job import start_run
from readwrite_edit.runs import records
from tests.small_runs import as_recipe, small_recipe
from tests.tiny_models import TINY


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("READWRITE_EDIT_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", sorted(TINY))
def test_a_run_ends_with_a_certified_adapter(name, tmp_path):
    recipe = as_recipe(small_recipe(tmp_path, name))
    outcome = start_run(recipe, name, tmp_path / "run")
    checks = {check["name"]: check for check in outcome.summary["certificate"]["checks"]}
    assert outcome.status == "finished"
    assert set(checks) == {"finite", "configuration", "basis", "containment", "rows", "reload", "merge"}
    assert all(check["passed"] for check in checks.values()), checks
    assert "differ by 0" in checks["reload"]["detail"]
    rows = records.geometry(tmp_path / "run")
    last = [row for row in rows if row["step"] == 3]
    assert len(last) == 4 and all(row["norm"] > 0 for row in last)
    assert all(math.isclose(row["read_fraction"], 1.0, abs_tol=1e-5) for row in last)
    tensors = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    assert any(bool(tensor.any()) for key, tensor in tensors.items() if "lora_B" in key)
