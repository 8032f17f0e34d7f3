"""The sensitivity probe: each variant is the delta probe with one setting changed, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from readwrite_edit.probe import probe_delta, probe_sensitivity
from readwrite_edit.probe.sensitivity.variants import DEFAULT, variants
from readwrite_edit.probe.settings.delta import DeltaSettings
from readwrite_edit.probe.settings.sensitivity import SensitivitySettings
from tests.small_runs import preference_rows, write_model
from tests.tiny_models import TINY, tiny_tokenizer

SMALL = {"k": 4, "ks": (2, 4), "texts": ("builtin:prose",), "tokens": 400, "max_length": 32, "batch_size": 4}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    """Base, tuned and a file of chats."""
    folder = tmp_path_factory.mktemp("pair")
    model, generator = TINY["llama"](), torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data.add_(1e-3 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder / "tuned")
    tiny_tokenizer().save_pretrained(folder / "tuned")
    chats = folder / "chats.jsonl"
    chats.write_text("".join(json.dumps(row) + "\n" for row in preference_rows(40)), encoding="utf-8")
    return str(write_model(folder / "base")), str(folder / "tuned"), str(chats)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("READWRITE_EDIT_CACHE", str(tmp_path / "cache"))


def test_every_variant_is_the_delta_probe_with_its_settings(pair: tuple[str, str, str]) -> None:
    base, tuned, chats = pair
    given = SMALL | {"text": chats, "text_format": "chat"}
    table = probe_sensitivity(base, tuned, **given).frame.set_index("variant")
    made = variants(SensitivitySettings.checked({"base": base, "tuned": tuned, **given}))
    assert list(table.index) == [variant.name for variant in made]
    for variant in made:
        settings = variant.settings.model_dump(exclude={"base", "tuned"})
        alone = probe_delta(base, tuned, **settings).figures
        for name in ("read_relative_isotropic", "write_relative_isotropic", "asymmetry_ratio"):
            assert table.loc[variant.name, name] == pytest.approx(alone[name], rel=1e-6), (variant.name, name)


def test_variants_differ_from_the_start_in_one_definition_each() -> None:
    settings: SensitivitySettings = SensitivitySettings.checked({"base": "b", "tuned": "t", **SMALL})
    start, *changed = variants(settings)
    assert start.name == DEFAULT and len({variant.name for variant in changed}) == len(changed)
    assert {"k", "centring of inputs", "first position", "normalisation", "prediction subspace"} <= {
        variant.group for variant in changed
    }
    for variant in changed:
        assert _differences(start.settings, variant.settings) - {"text_format"}, variant.name
        assert len(_differences(start.settings, variant.settings) - {"text_format"}) == 1, variant.name


def test_given_statistics_leave_out_what_they_fix() -> None:
    settings: SensitivitySettings = SensitivitySettings.checked({"base": "b", "tuned": "t", "statistics": "s", **SMALL})
    groups = {variant.group for variant in variants(settings)}
    assert "calibration text" not in groups and "first position" not in groups and "k" in groups


def _differences(one: DeltaSettings, other: DeltaSettings) -> set[str]:
    left: dict[str, Any] = one.model_dump()
    return {name for name, value in other.model_dump().items() if left[name] != value}
