"""Recipes and options of edits made to hurt: each mistake is one line, at the right place, and checking always ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from readwrite_edit.cli import main
from readwrite_edit.edit.settings import INTERVENTIONS, EditRecipe
from readwrite_edit.edit.settings.locate import LocateSettings
from readwrite_edit.errors import RecipeError
from readwrite_edit.recipe.reading import parse_as
from readwrite_edit.recipe.section import Section
from readwrite_edit.recipe.yaml_nodes import write_document
from readwrite_edit.terminal import printable

MODEL = "model: {path: m}\n"
ONE = "associate: {prompt: a, subject: a, target: b}\n"


def problems(text: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        parse_as(EditRecipe, text, source="r.yaml")
    return str(caught.value).splitlines()


LINES = {
    "a direction is missing": (
        MODEL + "steer: {prompts: a, layer: 0}\n",
        ["r.yaml:2: steer.direction: missing; expected a mapping of keys to values: What to add."],
    ),
    "a number is missing": (
        MODEL + "attend: {prompts: a, query: b, key: c}\n",
        ["r.yaml:2: attend.layer: missing; expected a whole number: Layer to edit."],
    ),
    "a list is missing": (
        MODEL + "attend: {layer: 0, query: b, key: c}\n",
        ["r.yaml:2: attend.prompts: missing; expected a list: Prompts in which both patterns stand, the key"],
    ),
    "one of several types": (
        MODEL + "associate: {prompt: a, subject: a, target: b, ridge: foo, layers: x}\nstatistics: {shrinkage: 3}\n",
        [
            "r.yaml:2: associate.layers: got 'x'; expected a whole number or auto",
            "r.yaml:2: associate.ridge: got 'foo'; expected a number or auto",
            "r.yaml:3: statistics.shrinkage: got 3; expected at most 1.0 or auto",
        ],
    ),
    "a hint ends the line": (
        MODEL + "associate: {prompt: a, subject: a, target: b, ridge: aut}\n",
        ["r.yaml:2: associate.ridge: got 'aut'; expected a number or auto; did you mean 'auto'?"],
    ),
    "facts that are a number": (
        MODEL + "associate: {facts: 3}\n",
        ["r.yaml:2: associate.facts: got 3; expected text (in quotes, if it looks like a number) or a mapping"],
    ),
    "items of facts": (
        MODEL + "associate: {facts: [{prompt: 3, subject: a, target: b, tru: c}, 3, {prompt: a, subject: a}]}\n",
        [
            "r.yaml:2: associate.facts[0].prompt: got 3; expected text",
            "r.yaml:2: associate.facts[0].tru: unknown key; did you mean 'true'?",
            "r.yaml:2: associate.facts[1]: got 3; expected a mapping of keys to values",
            "r.yaml:2: associate.facts[2].target: missing; expected text: What should follow",
        ],
    ),
    "a lone fact": (
        MODEL + "associate: {facts: {prompt: a, subject: 3, target: b}}\n",
        ["r.yaml:2: associate.facts.subject: got 3; expected text"],
    ),
    "two interventions, each incomplete": (
        MODEL + "steer: {layer: x}\nattend: {prompts: [a]}\ncontrols: {count: -1}\n",
        [
            "r.yaml:3: attend: interventions: attend, steer; expected one of associate, attend",
            "r.yaml:4: controls.count",
        ],
    ),
    "no intervention": (MODEL, ["r.yaml:1: associate: interventions: none; expected one of associate"]),
    "a wrong source is not no source": (
        MODEL + "project: {direction: {file: 3}}\n",
        ["r.yaml:2: project.direction.file: got 3; expected text"],
    ),
    "a key of another intervention": (
        MODEL + "associate: {prompt: a, subject: a, target: b, layer: 3}\n",
        ["r.yaml:2: associate.layer: unknown key; did you mean 'layers'?"],
    ),
    "a direction's key of a concept": (
        MODEL + "project: {concept: {positive: a, negative: b, principal: 3}}\n",
        ["r.yaml:2: project.concept.principal: unknown key; expected one of positive, negative, format, positions"],
    ),
    "controls beyond all time": (
        MODEL + ONE + "controls: {count: 1000000000000, others: 10000}\n",
        [
            "r.yaml:3: controls.count: got 1000000000000; expected at most 9999: each is measured as an edit",
            "r.yaml:3: controls.others: got 10000; expected at most 9999: each",
        ],
    ),
}


@pytest.mark.parametrize("case", LINES)
def test_each_mistake_is_one_line(case: str) -> None:
    text, expected = LINES[case]
    lines = problems(text)
    assert sorted(line[: len(wanted)] for line, wanted in zip(sorted(lines), sorted(expected), strict=True)) == sorted(
        expected
    ), lines
    assert all(line.isprintable() and len(line) < 400 for line in lines)


def test_a_missing_key_does_not_hide_what_stands_beside_it() -> None:
    """What is missing is stood in for by a value of its type, so that contradictions are found in the same round."""
    lines = problems(MODEL + "extract: {rank: 3, energy: 0.5}\nledger: {name: a}\nmeasure: {certify: false}\n")
    assert [line.split(": ")[1] for line in lines][:2] == ["extract.tuned", "extract.energy"]
    lines = problems(MODEL + "attend: {prompts: a, query: a, key: b}\nledger: {name: a}\nmeasure: {certify: false}\n")
    assert [line.split(": ")[1] for line in lines] == ["attend.layer", "ledger.name"]


class _Side(Section):
    side: Literal["left", "right"] = Field(description="Which side.")


class _Odd(Section):
    inner: _Side = Field(description="A section that nothing can stand in for.")
    other: int = Field(default=0, description="A number.")


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("other: 1\n", ["inner.side"]),
        ("inner: 3\n", ["inner"]),
        ("inner: {side: up}\n", ["inner.side"]),
        ("inner: {sied: up}\nother: x\n", ["inner.side", "inner.sied", "other"]),
    ],
)
def test_checking_ends_where_no_value_can_stand_in(text: str, keys: list[str]) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_as(_Odd, text, source="r.yaml")
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == keys


KEYS = st.sampled_from(
    sorted(
        {"model", "path", "statistics", "measure", "controls", "ledger", "texts", "junk", *INTERVENTIONS}
        | {name for section in INTERVENTIONS.values() for name in section.model_fields}
        | {"token", "file", "positive", "negative", "count", "name"}
    )
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["auto", "a", "", "q_proj", "0-3"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=100, deadline=None)
@given(kind=st.sampled_from(sorted(INTERVENTIONS)), section=st.dictionaries(KEYS, VALUES, max_size=5), rest=VALUES)
def test_any_section_is_an_edit_or_a_recipe_error(kind: str, section: dict[str, Any], rest: Any) -> None:
    value = {"model": {"path": "m"}, **(rest if isinstance(rest, dict) else {}), kind: section}
    try:
        parse_as(EditRecipe, write_document(value), source="r.yaml")
    except RecipeError as error:
        lines = str(error).splitlines()
        assert lines and all(printable(line) == line for line in lines)
        assert not any("function-" in line or "tuple[" in line for line in lines)


OPTIONS = {
    "attend m --query a": ["--prompts: attend.prompts: missing", "--key: attend.key: mi", "--layer: attend.layer: mi"],
    "steer m --prompts a --layer 0": ["--direction-…: steer.direction: missing"],
    "steer m --prompts a --layer 0 --direction-layer 3": ["--direction-token: steer.direction.token: given: none"],
    "project m": ["--direction-…: project.direction: expected one of direction and concept"],
    "associate m --prompt a --subject a": ["--target: associate.target: missing target; expected facts, or prompt"],
    "associate m": ["--prompt: associate.prompt: missing prompt, subject, target; expected facts"],
    "associate m --prompt a --subject a --target b --controls 10000": ["--controls: controls.count: got 10000"],
    "locate m --prompt a --subject a --window 0": ["window: got 0; expected at least 1"],
    "locate m --prompt a": ["subject: missing; expected a list: The subject as it stands in the prompt"],
    "locate m --prompt a --subject a b c": ["subject: 3 given for 1 prompts: expected one, or one for each"],
}


@pytest.mark.parametrize("arguments", OPTIONS)
def test_a_mistake_of_the_short_form_is_put_to_its_option(
    arguments: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["edit", *arguments.split()]) == 2
    lines = capsys.readouterr().err.splitlines()
    for line, wanted in zip(lines, OPTIONS[arguments], strict=True):
        assert line.startswith(f"readwrite-edit: {wanted}"), lines


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        ("edit associate m --margn 3", "unknown option --margn; did you mean --margin?"),
        ("edit associate m --margn=3 --prompt a", "unknown option --margn=3; did you mean --margin?"),
        ("edit locate m --prompt a --windw 3", "unknown option --windw; did you mean --window?"),
        ("edit ls --ledgr x", "unknown option --ledgr; did you mean --ledger?"),
        ("probe delta a b --laers 0", "unknown option --laers; did you mean --layers?"),
        ("edit ls --nothing-like-it", "unrecognized arguments: --nothing-like-it"),
    ],
)
def test_a_misspelt_option_gets_the_nearest_name(arguments: str, near: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments.split())
    assert capsys.readouterr().err.splitlines()[-1].endswith(near)


def test_the_options_of_a_concept_are_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["edit", "project", "--help"])
    shown = capsys.readouterr().out
    assert "--concept-positive" in shown and "--concept-positions" in shown and "--direction-principal" in shown
    assert not any(f"--concept-{name}" in shown for name in ("file", "principal", "prediction", "token", "layer"))


def test_python_names_the_setting_that_is_wrong() -> None:
    with pytest.raises(RecipeError, match=r"^locate: smaples: unknown key; did you mean 'samples'\?"):
        LocateSettings.checked({"model": "m", "prompt": "a", "subject": "a", "smaples": 3})
