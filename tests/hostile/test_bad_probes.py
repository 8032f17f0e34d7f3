"""What can be wrong with the input of a delta probe: one line that says what to do, and nothing left behind."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from readwrite_edit.cli import main
from readwrite_edit.durable import write_text
from readwrite_edit.job import result as writers
from tests.finished_run import write_finished_run
from tests.slow_delta import load, random_moments, write_moments
from tests.small_runs import write_model
from tests.tiny_models import TINY, tiny_tokenizer

PREFIX = "readwrite-edit: "
WEIGHTS = "model.safetensors"
ADAPTER = "adapter_model.safetensors"
Q, K, NORM = (f"model.layers.0.{name}.weight" for name in ("self_attn.q_proj", "self_attn.k_proj", "input_layernorm"))


@dataclass
class Desk:
    """A folder with a base, a tuned model, statistics and an adapter, all of them good."""

    place: Path
    capsys: pytest.CaptureFixture[str]

    def refused(self, *arguments: str) -> str:
        """Start a probe that must not begin: one line on stderr, exit code 2, no file changed or added."""
        before = _contents(self.place)
        lines = self.said("delta", *(arguments or ("base", "tuned")), "--statistics", "s", code=2)
        assert _contents(self.place) == before, "something was left behind or changed"
        assert len(lines) == 1 and lines[0].startswith(PREFIX), lines
        return lines[0].removeprefix(PREFIX)

    def measured(self, *arguments: str) -> dict[str, Any]:
        """Start a probe that must end well; what ``--format json`` prints."""
        shutil.rmtree(self.place / "run", ignore_errors=True)
        names = arguments or ("base", "tuned")
        self.said("delta", *names, "--statistics", "s", "--run-dir", "run", "--format", "json", code=0)
        found: dict[str, Any] = json.loads(self.output)
        return found

    def said(self, *arguments: str, code: int) -> list[str]:
        """The lines on stderr; a terminal would act on none of them, and none is of a traceback."""
        self.capsys.readouterr()
        try:
            assert main(["probe", *arguments]) == code
        except SystemExit as end:
            assert end.code == code
        captured = self.capsys.readouterr()
        self.output = captured.out
        lines = captured.err.splitlines()
        assert all(line.isprintable() for line in lines) and not any("Traceback" in line for line in lines)
        return lines

    def tensors(self, folder: str = "tuned") -> dict[str, torch.Tensor]:
        return load_file(self.place / folder / WEIGHTS)

    def store(self, tensors: dict[str, torch.Tensor], folder: str = "tuned") -> None:
        save_file(tensors, self.place / folder / WEIGHTS, metadata={"format": "pt"})

    def config(self, **changes: Any) -> None:
        """Change the adapter's configuration."""
        path = self.place / "adapter" / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    def status(self) -> dict[str, str]:
        """Of every tensor of the run."""
        table = pd.read_parquet(self.place / "run" / "tensors.parquet")
        return dict(zip(table["name"], table["status"], strict=True))


def _contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("good")
    write_model(place / "base")
    model = TINY["llama"]()
    generator = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        weight.data += 0.01 * torch.randn(weight.shape, generator=generator)
    model.save_pretrained(place / "tuned")
    write_moments(place / "s", random_moments(model))
    adapted = get_peft_model(load(place / "base"), LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False))
    adapted.save_pretrained(place / "adapter")
    return place


@pytest.fixture
def desk(tmp_path: Path, good: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    monkeypatch.setenv("READWRITE_EDIT_CACHE", str(tmp_path / "cache"))
    # the page has its own tests, and its figures take longer than all the rest
    monkeypatch.setattr(writers, "write_report", lambda run: write_text(run / "report.html", "a page " * 1000))
    place = Path(shutil.copytree(good, tmp_path / "desk"))
    monkeypatch.chdir(place)
    return Desk(place, capsys)


def test_the_good_ones_are_good(desk: Desk) -> None:
    """Else every refusal below could be for another reason."""
    found = desk.measured()
    assert len(found["tables"]["geometry"]) == 14 and found["notes"][0].startswith("7 tensors changed")
    assert len(desk.measured("base", "adapter")["tables"]["geometry"]) == 2


# Checkpoints


@pytest.mark.parametrize("folder", ["base", "tuned"])
def test_weights_cut_short_or_with_a_header_that_lies(desk: Desk, folder: str) -> None:
    weights = desk.place / folder / WEIGHTS
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    assert f"{weights}: not a whole safetensors file" in desk.refused()
    weights.write_bytes(whole[:8] + whole[8:].replace(b'"shape":[48,48]', b'"shape":[48,99]', 1))
    assert f"{weights}: not a whole safetensors file" in desk.refused()
    weights.write_bytes((1 << 60).to_bytes(8, "little") + whole[8:])
    assert f"{weights}: not a whole safetensors file" in desk.refused()
    weights.write_bytes(b"")
    assert f"{weights}: not a whole safetensors file" in desk.refused()


def test_pickled_weights_are_never_loaded(desk: Desk) -> None:
    (desk.place / "tuned" / WEIGHTS).unlink()
    torch.save({"model.norm.weight": torch.ones(48)}, desk.place / "tuned" / "pytorch_model.bin")
    assert "only pickled weights (pytorch_model.bin), which can run code and are never loaded" in desk.refused()


def test_a_place_that_is_no_checkpoint(desk: Desk) -> None:
    (desk.place / "empty").mkdir()
    assert "no config.json" in desk.refused("base", "empty")
    assert desk.refused("base", "no/such/folder") == "no/such/folder: no such folder, and not a Hub id (owner/name)"
    assert "name the folder" in desk.refused("base", "tuned/model.safetensors")
    assert "no such GGUF file" in desk.refused("base", "x.gguf")
    assert desk.refused("base").startswith("base is a model: name TUNED too")
    assert "revision 'main': only models on the Hub have revisions" in desk.refused("base@main", "tuned")


def test_a_name_with_an_escape_sequence(desk: Desk) -> None:
    (desk.place / "x\x1b[31m").mkdir()
    assert "x\\x1b[31m: no config.json" in desk.refused("base", "x\x1b[31m")
    tensors = desk.tensors()
    tensors["\x1b[31mred"] = torch.ones(2)
    desk.store(tensors)
    desk.said("delta", "base", "tuned", "--statistics", "s", "--run-dir", "run", code=0)
    assert "\\x1b[31mred: not in BASE" in desk.output and "\x1b" not in desk.output
    assert "\x1b" not in json.loads((desk.place / "run" / "summary.json").read_text())["notes"][0]
    assert "\x1b" not in (desk.place / "run" / "console.log").read_text()


def test_an_index_that_names_a_missing_shard(desk: Desk) -> None:
    index = {"weight_map": {Q: "model-1.safetensors", K: "model-2.safetensors"}}
    (desk.place / "tuned" / WEIGHTS).rename(desk.place / "tuned" / "model-1.safetensors")
    (desk.place / "tuned" / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-2.safetensors: missing, though model.safetensors.index.json names it" in desk.refused()
    shutil.copy(desk.place / "tuned" / "model-1.safetensors", desk.place / "tuned" / "model-2.safetensors")
    assert "is also in model-1.safetensors" in desk.refused()


# Pairs that do not belong together


def test_another_architecture_other_sizes_and_unrelated_weights(desk: Desk) -> None:
    TINY["gpt2"]().save_pretrained(desk.place / "gpt2")
    message = desk.refused("base", "gpt2")
    assert message.startswith("none of 14 matrices fits: ") and "absent in TUNED" in message and "fine-tune" in message
    small = TINY["llama"]().config
    small.hidden_size, small.head_dim = 32, 8
    type(TINY["llama"]())(small).save_pretrained(desk.place / "small")
    assert "is [48, 48] in BASE and [32, 32] in TUNED" in desk.refused("base", "small")
    type(TINY["llama"]())(TINY["llama"]().config).save_pretrained(desk.place / "fresh")
    message = desk.refused("base", "fresh")
    assert message.startswith("fresh does not descend from base: their weights have a cosine of ")
    assert message.endswith("--unrelated")
    assert len(desk.measured("base", "fresh", "--unrelated")["tables"]["geometry"]) == 14


def test_an_unknown_architecture_is_not_guessed(desk: Desk) -> None:
    config = json.loads((desk.place / "base" / "config.json").read_text()) | {"model_type": "gptj"}
    config |= {"n_embd": 48, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "architectures": ["GPTJForCausalLM"]}
    (desk.place / "base" / "config.json").write_text(json.dumps(config))
    assert "architecture 'gptj' is not known" in desk.refused()


def test_roles_and_layers_that_are_not_there(desk: Desk) -> None:
    assert desk.refused("base", "tuned", "--layers", "0,7") == "layer 7: llama here has layers 0 to 1"
    assert "did you mean 'q_proj'" in desk.refused("base", "tuned", "--modules", "q_prj")


def test_tensors_missing_extra_and_reshaped_are_told_and_the_rest_is_measured(desk: Desk) -> None:
    tensors = desk.tensors()
    del tensors[Q]
    tensors[K] = tensors[K][:12].clone()
    tensors["value_head.weight"] = torch.ones(1, 48)
    desk.store(tensors)
    found = desk.measured()
    assert len(found["tables"]["geometry"]) == 12
    notes = " | ".join(found["notes"])
    assert f"{Q}: not in TUNED (its matrices are not measured)" in notes and "value_head.weight: not in BASE" in notes
    assert f"{K}: [24, 48] in BASE, [12, 48] in TUNED; not compared" in notes
    assert "2 of 14 matrices were not measured" in notes
    status = desk.status()
    assert [status[name] for name in (Q, K, "value_head.weight", NORM)] == ["missing", "reshaped", "extra", "changed"]


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "base_model.model."])
def test_names_without_or_with_another_prefix_are_compared(desk: Desk, prefix: str) -> None:
    before = desk.measured()["tables"]
    desk.store({prefix + name.removeprefix("model."): tensor for name, tensor in desk.tensors().items()})
    found = desk.measured()
    assert found["tables"] == before
    assert any(
        "TUNED stores 20 tensors under other names" in note or "TUNED stores 21" in note for note in found["notes"]
    )


def test_one_tensor_under_two_names(desk: Desk) -> None:
    tensors = desk.tensors()
    tensors[Q.removeprefix("model.")] = tensors[Q].clone()
    desk.store(tensors)
    assert f"are both {Q}; keep one of them" in desk.refused()


def test_an_embedding_untied_by_the_tuned_model_and_another_vocabulary(desk: Desk) -> None:
    tied = TINY["llama"]().config
    tied.tie_word_embeddings = True
    model = type(TINY["llama"]())(tied)
    model.save_pretrained(desk.place / "tied")
    assert "lm_head.weight" not in desk.tensors("tied")
    tensors = desk.tensors("tied")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + 0.01
    (desk.place / "untied").mkdir()
    shutil.copy(desk.place / "tied" / "config.json", desk.place / "untied")
    desk.store(tensors, "untied")
    found = desk.measured("tied", "untied")
    assert any("BASE ties it to model.embed_tokens.weight" in note for note in found["notes"])
    tensors = desk.tensors()
    for name in ("lm_head.weight", "model.embed_tokens.weight"):
        tensors[name] = torch.cat([tensors[name], torch.ones(2, 48)])
    desk.store(tensors)
    found = desk.measured()
    assert len(found["tables"]["geometry"]) == 14
    assert (
        sum("[128, 48] in BASE, [130, 48] in TUNED; other vocabulary, not compared" in n for n in found["notes"]) == 2
    )


# Numbers that are none


@pytest.mark.parametrize("folder", ["base", "tuned"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e30])
def test_entries_that_are_no_numbers_leave_their_matrix_out(desk: Desk, folder: str, value: float) -> None:
    tensors = desk.tensors(folder)
    tensors[Q][3, 5] = value
    desk.store(tensors, folder)
    found = desk.measured()
    assert [row["module"] for row in found["tables"]["geometry"]].count("q_proj") == 1
    assert f"{Q}: 1 entries are NaN, infinite or above 1e16; not measured" in found["notes"]
    assert desk.status()[Q] == "not finite"
    assert "NaN" not in (desk.place / "run" / "geometry.jsonl").read_text()


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_quantised_weights_are_not_taken_for_numbers(desk: Desk, dtype: torch.dtype) -> None:
    tensors = desk.tensors()
    desk.store({name: tensor.to(dtype) if name == Q else tensor for name, tensor in tensors.items()})
    found = desk.measured()
    assert len(found["tables"]["geometry"]) == 13 and desk.status()[Q] == "unreadable"
    desk.store({name: tensor.to(dtype) for name, tensor in tensors.items()})
    message = desk.refused()
    assert "none of 14 matrices can be measured" in message and "not as plain floating-point" in message


# Statistics


def test_statistics_that_are_not_there_empty_cut_short_pickled_or_of_another_model(desk: Desk) -> None:
    path = desk.place / "s"
    whole = path.read_bytes()
    path.unlink()
    assert desk.refused().startswith("s: no such statistics file")
    for content in (b"", whole[:-7], pickle.dumps({"sites": {}})):
        path.write_bytes(content)
        assert desk.refused().startswith("s is not a whole safetensors file")
    save_file({"x": torch.ones(1)}, path)
    assert "not of statistics" in desk.refused()
    write_moments(path, {})
    assert "empty statistics store" in desk.refused()
    write_moments(path, random_moments(TINY["gpt2"]()))
    assert "statistics of none of this model's inputs" in desk.refused() and "another model?" in desk.refused()
    moments = random_moments(TINY["llama"]())
    write_moments(path, {name: moment[:32, :32] for name, moment in moments.items()})
    assert "has width 32, expected 48; of another model?" in desk.refused()


def test_gradients_that_are_not_there(desk: Desk) -> None:
    assert desk.refused("base", "tuned", "--gradients", "g").startswith("g: no such statistics file")


def test_a_text_that_is_not_there(desk: Desk) -> None:
    lines = desk.said("delta", "base", "tuned", "--text", "nothing.txt", "--run-dir", "run", code=2)
    assert len(lines) == 1 and "nothing.txt" in lines[0] and not (desk.place / "run").exists()
    (desk.place / "empty.txt").write_text("")
    lines = desk.said("delta", "base", "tuned", "--text", "empty.txt", "--run-dir", "run", code=2)
    assert len(lines) == 1 and "empty.txt" in lines[0] and not (desk.place / "run").exists()
    assert "nothing.txt" in desk.refused("base", "tuned", "--frequency", "nothing.txt")


# Adapters


def test_adapters_that_are_no_b_times_a(desk: Desk) -> None:
    for option in ("use_dora", "lora_bias"):
        desk.config(**{option: True})
        assert f"{option} is on, and its delta is not B A: merge the adapter" in desk.refused("base", "adapter")
        desk.config(**{option: False})
    desk.config(peft_type="IA3")
    assert "peft_type is 'IA3'; only LORA adapters have a delta B A" in desk.refused("base", "adapter")


def test_an_adapter_cut_short_or_without_weights_or_with_nan(desk: Desk) -> None:
    weights = desk.place / "adapter" / ADAPTER
    tensors = load_file(weights)
    name = next(iter(tensors))
    tensors[name][0, 0] = torch.nan
    save_file(tensors, weights)
    assert f"{name} holds NaN or infinity; the adapter is damaged" in desk.refused("base", "adapter")
    weights.write_bytes(weights.read_bytes()[:-20])
    assert "not a whole safetensors file" in desk.refused("base", "adapter")
    weights.unlink()
    assert f"no {ADAPTER}; only adapters in safetensors are read" in desk.refused("base", "adapter")
    (desk.place / "adapter" / "adapter_config.json").write_text("{")
    weights.touch()
    assert "adapter_config.json: not readable as JSON" in desk.refused("base", "adapter")


def test_an_adapter_of_another_base(desk: Desk) -> None:
    TINY["gpt2"]().save_pretrained(desk.place / "gpt2")
    message = desk.refused("gpt2", "adapter")
    assert message.startswith("adapter: no module of this adapter fits the base (") and "is the base wrong?" in message
    weights = desk.place / "adapter" / ADAPTER
    wide = {name: t[:, :32].clone() if "lora_A" in name else t for name, t in load_file(weights).items()}
    save_file(wide, weights)
    assert "[48, 48] in BASE, [48, 4] times [4, 32] in the adapter" in desk.refused("base", "adapter")
    desk.config(base_model_name_or_path="gone")
    assert desk.refused("adapter").startswith("adapter names gone as its base: ")
    desk.config(base_model_name_or_path=None)
    assert desk.refused("adapter") == "adapter names no base model: give BASE and TUNED"
    assert "is an adapter and tuned a model" in desk.refused("adapter", "tuned")


@pytest.mark.parametrize("change", [{"r": 8}, {"r": 0}, {"lora_alpha": "x"}, {"rank_pattern": {"q_proj": 2}}])
def test_an_adapter_whose_two_files_do_not_belong_together(desk: Desk, change: dict[str, Any]) -> None:
    desk.config(**change)
    assert "the two files do not belong together" in desk.refused("base", "adapter")


def test_what_an_adapter_saves_whole_is_told(desk: Desk) -> None:
    options: dict[str, Any] = {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"], "init_lora_weights": False}
    get_peft_model(load(desk.place / "base"), LoraConfig(r=2, **options)).save_pretrained(desk.place / "more")
    found = desk.measured("base", "more")
    assert len(found["tables"]["geometry"]) == 2
    assert any("lm_head" in note and "not measured" in note for note in found["notes"])


# Runs and folders


def test_a_run_without_an_adapter(desk: Desk) -> None:
    write_finished_run(desk.place / "align")
    shutil.rmtree(desk.place / "align" / "adapter")
    assert "align: this run has no finished adapter" in desk.refused("align")
    assert "align: this run has no finished adapter" in desk.refused("base", "align")


def test_a_run_folder_that_is_taken_or_can_not_be_made(desk: Desk) -> None:
    (desk.place / "run").mkdir()
    (desk.place / "run" / "notes.txt").write_text("mine")
    message = desk.refused("base", "tuned", "--run-dir", "run")
    assert message == "run is not empty: name a new folder, or go on with readwrite-edit probe resume run"
    assert desk.refused("base", "tuned", "--run-dir", "s") == "s is a file: name a folder for the run"
    if Path("/proc/self").is_dir():
        assert "/proc/self/run: No such file" in desk.refused("base", "tuned", "--run-dir", "/proc/self/run")
    if os.geteuid():
        (desk.place / "closed").mkdir(mode=0o555)
        assert "Permission denied" in desk.refused("base", "tuned", "--run-dir", "closed/run")


def test_values_out_of_range(desk: Desk) -> None:
    assert desk.refused("base", "tuned", "--k", "0").startswith("k: ")
    assert desk.refused("base", "tuned", "--tokens", "-3").startswith("tokens: ")
    assert desk.refused("base", "tuned", "--modules", "").startswith("modules[0]: ")


@pytest.mark.parametrize("moment", ["measure", "write_tables", "write_report"])
def test_a_full_disk_ends_in_one_line_and_the_probe_goes_on_later(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    whole = desk.measured()
    shutil.rmtree(desk.place / "run")
    with monkeypatch.context() as patch, _restored_limit():
        _fill_disk_at(moment, patch)
        *_, last = desk.said("delta", "base", "tuned", "--statistics", "s", "--run-dir", "run", code=3)
    assert last.startswith(PREFIX) and "run" in last and "resume" in last
    state = json.loads((desk.place / "run" / "state.json").read_text())
    assert state["status"] == "failed" and PREFIX + state["error"] == last
    assert not list((desk.place / "run").rglob(".*")) and not (desk.place / "run" / "report.html").exists()
    desk.said("resume", "run", "--format", "json", code=0)
    assert json.loads(desk.output)["tables"] == whole["tables"]


def _fill_disk_at(moment: str, patch: pytest.MonkeyPatch) -> None:
    """From the middle of the measurement, or from the call of a writer on, no file may grow."""
    if moment == "measure":
        from readwrite_edit.job.session import Session

        owner: Any = Session
        name, when = "log_geometry", lambda session: len(session.recorded("tensors")) == 5
    else:
        owner, name, when = writers, moment, lambda _: True
    original: Callable[..., Any] = getattr(owner, name)

    def write(first: Any, *arguments: Any, **options: Any) -> Any:
        if when(first):
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
        return original(first, *arguments, **options)

    patch.setattr(owner, name, write)


@contextmanager
def _restored_limit() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_the_tokenizer_is_asked_for_only_with_a_text(desk: Desk) -> None:
    for path in (desk.place / "base").glob("tokenizer*"):
        path.unlink()
    assert len(desk.measured()["tables"]["geometry"]) == 14
    lines = desk.said("delta", "base", "tuned", "--run-dir", "other", code=2)
    assert len(lines) == 1 and "its tokenizer can not be loaded" in lines[0]
    tiny_tokenizer().save_pretrained(desk.place / "base")
    desk.said("delta", "base", "tuned", "--run-dir", "other", "--tokens", "300", "--max-length", "32", code=0)
