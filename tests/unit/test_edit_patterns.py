"""Patterns in prompts are found by characters, not by tokens."""

from __future__ import annotations

import pytest

from readwrite_edit.edit.patterns import Tokens, check_lengths, prompts_of, tokenised
from readwrite_edit.errors import DataError, EditError
from tests.tiny_models import TINY, tiny_tokenizer


def read(prompt: str, **options) -> Tokens:
    return tokenised([prompt], tiny_tokenizer(), **options)[0]


def test_last_token_of_the_last_occurrence() -> None:
    tokens = read("cat and cat ran")
    assert tokens.last_token("cat") == 10
    assert tokens.last_token("cat", before=10) == tokens.last_token("cat", before=3) == 2
    assert tokens.last == 14 and tokens.shown == "cat and cat ran"


def test_occurrences_may_overlap() -> None:
    assert read("aaaa").last_token("aa", before=2) == 1


@pytest.mark.parametrize(("pattern", "before"), [("dog", None), ("Cat", None), ("cat", 2), ("", None)])
def test_a_pattern_that_is_not_there_is_refused(pattern: str, before: int | None) -> None:
    with pytest.raises(EditError, match="not in the prompt 'the cat'" if before is None else "only at token 6"):
        read("the cat").last_token(pattern, before=before)


def test_one_token_of_several_characters_and_one_character_of_several_tokens() -> None:
    """Tokens: the tokenizer's own, "ab", " c" without its space in the span (as some have it), and two halves of é."""
    tokens = Tokens("ab cé", (1, 7, 8, 9, 9), ((0, 0), (0, 2), (3, 4), (4, 5), (4, 5)), (0, 5))
    assert [tokens.last_token(pattern) for pattern in ("a", "ab", " ", "c", "é")] == [1, 1, 1, 2, 4]
    assert tokens.last == 4


def test_patterns_of_a_chat_are_those_of_the_user() -> None:
    tokens = read("the user sat", format="chat")
    assert tokens.text.startswith("<|im_start|>user\n") and tokens.text.endswith("assistant\n")
    assert tokens.shown == "the user sat"
    assert tokens.last_token("user") == len("_user\nthe user") - 1  # the template's own mark is one token
    with pytest.raises(EditError, match="assistant"):
        tokens.last_token("assistant")


def test_prompts_to_measure_on() -> None:
    found = prompts_of([read("the cat"), read("a dog")], "locality")
    assert [(one.kind, one.item, one.text, len(one.ids)) for one in found] == [
        ("locality", 0, "the cat", 7),
        ("locality", 1, "a dog", 5),
    ]


def test_prompts_that_can_not_be_read_are_refused() -> None:
    with pytest.raises(EditError, match="no token"):
        read("")
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(DataError, match="no chat template"):
        tokenised(["a"], tokenizer, format="chat")
    tokenizer.chat_template = "{{ raise_exception('no') }}"
    with pytest.raises(DataError, match="refuses it"):
        tokenised(["a"], tokenizer, format="chat")
    with pytest.raises(EditError, match="257 tokens, the model 256 positions"):
        check_lengths([read("a" * 257)], TINY["gpt2"]())
    check_lengths([read("a" * 257)], TINY["bloom"]())  # ALiBi knows no last position


def test_a_tokenizer_without_characters_is_refused(monkeypatch) -> None:
    tokenizer = tiny_tokenizer()
    monkeypatch.setattr(type(tokenizer), "is_fast", False)
    with pytest.raises(EditError, match="which characters"):
        tokenised(["a"], tokenizer)
