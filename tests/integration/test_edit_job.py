"""An edit from its recipe to the ledger: every intervention on a tiny model, and what the documents say of it."""

from __future__ import annotations

import errno
import json
import re
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch

from readwrite_edit.cli import main
from readwrite_edit.edit import EditOutcome, EditRecipe, prepare_edit, start_edit
from readwrite_edit.edit.ledger import read_ledger
from readwrite_edit.edit.locating import start_locating
from readwrite_edit.edit.settings.locate import LocateSettings
from readwrite_edit.errors import EditError, ReadWriteEditError
from readwrite_edit.models.fingerprint import weights_hash
from readwrite_edit.models.loading import load_model
from readwrite_edit.models.source import parse_source
from readwrite_edit.runs.reader import read_run
from tests.small_runs import write_model
from tests.tiny_models import TINY, tiny_tokenizer
from tests.warm_process import WARM

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "edit.md").read_text(encoding="utf-8")
OPTIONS = runpy.run_path(str(ROOT / "docs" / "options.py"))
SMALL: dict[str, Any] = {
    "statistics": {"tokens": 300, "max_length": 32, "batch_size": 4},
    "measure": {"tokens": 60, "max_new_tokens": 2},
    "controls": {"count": 3, "others": 1},
}
FACT = {
    "prompt": "the cat sat on a",
    "subject": "cat",
    "target": " mat",
    "paraphrases": ["a cat sat on the"],
    "locality": ["the dog ran to"],
}
PROMPTS = ["the cat sat", "one cat ran", "a cat sang", "the cat ran"]
OTHERS = ["the dog sat", "one dog ran", "a dog sang", "the dog ran"]
INTERVENTIONS: dict[str, dict[str, Any]] = {
    "associate": {"associate": {**FACT, "layers": [0], "prefixes": 1}},
    "attend": {"attend": {"prompts": PROMPTS[:2], "query": "last", "key": "cat", "layer": 1, "without": OTHERS[:1]}},
    "project": {"project": {"direction": {"token": "a"}, "layers": [1]}},
    "erase": {"project": {"concept": {"positive": PROMPTS, "negative": OTHERS}, "modules": ["up_proj"], "layers": [1]}},
    "steer": {
        "steer": {"direction": {"token": "a"}, "prompts": PROMPTS[:2], "key": "cat", "layer": 1, "without": OTHERS[:1]}
    },
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model and one tuned from it."""
    folder = tmp_path_factory.mktemp("edits")
    write_model(folder / "base")
    model, generator = TINY["llama"](), torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data.add_(1e-2 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder / "tuned")
    tiny_tokenizer().save_pretrained(folder / "tuned")
    return folder


def carried_out(place: Path, name: str, sections: dict[str, Any]) -> EditOutcome:
    recipe = {"model": {"path": str(place / "base")}, **SMALL, **sections}
    recipe["ledger"] = {"folder": str(place / "edits"), "name": name}
    prepared = prepare_edit(EditRecipe.model_validate(recipe))
    return start_edit(prepared, place / "runs" / name, f"edit-{name}", f"readwrite-edit edit --recipe {name}")


@pytest.fixture(scope="module")
def outcomes(place: Path) -> dict[str, EditOutcome]:
    """One finished edit of every kind, and a trace."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("READWRITE_EDIT_CACHE", str(place / "cache"))
        patch.setattr("readwrite_edit.adapter.logits.subprocess", WARM)  # as for tests, which a module's fixture is not
        found = {name: carried_out(place, name, sections) for name, sections in INTERVENTIONS.items()}
        extract = {"extract": {"tuned": str(place / "tuned"), "rank": 2}}
        found["extract"] = carried_out(place, "extract", extract)
        part = {"project_adapter": {"adapter": str(found["extract"].folder.adapter), "basis": "principal", "k": 2}}
        found["project_adapter"] = carried_out(place, "project_adapter", part)
        found["two"] = carried_out(
            place, "two", {"associate": {**FACT, "target": " red", "prompt": "the cat ran to a"}}
        )
        traced = {"model": str(place / "base"), "prompt": (FACT["prompt"],), "subject": ("cat",), "samples": 2}
        found["locate"] = start_locating(LocateSettings.checked(traced), place / "runs" / "locate", "…")
        return found


EDITS = [*INTERVENTIONS, "extract", "project_adapter", "two"]


@pytest.mark.parametrize("name", [*EDITS, "locate"])
def test_a_run_of_every_kind_is_whole(outcomes: dict[str, EditOutcome], name: str) -> None:
    outcome = outcomes[name]
    view = read_run(outcome.folder.path)
    assert (view.status, view.kind) == ("finished", "edit")
    assert outcome.summary == json.loads(outcome.folder.summary.read_text(encoding="utf-8"))
    assert outcome.summary["main"] in outcome.summary["tables"]
    html = outcome.folder.report.read_text(encoding="utf-8")
    assert "<svg" in html or "<table" in html
    for table in outcome.summary["tables"]:
        assert len(pd.read_parquet(outcome.folder.path / f"{table}.parquet"))


@pytest.mark.parametrize("name", EDITS)
def test_every_edit_is_a_certified_stock_adapter_in_the_ledger(
    outcomes: dict[str, EditOutcome], place: Path, name: str
) -> None:
    outcome = outcomes[name]
    assert outcome.summary is not None and outcome.summary["certificate"]["passed"]
    assert outcome.entry == name
    (ledger,) = (place / "edits").iterdir()
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        kept = ledger / "entries" / name / "adapter" / file
        assert kept.read_bytes() == (outcome.folder.adapter / file).read_bytes()


@pytest.mark.parametrize("name", [name for name in INTERVENTIONS if name != "erase"])
def test_controls_rank_every_edit_that_aims_at_something(outcomes: dict[str, EditOutcome], name: str) -> None:
    summary = outcomes[name].summary
    assert summary is not None and summary["verdict"] and "KL to the base" in summary["verdict"]
    effects = pd.read_parquet(outcomes[name].folder.path / "effects.parquet")
    random = effects[effects["family"] == "random_input"]
    assert set(random["matching"]) == {"frobenius", "energy"} and (random["n_controls"] == 3).all()
    assert ((effects["p_value"] - (1 + effects["reached"]) / (1 + effects["n_controls"])).abs() < 1e-12).all()


def test_the_base_is_never_written(outcomes: dict[str, EditOutcome], place: Path) -> None:
    base = load_model(parse_source(str(place / "base")))
    recipe = outcomes["associate"].folder.recipe.read_text(encoding="utf-8")
    assert weights_hash(base) in recipe


def test_a_contradiction_a_taken_name_and_a_used_folder_are_refused_before_a_run(
    outcomes: dict[str, EditOutcome], place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("READWRITE_EDIT_CACHE", str(place / "cache"))
    monkeypatch.chdir(place)
    common = ["edit", "associate", "base", "--subject", "cat", "--layers", "0", "--prefixes", "1", "--controls", "0"]
    common += ["--set", "statistics.tokens=300", "--set", "statistics.max_length=32"]
    other = [*common, "--prompt", FACT["prompt"], "--target", " red"]
    assert main(other) == 2
    assert "contradicts 'associate'" in capsys.readouterr().err
    assert main([*common, "--prompt", "a cat ran", "--target", " so", "--name", "steer"]) == 2
    assert "steer" in capsys.readouterr().err
    assert main([*common, "--prompt", "a cat ran", "--target", " so", "--run-dir", "runs/steer"]) == 2
    assert "not empty" in capsys.readouterr().err
    assert main([*other, "--set", "ledger.enter=false", "--dry-run"]) == 0
    assert "damage" in capsys.readouterr().out
    assert len(list((place / "runs").iterdir())) == len(outcomes)


def recipe_of(place: Path, target: str, **ledger: Any) -> EditRecipe:
    fact = {**FACT, "layers": [0], "prefixes": 0, "prompt": "a cat ran", "target": target, "paraphrases": []}
    few = {"controls": {"count": 0}, "measure": {"tokens": 0, "max_new_tokens": 0}}
    sections = {"model": {"path": str(place / "base")}, **SMALL, **few, "associate": fact}
    return EditRecipe.model_validate({**sections, "ledger": {"folder": str(place / "edits"), **ledger}})


def test_a_place_that_can_not_be_used_is_refused_before_a_model_is_loaded(
    outcomes: dict[str, EditOutcome], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*_: object, **__: object) -> None:
        pytest.fail("was loaded")

    monkeypatch.setattr("readwrite_edit.edit.context.load_as_asked", loaded)
    monkeypatch.setattr("readwrite_edit.edit.context.load_tokenizer", loaded)
    before = sorted(place.rglob("*"))
    (ledger,) = (place / "edits").iterdir()
    for options, run, said in [
        ({}, "runs/steer", "not empty"),
        ({}, "base/config.json", "is a file"),
        ({}, "base/config.json/run", "Not a directory: name a folder that can be written"),
        ({"folder": str(place / "base" / "config.json")}, "runs/new", r"can not be written.*\(--ledger\)"),
        ({"name": "STEER"}, "runs/new", "an edit 'STEER' is in the ledger"),
        ({"folder": str(ledger), "name": "steer"}, "runs/new", "an edit 'steer' is in the ledger"),
    ]:
        with pytest.raises(ReadWriteEditError, match=said) as refused:
            prepare_edit(recipe_of(place, " so", **options), run=place / run)
        assert refused.value.exit_code == 2
    monkeypatch.setattr("readwrite_edit.durable.os.fsync", full_disk)
    for run, folder in ((place / "runs" / "new", place / "edits"), (place / "runs" / "new", place / "other")):
        with pytest.raises(ReadWriteEditError, match="No space left on device"):
            prepare_edit(recipe_of(place, " so", folder=str(folder)), run=run)
    assert sorted(place.rglob("*")) == before


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_fact_in_force_is_refused_before_statistics_and_a_change_before_the_price(
    outcomes: dict[str, EditOutcome], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("READWRITE_EDIT_CACHE", str(place / "cache"))
    steered = {"model": {"path": str(place / "base")}, **SMALL, **INTERVENTIONS["steer"]}
    steered["ledger"] = {"folder": str(place / "edits")}
    monkeypatch.setattr("readwrite_edit.edit.job.preflight", lambda *_: pytest.fail("was priced"))
    with pytest.raises(EditError, match=r"the same change as 'steer'.*ledger.enter=false"):
        prepare_edit(EditRecipe.model_validate(steered))
    monkeypatch.setattr("readwrite_edit.edit.context.Context.statistics", lambda *_: pytest.fail("was collected"))
    for target, said in ((FACT["target"], "'associate' makes the fact"), (" red", "contradicts 'associate'")):
        recipe = recipe_of(place, target)
        assert recipe.associate is not None
        same = recipe.associate.model_copy(update={"prompt": FACT["prompt"]})
        with pytest.raises(EditError, match=rf"{said}.*edit undo associate, or .*ledger.enter=false"):
            prepare_edit(recipe.model_copy(update={"associate": same}))


def test_an_edit_that_could_not_be_entered_is_finished_and_entered_later(
    outcomes: dict[str, EditOutcome],
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("READWRITE_EDIT_CACHE", str(place / "cache"))
    passed = SimpleNamespace(as_dict=lambda: {"passed": True, "checks": []})
    monkeypatch.setattr("readwrite_edit.edit.job.certify_edit", lambda *_: passed)
    run, root = tmp_path / "run", tmp_path / "edits"
    prepared = prepare_edit(recipe_of(place, " so", folder=str(root), name="late"), run=run)
    with monkeypatch.context() as patch:
        patch.setattr("readwrite_edit.edit.ledger.store.write_document", full_disk)
        with pytest.raises(EditError, match=r"No space left on device.*is finished") as refused:
            start_edit(prepared, run, "late", "")
    command = f"readwrite-edit edit enter {run} --ledger {root}"
    assert str(run / "adapter") in str(refused.value) and str(refused.value).endswith(command)
    assert read_run(run).status == "finished"
    assert main(command.split()[1:]) == 0
    assert "entered: late (cat → so)" in capsys.readouterr().out
    (ledger,) = root.iterdir()
    (entry,) = read_ledger(ledger).entries
    assert entry.facts[0].model_dump() == {"prompt": "a cat ran", "subject": "cat", "target": "so"}
    assert entry.predicted_damage == prepared.price.predicted_damage
    assert entry.statistics_sha256 == outcomes["associate"].summary["entry"]["statistics_sha256"]
    assert main([*command.split()[1:], "--name", "again"]) == 2
    assert "'late' makes the fact 'a cat ran → so' already" in capsys.readouterr().err


def documented(table: str) -> list[str]:
    """Columns that the section of a table describes."""
    found = re.search(rf"^### Table `{table}`$.*?^\| column \| meaning \|\n(.*?)(?=^$|\Z)", DOCUMENT, re.M | re.S)
    assert found, f"docs/edit.md has no table {table}"
    cells = re.findall(r"^\| (`[^|]*) \|", found[1], re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]


def test_every_column_is_described_and_no_other(outcomes: dict[str, EditOutcome]) -> None:
    columns: dict[str, set[str]] = {}
    for outcome in outcomes.values():
        assert outcome.summary is not None
        for name in outcome.summary["tables"]:
            table = pd.read_parquet(outcome.folder.path / f"{name}.parquet")
            columns.setdefault(name, set()).update(table.columns)
    assert {name: sorted(found) for name, found in columns.items()} == {
        name: sorted(documented(name)) for name in columns
    }
    assert set(re.findall(r"^### Table `(\w+)`", DOCUMENT, re.MULTILINE)) == set(columns)


def test_document_is_what_the_script_writes() -> None:
    assert OPTIONS["rewritten"]("edit.md", DOCUMENT) == DOCUMENT, "run python docs/options.py"


def test_an_edit_is_exported_by_its_ledger_and_export_says_so(
    outcomes: dict[str, EditOutcome], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(outcomes["associate"].folder.path), "--to", str(tmp_path / "out")]) == 2
    assert "edit stack NAME --to DIR" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
