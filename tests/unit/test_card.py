"""The model card: metadata that the Hub takes, and text from a run that stays text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from readwrite_edit.errors import DataError
from readwrite_edit.report import model_card
from readwrite_edit.report.markdown import code, escaped, fenced
from tests.finished_run import write_adapter_config, write_finished_run, write_summary
from tests.integration.hub_server import card_problems


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = write_finished_run(tmp_path / "20251122-231455-dpo_readonly", layers=2)
    write_adapter_config(run)
    return run


def metadata(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("---\n")[1])


def blocks(card: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)\n```$", card, re.DOTALL | re.MULTILINE)


def test_metadata_of_an_adapter(run: Path) -> None:
    card = model_card(run)
    assert card_problems(card) == []
    assert metadata(card) == {
        "base_model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "base_model_relation": "adapter",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["readwrite-edit", "dpo", "alignment", "basis-principal", "lora", "peft"],
    }
    assert ModelCard(card).data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_metadata_of_a_merged_model(run: Path) -> None:
    card = model_card(run, merged=True)
    assert card_problems(card) == []
    head = metadata(card)
    assert (head["library_name"], head["base_model_relation"]) == ("transformers", "finetune")
    assert not {"lora", "peft"} & set(head["tags"])
    assert "PeftModel" not in card and "--enable-lora" not in card


def test_merged_weights_are_not_rounded_unsaid(run: Path) -> None:
    card = model_card(run, repo_id="tester/merged", merged=True)
    assert blocks(card, "sh") == ["vllm serve tester/merged --dtype float32"]
    assert "Rounded to bfloat16, 90% of the update would be lost" in card
    assert "Rounded to bfloat16" not in model_card(run)


@pytest.mark.parametrize("base", ["/home/someone/models/my-base", "models/a/b", "./base", ""])
def test_base_without_a_hub_repository_is_left_out_and_said(run: Path, base: str) -> None:
    write_adapter_config(run, base=base)
    card = model_card(run)
    assert card_problems(card) == []
    assert not {"base_model", "base_model_relation"} & metadata(card).keys()
    assert "this card names no base model in its metadata" in card
    assert "someone" not in card
    assert "base = 'path/to/the/base/model'" in card


def test_relative_folder_that_looks_like_a_repository_is_no_base(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models" / "base").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    write_adapter_config(run, base="models/base")
    assert "base_model" not in metadata(model_card(run))


def test_card_tells_how_to_load_from_where_it_will_lie(run: Path) -> None:
    write_adapter_config(run, revision="v1.0")
    card = model_card(run, repo_id="tester/concise")
    (python,) = blocks(card, "python")
    (shell,) = blocks(card, "sh")
    compile(python, "card", "exec")
    assert "PeftModel.from_pretrained(model, 'tester/concise')" in python
    assert python.count("revision='v1.0'") == 2
    assert shell == (
        "vllm serve HuggingFaceTB/SmolLM2-135M-Instruct --revision v1.0 --enable-lora"
        " --lora-modules dpo_readonly=tester/concise --max-lora-rank 16"
    )


@pytest.mark.parametrize(("rank", "pattern", "limit"), [(1, {}, 1), (4, {}, 8), (17, {}, 32), (8, {"a": 100}, 128)])
def test_vllm_gets_a_rank_that_it_accepts(run: Path, rank: int, pattern: dict[str, int], limit: int) -> None:
    write_adapter_config(run, r=rank, rank_pattern=pattern)
    assert f"--max-lora-rank {limit}\n" in model_card(run)


def test_rank_beyond_vllm_is_said(run: Path) -> None:
    write_adapter_config(run, r=600)
    card = model_card(run)
    assert "up to rank 512; this one has 600" in card and "--enable-lora" not in card


def test_card_has_figures_certificate_and_limits(run: Path) -> None:
    card = model_card(run)
    assert "| Held-out loss | 0.6931 | 0.3133 | -0.3799 |" in card
    assert "- [x] stays in its read subspace: largest residual 3.1e-08 ≤ 1e-06" in card
    assert "a quantised copy of the base model" in card
    assert "Alarm during training: step 22" in card


def test_failed_check_is_not_ticked(run: Path) -> None:
    checks = [{"name": "reload", "passed": False, "detail": "off by 1"}]
    write_summary(run, certificate={"passed": False, "checks": checks})
    assert "- [ ] reload: off by 1" in model_card(run)


def test_text_from_the_run_stays_text(run: Path) -> None:
    hostile = "x`](http://evil.example)|<script>alert(1)</script>\n# heading\n---\nlicense: mit"
    check = {"name": hostile, "passed": True, "detail": hostile}
    write_summary(run, certificate={"passed": True, "checks": [check]}, alarms=[hostile], after={f"kl_{hostile}": 1.0})
    (run / "recipe.yaml").write_text(yaml.safe_dump({"objective": {"name": hostile}, "adapter": {"basis": hostile}}))
    card = model_card(run)
    assert card_problems(card) == []
    assert "license" not in metadata(card)
    prose = re.sub(r"^(`{3,})\w*\n.*?\n\1$", "", card.split("---\n", 2)[2], flags=re.DOTALL | re.MULTILINE)
    assert "<script" not in prose
    assert "# heading" not in [entry.strip() for entry in prose.splitlines()]
    assert not re.search(r"(?<!\\)\]\(http://", prose)
    assert all(not re.search(r"(?<!\\)`\]", entry) for entry in prose.splitlines())


def test_fence_in_a_recipe_does_not_end_its_block(run: Path) -> None:
    recipe = (run / "recipe.yaml").read_text() + "# ```\n# ````\n"
    (run / "recipe.yaml").write_text(recipe)
    assert f"`````yaml\n{recipe}`````" in model_card(run)


def test_home_folder_is_not_published(run: Path) -> None:
    recipe = (run / "recipe.yaml").read_text() + f"# {Path.home()}/data.jsonl\n"
    (run / "recipe.yaml").write_text(recipe)
    assert "# ~/data.jsonl" in model_card(run)


@pytest.mark.parametrize("config", ["{", "[]", "{}", '{"r": "16"}'])
def test_damaged_adapter_configuration_is_one_line(run: Path, config: str) -> None:
    (run / "adapter" / "adapter_config.json").write_text(config)
    with pytest.raises(DataError, match=r"adapter_config\.json is damaged") as caught:
        model_card(run)
    assert "\n" not in str(caught.value)


def test_run_without_an_adapter_has_no_card(run: Path) -> None:
    (run / "adapter" / "adapter_config.json").unlink()
    with pytest.raises(DataError, match="no finished adapter"):
        model_card(run)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a_b *c* [d](e)", r"a\_b \*c\* \[d\](e)"),
        ("<b>&amp;</b>", "&lt;b&gt;&amp;amp;&lt;/b&gt;"),
        ("http://x.y www.z.y a@b.c", r"http\://x.y www\.z.y a\@b.c"),
        ("two\nlines\t\x1b[31m", r"two lines \\x1b\[31m"),
        ("back\\slash | pipe", r"back\\slash \| pipe"),
    ],
)
def test_markup_is_neutralised(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_code_and_fences_outlast_the_backticks_in_them() -> None:
    assert code("a``b") == "``` a``b ```"
    assert code("plain") == "`plain`"
    assert fenced("a\n```\nb") == "````\na\n```\nb\n````"
