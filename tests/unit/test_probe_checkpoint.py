"""What a user means by a checkpoint: models and adapters, in folders, runs and on the Hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import save_file

from readwrite_edit.errors import AdapterError, ModelError
from readwrite_edit.models.source import ModelSource
from readwrite_edit.probe import checkpoint
from readwrite_edit.probe.checkpoint import Checkpoint, base_of, parse_model, resolve_checkpoint
from tests.finished_run import write_finished_run
from tests.tiny_models import TINY


def write_adapter(folder: Path, **config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    values = {"peft_type": "LORA", "r": 2, "base_model_name_or_path": "owner/base"} | config
    (folder / "adapter_config.json").write_text(json.dumps(values))
    save_file({}, folder / "adapter_model.safetensors")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    TINY["llama"]().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("text", "kind", "location", "revision"),
    [
        ("owner/name", "hub", "owner/name", None),
        ("owner/name@main", "hub", "owner/name", "main"),
        ("owner/name@refs/pr/1", "hub", "owner/name", "refs/pr/1"),
        ("bundled:smollm2-135m-instruct", "bundled", "smollm2-135m-instruct", None),
    ],
)
def test_a_model_with_and_without_a_revision(text: str, kind: Any, location: str, revision: str | None) -> None:
    assert parse_model(text) == ModelSource(kind, location, revision)


def test_a_folder_with_an_at_sign_is_a_folder_and_has_no_revision(tmp_path: Path) -> None:
    (tmp_path / "m@x").mkdir()
    assert parse_model(str(tmp_path / "m@x")) == ModelSource("folder", str(tmp_path / "m@x"))
    with pytest.raises(ModelError, match="only models on the Hub have revisions"):
        parse_model(f"{tmp_path}@main")
    with pytest.raises(ModelError, match="owner/name@: no revision after the @"):
        parse_model("owner/name@")


def test_a_model_folder(model: Path) -> None:
    found = resolve_checkpoint(str(model))
    assert found == Checkpoint(str(model), "model", model)
    assert found.files == [model / "model.safetensors"] and found.source == ModelSource("folder", str(model))


def test_an_adapter_folder_names_its_base_with_its_revision(tmp_path: Path) -> None:
    found = resolve_checkpoint(str(write_adapter(tmp_path / "a", revision="v2")))
    assert (found.kind, found.base) == ("adapter", "owner/base@v2")
    assert found.files == [tmp_path / "a" / "adapter_model.safetensors"]
    assert resolve_checkpoint(str(write_adapter(tmp_path / "b"))).base == "owner/base"
    assert resolve_checkpoint(str(write_adapter(tmp_path / "c", base_model_name_or_path=None))).base is None


def test_a_run_is_its_adapter_on_the_base_of_its_recipe(tmp_path: Path) -> None:
    run = write_finished_run(tmp_path / "run", base="x/y")
    with pytest.raises(AdapterError, match="this run has no finished adapter; name one of its checkpoints"):
        resolve_checkpoint(str(run))
    write_adapter(run / "adapter")
    found = resolve_checkpoint(str(run))
    assert found == Checkpoint(str(run), "adapter", run / "adapter", "x/y")
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    recipe["model"]["revision"] = "v3"
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert resolve_checkpoint(str(run)).base == "x/y@v3"
    (run / "recipe.yaml").write_text("model: [")
    assert resolve_checkpoint(str(run)).base == "owner/base"


def test_an_adapter_on_the_hub_comes_before_a_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: Path
) -> None:
    adapter = write_adapter(tmp_path / "a")
    monkeypatch.setattr(checkpoint, "fetch_adapter", lambda source: adapter if source.revision else None)
    monkeypatch.setattr(checkpoint, "model_folder", lambda source: model)
    assert resolve_checkpoint("owner/name@v1") == Checkpoint("owner/name@v1", "adapter", adapter, "owner/base")
    assert resolve_checkpoint("owner/name") == Checkpoint("owner/name", "model", model)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'; only LORA"),
        ({"use_dora": True}, "use_dora is on"),
        ({"lora_bias": True}, "lora_bias is on"),
        ({"use_qalora": True}, "use_qalora is on"),
    ],
)
def test_adapters_whose_delta_is_not_b_a(tmp_path: Path, config: dict[str, Any], words: str) -> None:
    with pytest.raises(AdapterError, match=words):
        resolve_checkpoint(str(write_adapter(tmp_path / "a", **config)))


@pytest.mark.parametrize("text", ["", "[]", "{", "3", '"LORA"'])
def test_a_configuration_that_is_none(tmp_path: Path, text: str) -> None:
    (write_adapter(tmp_path / "a") / "adapter_config.json").write_text(text)
    with pytest.raises(AdapterError, match=r"adapter_config.json"):
        resolve_checkpoint(str(tmp_path / "a"))


def test_pickled_adapters_are_not_read(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(AdapterError, match="only adapters in safetensors are read"):
        resolve_checkpoint(str(folder))


def test_the_base_of_an_adapter(tmp_path: Path, model: Path) -> None:
    adapter = resolve_checkpoint(str(write_adapter(tmp_path / "a", base_model_name_or_path=str(model))))
    assert base_of(adapter) == Checkpoint(str(model), "model", model)
    with pytest.raises(AdapterError, match="names no base model: give BASE and TUNED"):
        base_of(Checkpoint("a", "adapter", tmp_path))
    with pytest.raises(ModelError, match=r"a names /no/where as its base: .*; give BASE and TUNED"):
        base_of(Checkpoint("a", "adapter", tmp_path, "/no/where"))
