"""Facts that can not be associated: each is refused with its value, its place and a remedy, and exit code 2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from readwrite_edit.edit.associate import plan_associate
from readwrite_edit.edit.associate.facts import filled, read_facts
from readwrite_edit.edit.settings import EditRecipe
from readwrite_edit.edit.settings.associate import Associate
from readwrite_edit.errors import DataError, EditError, ModelError, ReadWriteEditError
from tests.ready_context import ready_context

FACT = {"prompt": "the cat sat on", "subject": "cat", "target": "mat"}


def refused(kind: type[ReadWriteEditError], *named: str, **settings: Any) -> None:
    own = settings if "facts" in settings else {**FACT, **settings}
    with pytest.raises(kind) as caught:
        plan_associate(ready_context("llama", associate={"layers": [0], **own}))
    assert all(part in str(caught.value) for part in named), str(caught.value)
    assert caught.value.exit_code == 2


def written(folder: Path, content: str, name: str = "facts.jsonl") -> str:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return str(path)


def test_subject_that_is_not_in_the_prompt() -> None:
    refused(DataError, "fact 1", "'dog' is not in the prompt 'the cat sat on'", "{} in its place", subject="dog")


def test_two_places_for_one_subject() -> None:
    refused(DataError, "2 places {}", prompt="the {} and the {}")


@pytest.mark.parametrize("key", ["prompt", "subject", "target"])
def test_blank_texts(key: str) -> None:
    refused(DataError, f"{key} is empty", **{key: "  "})


def test_contradiction_is_named_with_both_places() -> None:
    facts = [FACT, {**FACT, "prompt": "the {} sat on", "target": "sofa"}]
    refused(EditError, "contradiction", "'mat' in fact 1", "'sofa' in fact 2", "leave one", facts=facts)


def test_bad_rows_name_their_places(tmp_path: Path) -> None:
    rows = [json.dumps(FACT), '{"prompt": "the cat"', json.dumps({"prompt": "a", "subjct": "a", "target": "b"})]
    path = written(tmp_path, "\n".join(rows))
    missing = "line 3: no subject (its fields: 'prompt, subjct, target'); did you mean subject by 'subjct'?"
    refused(DataError, "line 2", missing, facts=path)


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({**FACT, "target": 3}, "target is"),
        ({**FACT, "target": {"id": "Q1"}}, "target is"),
        ({**FACT, "paraphrases": {"a": "b"}}, "paraphrases is"),
        ({**FACT, "locality": ["a", 1]}, "locality is"),
        ({**FACT, "subject": "c\x00at"}, "NUL"),
        ({**FACT, "paraphrase": "a cat"}, "unknown field: did you mean paraphrases by 'paraphrase'?"),
        ({"requested_rewrite": FACT, "neigborhood_prompts": ["a"]}, "did you mean neighborhood_prompts by"),
        ([1, 2], "line 1"),
    ],
)
def test_wrong_values_in_a_file(tmp_path: Path, row: Any, named: str) -> None:
    refused(DataError, "line 1", named, facts=written(tmp_path, json.dumps(row)))


def test_other_columns_of_known_files_are_passed_over(tmp_path: Path) -> None:
    known = {
        **FACT,
        "target_true": "sofa",
        "target_true_id": "Q1",
        "relation_id": "P1",
        "generation_prompts": ["a cat"],
    }
    more = {"prompts": [], "attribute_prompts": [], "pararel_idx": 3, "case_id": 1, "locality_ground_truth": "b"}
    settings = Associate(facts=written(tmp_path, json.dumps(known | more)))
    ((fact,), notes) = read_facts(settings)
    assert fact.true == "sofa" and notes == ()


def test_a_subject_that_stands_twice_is_the_last_one_and_a_note_says_so() -> None:
    facts = [{**FACT, "prompt": "the cat and the cat"}, FACT, {**FACT, "prompt": "a cat, cats, a cat"}]
    found, (note,) = read_facts(Associate.model_validate({"facts": facts}))
    assert filled(found[0].prompt, "cat")[1] == len("the cat and the ")
    assert note.startswith("subject 'cat' stands in 'the cat and the cat' more than once (as in 1 more of the facts)")
    assert "last place" in note and "{}" in note
    chosen = {**FACT, "prompt": "the {} and the cat"}
    assert read_facts(Associate.model_validate({"facts": [chosen, {**FACT, "prompt": "cats, cat"}]}))[1] == ()


def test_files_that_are_none(tmp_path: Path) -> None:
    refused(DataError, "no facts", facts=written(tmp_path, ""))
    refused(DataError, "no such file", facts=str(tmp_path / "missing.jsonl"))
    refused(DataError, "suffix '.txt'", facts=written(tmp_path, "the cat", "facts.txt"))


def test_layer_and_role_that_are_not_there() -> None:
    refused(ModelError, "layer 7", "0 to 1", layers=[7])
    context = ready_context("mixtral", associate={**FACT, "layers": [0], "module": "down_proj"})
    with pytest.raises(ModelError, match="three-dimensional tensors"):
        plan_associate(context)


def test_prompt_that_is_too_long() -> None:
    refused(DataError, "256", "shorten it", prompt="the cat " + "and on " * 40)


def test_what_is_known_already() -> None:
    """The model's own first choice as the target, behind a quotation mark, which needs no space."""
    context = ready_context("llama", associate=FACT)
    for letter in "abcdefghijklmnopqrstuvwxyz":
        prompt = f'the cat {letter}"'
        best = int(context.model(context.tokenizer(prompt, return_tensors="pt")["input_ids"]).logits[0, -1].argmax())
        if 6 < best < 101:  # a character that can be seen
            break
    else:
        raise AssertionError("the model never prefers a character")
    settings = {"prompt": prompt, "subject": "cat", "target": context.tokenizer.decode([best]), "margin": 1e-4}
    refused(EditError, "nothing to change", "nats already", "raise margin", **settings)


def test_keys_that_can_not_be_told_apart() -> None:
    """One subject after the same words: its key, read before the prompts differ, is the same in both."""
    facts = [FACT, {**FACT, "prompt": "the cat ran to"}]
    refused(EditError, "not independent", "raise ridge", facts=facts, form="hard", prefixes=0)
    plan = plan_associate(ready_context("llama", associate={"layers": [0], "facts": facts, "prefixes": 0}))
    assert len(plan.tables["facts"]) == 2


def test_chat_without_a_template() -> None:
    context = ready_context("llama", associate={**FACT, "layers": [0], "format": "chat"})
    context.tokenizer.chat_template = None
    with pytest.raises(EditError, match="no chat template"):
        plan_associate(context)


def test_no_statistics_are_ever_replaced_by_the_identity() -> None:
    """320 tokens of 80 inputs are fine; a C that is singular is refused where it may not be shrunk."""
    context = ready_context("llama", associate={**FACT, "layers": [0]}, statistics={"shrinkage": 0.0})
    moments = context._moments

    def singular(projection: Any) -> Any:
        found = moments(projection)
        total = found.total.clone()
        total[:, 0] = total[0, :] = 0
        return type(found)(total, found.mean, found.count, 0.0)

    context._moments = singular  # type: ignore[method-assign]
    with pytest.raises(EditError, match="is singular"):
        plan_associate(context)


@pytest.mark.parametrize(
    "section",
    [
        {"prompt": "a", "subject": "a"},
        {**FACT, "facts": "facts.json"},
        {**FACT, "margin": 0},
        {**FACT, "layers": []},
        {**FACT, "prefixes": 17},
        {**FACT, "linearisations": 0},
    ],
)
def test_sections_that_say_nothing_possible(section: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        EditRecipe.model_validate({"model": {"path": "tiny"}, "associate": section})
