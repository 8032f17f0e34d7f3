"""Recipes that are right: defaults, short forms, what follows from what."""

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from readwrite_edit.recipe import Recipe, dump_recipe, parse_recipe, recipe_hash, recipe_schema
from readwrite_edit.recipe.section import Section

MINIMAL = "model: {path: bundled:m}\ndata: {path: builtin:concise}\n"


def recipe(text="", overrides=()):
    return parse_recipe(MINIMAL + text, overrides=overrides)


def test_the_defaults_are_the_documented_ones():
    found = recipe()
    assert found.adapter.modules == ("q_proj", "k_proj")
    assert (found.adapter.basis, found.adapter.rank, found.adapter.energy, found.adapter.layers) == (
        "principal",
        16,
        None,
        "all",
    )
    assert [(text.name, text.format, text.weight) for text in found.calibration.protect] == [
        ("prose", "text", 1.0),
        ("chat", "chat", 1.0),
    ]
    assert [text.name for text in found.evaluation.texts] == ["prose", "chat"]
    assert (found.train.max_steps, found.train.learning_rate, found.train.eval_strategy) == (24, 1e-3, "no")
    assert found.objective.loss_type == ("sigmoid",)


@pytest.mark.parametrize(
    ("given_layers", "expected"),
    [
        ("all", "all"),
        ("3", (3,)),
        ("'0-2,5'", (0, 1, 2, 5)),
        ("[5, 0, 0]", (0, 5)),
        ("[0-2, 7]", (0, 1, 2, 7)),
        ("'4'", (4,)),
    ],
)
def test_layers_in_every_form(given_layers, expected):
    assert recipe(f"adapter: {{layers: {given_layers}}}\n").adapter.layers == expected


def test_texts_in_short_form():
    found = recipe("calibration: {protect: [builtin:chat, texts/my notes.txt, {path: a/b, weight: 2, format: chat}]}\n")
    assert [(text.name, text.format, text.weight) for text in found.calibration.protect] == [
        ("chat", "chat", 1.0),
        ("my_notes", "text", 1.0),
        ("b", "chat", 2.0),
    ]
    assert [text.path for text in recipe("calibration: {protect: builtin:prose}\n").calibration.protect] == [
        "builtin:prose"
    ]


def test_one_item_stands_for_a_list_of_one():
    found = recipe("objective: {loss_type: ipo}\nadapter: {modules: v_proj}\ntrain: {report_to: wandb}\n")
    assert found.objective.loss_type == ("ipo",)
    assert found.adapter.modules == ("v_proj",)
    assert found.train.report_to == ("wandb",)


def test_energy_takes_the_place_of_the_default_rank():
    assert recipe("adapter: {energy: 0.9}\n").adapter.rank is None
    with pytest.raises(Exception, match="rank 8 is given too"):
        recipe("adapter: {energy: 0.9, rank: 8}\n")
    assert recipe("adapter: {rank: 8}\n", ["adapter.rank=null", "adapter.energy=0.9"]).adapter.energy == 0.9


def test_epochs_take_the_place_of_the_default_steps():
    assert recipe("train: {num_train_epochs: 2}\n").train.max_steps == -1


def test_eval_steps_switch_evaluation_on():
    assert recipe("train: {eval_steps: 4}\n").train.eval_strategy == "steps"
    assert recipe("train: {eval_steps: 4, eval_strategy: epoch}\n").train.eval_strategy == "epoch"


def test_yaml_1_1_traps():
    found = recipe(
        "train: {learning_rate: 1e-3, adam_epsilon: 1e-08, bf16: yes, save_strategy: no, run_name: 2024-01-01}\n"
    )
    assert found.train.learning_rate == 0.001
    assert found.train.adam_epsilon == 1e-8
    assert found.train.bf16 is True
    assert found.train.save_strategy == "no"
    assert found.train.run_name == "2024-01-01"


def test_a_section_with_every_key_commented_out_is_the_default():
    assert recipe("adapter:\n  # rank: 8\n").adapter == recipe().adapter


def test_a_recipe_does_not_change():
    with pytest.raises(Exception, match="frozen"):
        recipe().adapter.rank = 3


def test_hash_is_of_the_content():
    one = parse_recipe("model: {path: a}\ndata: {path: b}\nadapter: {rank: 16}\n")
    other = parse_recipe("# comment\ndata:\n  path: 'b'\nmodel: {path: a}\nprovenance: {torch: '2'}\n")
    assert recipe_hash(one) == recipe_hash(other)
    assert recipe_hash(one) != recipe_hash(parse_recipe("model: {path: a}\ndata: {path: b}\nadapter: {rank: 17}\n"))


def test_schema_describes_every_key():
    schema = recipe_schema()
    assert schema["$schema"].endswith("2020-12/schema")

    def target(value):
        return schema["$defs"][value["$ref"].rpartition("/")[2]]

    objects = [schema, *schema["$defs"].values()]
    keys = [(key, value) for part in objects for key, value in part["properties"].items()]
    undescribed = [key for key, value in keys if not (value.get("description") or target(value)["description"])]
    assert undescribed == []
    assert all(part["additionalProperties"] is False for part in objects)
    assert schema["$defs"]["ProtectedText"]["required"] == ["path"]
    json.dumps(schema, allow_nan=False)


def test_every_section_is_strict():
    assert all(part.model_config["extra"] == "forbid" and part.model_config["strict"] for part in _sections(Section))


def _sections(parent):
    return [part for child in parent.__subclasses__() for part in (child, *_sections(child))]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12) | st.sampled_from(
    ["no", "1e-3", "~", "0x1f", "null", "1_000", ".5", "2001-01-01", "- a", "a: b", "#", "\x85", "*x", "!t"]
)
NUMBER = st.floats(1e-300, 1e300)


@settings(max_examples=40, deadline=None)
@given(path=TEXT, name=TEXT, rate=NUMBER, beta=NUMBER, layers=st.sets(st.integers(0, 99), min_size=1), note=TEXT)
def test_a_written_recipe_reads_back_the_same(path, name, rate, beta, layers, note):
    original = Recipe.model_validate(
        {
            "model": {"path": path},
            "data": {"path": name},
            "adapter": {"layers": sorted(layers)},
            "objective": {"beta": beta},
            "train": {"learning_rate": rate, "run_name": note, "lr_scheduler_kwargs": {name: note}},
            "provenance": {note: path},
        }
    )
    text = dump_recipe(original)
    assert parse_recipe(text) == original
    assert dump_recipe(parse_recipe(text)) == text


def test_reading_recipes_loads_no_training_library():
    code = (
        "import sys; from readwrite_edit.recipe import parse_recipe; "
        "parse_recipe('model: {path: a}\\ndata: {path: b}'); "
        "print([name for name in ('torch', 'transformers', 'trl', 'peft', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
