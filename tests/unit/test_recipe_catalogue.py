"""The recipes that ship, and the command that handles recipes."""

import json

import pytest
import yaml

from readwrite_edit.cli import main
from readwrite_edit.edit.settings import INTERVENTIONS, EditRecipe
from readwrite_edit.edit.settings.reading import load_edit_recipe
from readwrite_edit.recipe import dump_recipe, find_recipe, load_recipe, parse_recipe, shipped_recipes
from readwrite_edit.recipe.reading import parse_as

EDITS = [
    "edit_associate",
    "edit_attend",
    "edit_erase",
    "edit_extract",
    "edit_project",
    "edit_project_adapter",
    "edit_steer",
]
NAMES = [
    "dpo_contrastive",
    "dpo_contrastive_kl",
    "dpo_lora",
    "dpo_minor",
    "dpo_qlora_8b",
    "dpo_random",
    "dpo_readonly",
    "dpo_readonly_1b",
    "dpo_readonly_8b",
]


def test_these_recipes_ship():
    assert [recipe.name for recipe in shipped_recipes()] == [*NAMES, *EDITS]


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_recipe_says_what_it_is_and_reads_back(name):
    shipped = next(recipe for recipe in shipped_recipes() if recipe.name == name)
    assert shipped.title and shipped.needs
    text = shipped.path.read_text(encoding="utf-8")
    assert f"# Run:   readwrite-edit align --recipe {name}.yaml\n" in text
    recipe = load_recipe(name)
    assert parse_recipe(dump_recipe(recipe)) == recipe


@pytest.mark.parametrize("name", EDITS)
def test_a_shipped_edit_says_what_it_is_and_reads_back(name):
    shipped = next(recipe for recipe in shipped_recipes() if recipe.name == name)
    assert shipped.title and shipped.needs
    assert f"# Run:   readwrite-edit edit --recipe {name}.yaml\n" in shipped.path.read_text(encoding="utf-8")
    recipe = load_edit_recipe(name)
    assert parse_as(EditRecipe, dump_recipe(recipe)) == recipe


def test_every_intervention_ships_an_example():
    assert {load_edit_recipe(name).kind for name in EDITS} == set(INTERVENTIONS)


def test_shipped_recipes_differ_where_they_say():
    basis = {name: load_recipe(name).adapter.basis for name in NAMES}
    assert basis["dpo_readonly"] == "principal"
    arms = ("contrastive", "lora", "minor", "random")
    assert {arm: basis[f"dpo_{arm}"] for arm in arms} == {arm: arm for arm in arms}
    assert load_recipe("dpo_qlora_8b").model.quantization == "nf4"


def test_shipped_recipes_only_say_what_differs_from_the_defaults():
    """The control arms and the Hub recipes repeat no default."""
    for name in set(NAMES) - {"dpo_readonly", "dpo_contrastive"}:
        text = find_recipe(name).read_text(encoding="utf-8")
        written = {(s, k): v for s, part in yaml.safe_load(text).items() for k, v in part.items()}
        minimal = load_recipe(
            "dpo_lora", ["adapter.basis=principal", "train={}", "evaluation={}", "model={path: x}", "data={path: x}"]
        )
        defaults = minimal.model_dump(mode="json")
        repeated = [
            f"{s}.{k}" for (s, k), v in written.items() if defaults[s][k] == v and (s, k) != ("adapter", "seed")
        ]
        assert repeated == [], name


def test_a_file_comes_before_a_shipped_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_recipe("dpo_readonly") == find_recipe("dpo_readonly.yaml")
    (tmp_path / "dpo_readonly").mkdir()
    assert find_recipe("dpo_readonly").is_file()
    (tmp_path / "dpo_readonly.yaml").write_text("model: {path: mine}\ndata: {path: mine}\n")
    assert load_recipe("dpo_readonly.yaml").model.path == "mine"


def test_ls_lists_them(capsys):
    assert main(["recipes", "ls"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in NAMES)
    assert "Needs: one GPU of 80 GB" in out


def test_show_prints_the_file_or_every_key(capsys):
    assert main(["recipes", "show", "dpo_lora"]) == 0
    assert capsys.readouterr().out == find_recipe("dpo_lora").read_text(encoding="utf-8")
    assert main(["recipes", "show", "dpo_lora", "--set", "adapter.rank=3"]) == 0
    shown = parse_recipe(capsys.readouterr().out)
    assert shown == load_recipe("dpo_lora", ["adapter.rank=3"])
    assert shown.adapter.rank == 3


def test_cp_refuses_to_overwrite(tmp_path, capsys):
    target = tmp_path / "mine.yaml"
    assert main(["recipes", "cp", "dpo_lora", str(target)]) == 0
    assert target.read_bytes() == find_recipe("dpo_lora").read_bytes()
    target.write_text("precious")
    assert main(["recipes", "cp", "dpo_lora", str(target)]) == 2
    assert target.read_text() == "precious"
    assert "--force" in capsys.readouterr().err
    assert main(["recipes", "cp", "dpo_lora", str(target), "--force"]) == 0
    assert target.read_bytes() == find_recipe("dpo_lora").read_bytes()
    assert main(["recipes", "cp", "dpo_lora", str(tmp_path)]) == 0
    assert (tmp_path / "dpo_lora.yaml").is_file()


def test_validate_reports_all_of_all_files(tmp_path, capsys):
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("model: {path: m, dtyp: auto}\ndata: {path: d}\nadapter: {rnak: 3}\n")
    second.write_text("[]")
    assert main(["recipes", "validate", str(first), "dpo_lora", str(second)]) == 2
    captured = capsys.readouterr()
    assert captured.out == "dpo_lora: valid\n"
    lines = captured.err.splitlines()
    assert len(lines) == 3
    assert "a.yaml:1: model.dtyp" in lines[0] and "a.yaml:3: adapter.rnak" in lines[1] and "b.yaml: got []" in lines[2]
    assert main(["recipes", "validate", "dpo_lora", "--set", "adapter.rank=8"]) == 0
    assert main(["recipes", "validate", "dpo_lora", "--set", "adapter.rank=x"]) == 2


def test_schema_is_printed_or_written(tmp_path, capsys):
    target = tmp_path / "schema.json"
    assert main(["recipes", "schema"]) == 0
    assert main(["recipes", "schema", "--output", str(target)]) == 0
    assert json.loads(target.read_text()) == json.loads(capsys.readouterr().out)
