"""Models that are damaged, dangerous or not there: one line that says what to do, and nothing run or loaded."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch

from readwrite_edit.errors import ModelError
from readwrite_edit.models import conversion
from readwrite_edit.models.loading import load_config, load_model, load_tokenizer
from readwrite_edit.models.source import parse_source
from tests.tiny_gguf import write_tiny_gguf
from tests.tiny_models import TINY

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    TINY["llama"]().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def gguf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("READWRITE_EDIT_CACHE", str(tmp_path / "cache"))
    write_tiny_gguf(tmp_path / "tiny.gguf")
    return tmp_path / "tiny.gguf"


def refusal(path: Path, load=load_model) -> str:
    with pytest.raises(ModelError) as caught:
        load(parse_source(str(path)))
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_pickled_weights_are_never_loaded(folder: Path) -> None:
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (folder / "ran",))

    (folder / WEIGHTS).unlink()
    torch.save({"model.norm.weight": Bomb()}, folder / "pytorch_model.bin")
    message = refusal(folder)
    assert "only pickled weights (pytorch_model.bin)" in message
    assert "convert" in message
    assert not (folder / "ran").exists()


def test_the_repositorys_code_is_never_run(folder: Path) -> None:
    names = {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M", "AutoTokenizer": ["evil.T", None]}
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")
    edit_config(folder, model_type="evil", auto_map=names)
    for load in (load_config, load_tokenizer, load_model):
        message = refusal(folder, load)
        assert "'evil' needs the repository's own code (auto_map), which is never run" in message
    # A known type with code of its own is loaded with the code of transformers.
    edit_config(folder, model_type="llama")
    assert type(load_model(parse_source(str(folder)))).__module__.startswith("transformers.")
    (folder / "tokenizer_config.json").write_text(json.dumps({"auto_map": names, "tokenizer_class": "T"}))
    refusal(folder, load_tokenizer)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_safetensors_cut_short(folder: Path, kept: int) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[:kept])
    assert f"{folder / WEIGHTS}: not a whole safetensors file" in refusal(folder)


@pytest.mark.parametrize(
    "lie",
    [
        lambda header: header["model.norm.weight"].update(shape=[2**40]),
        lambda header: header["model.norm.weight"].update(dtype="F64"),
        lambda header: header["model.norm.weight"].update(data_offsets=[0, 2**62]),
        lambda header: header["model.norm.weight"].update(data_offsets=[8, 4]),
        lambda header: header.pop("model.norm.weight"),
    ],
)
def test_safetensors_whose_header_lies(folder: Path, lie) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (size,) = struct.unpack("<Q", whole[:8])
    header = json.loads(whole[8 : 8 + size])
    lie(header)
    new = json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(new)) + new + whole[8 + size :])
    assert f"{folder / WEIGHTS}: not a whole safetensors file" in refusal(folder)


def test_a_header_longer_than_memory(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", 2**63) + b"{}")
    assert "not a whole safetensors file" in refusal(folder)


def test_weights_missing_from_whole_files(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(folder / WEIGHTS)
    del state["model.layers.1.mlp.up_proj.weight"]
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    assert "1 weights are missing, such as 'model.layers.1.mlp.up_proj.weight'" in refusal(folder)


def test_a_missing_shard(tmp_path: Path) -> None:
    TINY["llama"]().save_pretrained(tmp_path, max_shard_size="50KB")
    shard = sorted(tmp_path.glob("model-*.safetensors"))[1]
    shard.unlink()
    assert f"{shard}: missing, though model.safetensors.index.json names it" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({"weight_map": {"a": "../outside.safetensors"}}, "is not the name of a safetensors file in this folder"),
        ({"weight_map": {"a": "pytorch_model.bin"}}, "is not the name of a safetensors file in this folder"),
        ({"weight_map": {"a": 3}}, "'weight_map' must map"),
        ({"weight_map": {}}, "'weight_map' must map"),
        ([], "expected a JSON object, found list"),
    ],
)
def test_bad_indices(folder: Path, index: object, words: str) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert words in refusal(folder)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a": NaN', "\x00\x01", "[]", "null"])
def test_configurations_that_are_no_json_object(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    assert str(folder / "config.json") in refusal(folder, load_config)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_attention_heads": 0},
        {"hidden_size": "wide"},
        {"hidden_size": -48},
        {"hidden_size": 10**9},
        {"num_key_value_heads": 3},
        {"model_type": "no-such-type"},
        {"model_type": None},
        {"model_type": ["llama"]},
        {"model_type": "t5"},
        {"hidden_act": "no-such-function"},
        {"rope_parameters": {"rope_type": "no-such-type"}},
        {"intermediate_size": 96},
    ],
)
def test_configurations_that_make_no_sense(folder: Path, changes: dict[str, object]) -> None:
    edit_config(folder, **changes)
    assert str(folder) in refusal(folder)


def test_folders_that_are_no_model(tmp_path: Path, folder: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no config.json" in refusal(empty)
    (empty / "adapter_config.json").write_text("{}")
    assert "this is an adapter, not a model" in refusal(empty)
    (folder / WEIGHTS).unlink()
    assert "no weights; expected model.safetensors" in refusal(folder)


def test_a_folder_without_tokenizer(folder: Path) -> None:
    assert "its tokenizer can not be loaded" in refusal(folder, load_tokenizer)


@pytest.mark.parametrize("kept", [3, 30, 3000, -1000])
def test_a_gguf_file_cut_short(gguf: Path, tmp_path: Path, kept: int) -> None:
    gguf.write_bytes(gguf.read_bytes()[:kept])
    assert str(gguf) in refusal(gguf)
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_a_file_that_only_claims_to_be_gguf(gguf: Path) -> None:
    gguf.write_bytes(b"PK\x03\x04" + bytes(100))
    assert "not a GGUF file" in refusal(gguf)


def test_a_cache_that_can_not_be_written(gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    message = refusal(gguf)
    assert "the cache can not be written" in message
    assert "READWRITE_EDIT_CACHE" in message


def test_a_disk_that_fills_up_leaves_nothing_behind(
    gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = conversion._read

    def filling(path: Path):
        model, tokenizer = read(path)
        monkeypatch.setattr(
            tokenizer, "save_pretrained", lambda _folder: (_ for _ in ()).throw(OSError(28, "No space"))
        )
        return model, tokenizer

    monkeypatch.setattr(conversion, "_read", filling)
    assert "free space, or set READWRITE_EDIT_CACHE" in refusal(gguf)
    assert [path.suffix for path in (tmp_path / "cache" / "models").iterdir()] == [".lock"]
