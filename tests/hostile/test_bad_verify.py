"""Adapters that are damaged, changed or another model's: what ``verify`` says of them, and with which exit code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save_file

from readwrite_edit.align.job import start_run
from readwrite_edit.cli import main
from tests.small_runs import as_recipe, small_recipe, write_model

PREFIX = "readwrite-edit: "
WEIGHTS, CONFIG, METADATA = "adapter_model.safetensors", "adapter_config.json", "readwrite_edit.json"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; no test changes it."""
    place = tmp_path_factory.mktemp("finished")
    recipe = small_recipe(place, train={"max_steps": 2}, evaluation={"generations": [], "max_new_tokens": 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("READWRITE_EDIT_CACHE", str(place / "cache"))
        assert start_run(as_recipe(recipe), "small", place / "run").summary["certificate"]["passed"]
    return place / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints")))


@pytest.fixture
def verify(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Call the command; its exit code, stdout and stderr."""

    def call(path: Path, *options: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["verify", str(path), *options])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture
def refused(verify) -> Callable[..., str]:
    """Call it for something that it can not judge: one line, exit code 2, nothing on stdout."""

    def call(path: Path, *options: str) -> str:
        code, out, err = verify(path, *options)
        assert (code, out) == (2, ""), err
        assert err.startswith(PREFIX) and err.count("\n") == 1 and err[:-1].isprintable() and len(err) < 700
        return err.strip().removeprefix(PREFIX)

    return call


@pytest.fixture
def failing(verify) -> Callable[..., set[str]]:
    """Call it for something that breaks the certificate: the names of the checks that do not hold, exit code 3."""

    def call(path: Path, *options: str) -> set[str]:
        code, out, err = verify(path, *options)
        assert code == 3 and err == "" and out.endswith("the certificate does not hold\n"), out + err
        return {line.split()[1].rstrip(":") for line in out.splitlines() if line.startswith("FAIL")}

    return call


def _rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load((folder / WEIGHTS).read_bytes())
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def _rewrite_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_a_whole_run_holds(run: Path, verify) -> None:
    code, out, err = verify(run, "--exact", "--json")
    assert (code, err, json.loads(out)["passed"]) == (0, "", True)


# Not an adapter


def test_folders_that_are_no_adapter(run: Path, refused, tmp_path: Path) -> None:
    assert refused(tmp_path / "nowhere") == (
        f"{tmp_path / 'nowhere' / METADATA} does not exist: the adapter was not made by readwrite-edit"
    )
    (tmp_path / "empty\x1b[2J").mkdir()
    assert r"empty\x1b[2J" in refused(tmp_path / "empty\x1b[2J")
    assert str(run / "recipe.yaml") in refused(run / "recipe.yaml")
    shutil.rmtree(run / "adapter")
    assert "the adapter was not made by readwrite-edit" in refused(run)


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_a_missing_file_is_named(run: Path, refused, name: str) -> None:
    (run / "adapter" / name).unlink()
    assert refused(run / "adapter") == f"{run / 'adapter'} is not an adapter: {name} is missing"


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_weights_cut_short(run: Path, refused, kept: int) -> None:
    whole = (run / "adapter" / WEIGHTS).read_bytes()
    (run / "adapter" / WEIGHTS).write_bytes(whole[:kept])
    assert refused(run).startswith(f"the adapter in {run / 'adapter'} is damaged or cut short")


def test_a_basis_cut_short(run: Path, refused) -> None:
    (run / "basis.safetensors").write_bytes((run / "basis.safetensors").read_bytes()[:-1])
    assert refused(run).startswith(f"{run / 'basis.safetensors'} is damaged or cut short")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"r": 4}', "\udcff"])
def test_a_configuration_of_nothing(run: Path, refused, text: str) -> None:
    (run / "adapter" / CONFIG).write_bytes(text.encode("utf-8", "surrogateescape"))
    assert str(run / "adapter") in refused(run)


# Metadata


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"schema": "1"}', '{"schema": true}'])
def test_metadata_that_is_no_json_object_with_a_schema(run: Path, refused, text: str) -> None:
    (run / "adapter" / METADATA).write_text(text)
    assert refused(run).startswith(str(run / "adapter" / METADATA))


def test_metadata_of_a_newer_schema(run: Path, refused) -> None:
    (run / "adapter" / METADATA).write_text('{"schema": 2}')
    assert refused(run).endswith("has schema 2, this version reads up to 1; upgrade")


@pytest.mark.parametrize("key", ["base", "modules", "logits", "rounding_loss"])
def test_metadata_that_lacks_a_key(run: Path, refused, key: str) -> None:
    _rewrite_json(run / "adapter" / METADATA, lambda metadata: metadata.pop(key))
    assert refused(run) == f"{run / 'adapter' / METADATA} lacks {key}: the file is damaged or not ours"


LIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "base": lambda metadata: metadata.update(base="a model"),
    "base.source": lambda metadata: metadata["base"].pop("source"),
    "base.weights_hash": lambda metadata: metadata["base"].update(weights_hash=None),
    "base.dtype": lambda metadata: metadata["base"].update(dtype="float31"),
    "modules": lambda metadata: metadata.update(modules=[]),
    "modules.rows": lambda metadata: [module.pop("rows") for module in metadata["modules"].values()],
    "modules.basis": lambda metadata: [module.pop("basis_sha256") for module in metadata["modules"].values()],
    "logits": lambda metadata: metadata.update(logits=[1]),
    "logits.sha256": lambda metadata: metadata["logits"].pop("sha256"),
    "logits.input_ids": lambda metadata: metadata["logits"].update(input_ids=[[1, "two"]]),
    "rounding_loss": lambda metadata: metadata.update(rounding_loss="some"),
}


@pytest.mark.parametrize("name", LIES)
def test_metadata_of_the_wrong_kinds(run: Path, refused, name: str) -> None:
    """Refused before the base is loaded; what is well-formed and false, the certificate finds."""
    _rewrite_json(run / "adapter" / METADATA, LIES[name])
    message = refused(run)
    assert name.partition(".")[0] in message or "float31" in message


# Another base


def test_an_adapter_for_another_base(run: Path, refused, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other", "qwen2")
    assert f"the adapter in {run / 'adapter'} belongs to another base" in refused(run, "--base", str(other))
    moved = str(tmp_path / "moved")
    assert moved in refused(run, "--base", moved)


def test_a_base_that_is_no_longer_where_the_adapter_says(run: Path, refused, tmp_path: Path) -> None:
    _rewrite_json(run / "adapter" / METADATA, lambda data: data["base"].update(source=str(tmp_path / "gone")))
    assert str(tmp_path / "gone") in refused(run)


# Changed weights


def test_a_changed_entry_of_the_basis(run: Path, failing) -> None:
    def nudge(tensors: dict[str, torch.Tensor]) -> None:
        name = next(name for name in sorted(tensors) if "lora_A" in name)
        tensors[name][0, 0] += 0.5

    _rewrite(run / "adapter", nudge)
    assert failing(run) >= {"basis", "containment"}


def test_changed_and_lost_numbers_of_the_update(run: Path, failing) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        name = next(name for name in sorted(tensors) if "lora_B" in name)
        tensors[name][0, 0] = float("nan")

    _rewrite(run / "adapter", spoil)
    assert failing(run / "adapter") >= {"finite", "containment", "reload"}


def test_a_tensor_too_many_or_too_few(run: Path, refused) -> None:
    _rewrite(run / "adapter", lambda tensors: tensors.update(extra=torch.zeros(1)))
    assert "'extra' is in only one of them" in refused(run)
    _rewrite(run / "adapter", lambda tensors: [tensors.pop("extra"), tensors.pop(sorted(tensors)[0])])
    assert "lora_A.weight' is in only one of them" in refused(run)
