"""The bundled texts keep the promises of readwrite_edit/data/README.md."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import readwrite_edit.data

FOLDER = Path(readwrite_edit.data.__file__).parent
CHATS = {"chat.jsonl": 60, "chat_eval.jsonl": 30}
PROSE = {"prose.txt": (4500, 5500), "prose_eval.txt": (2250, 2750)}
HELD_OUT = 32


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


def plain(text: str) -> str:
    """Lower case, words only: differences of punctuation do not hide a repeat."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def prompts(name: str) -> list[str]:
    if name == "concise.jsonl":
        return [plain(row["prompt"][0]["content"]) for row in rows(name)]
    return [plain(m["content"]) for row in rows(name) for m in row["messages"] if m["role"] == "user"]


def texts(name: str) -> list[str]:
    if name.endswith(".txt"):
        return (FOLDER / name).read_text(encoding="utf-8").split("\n\n")
    if name == "concise.jsonl":
        return [row[key][0]["content"] for row in rows(name) for key in ("prompt", "chosen", "rejected")]
    return [message["content"] for row in rows(name) for message in row["messages"]]


def sentences(name: str) -> set[str]:
    pieces = {plain(piece) for text in texts(name) for piece in re.split(r'(?<=[.!?:;])["”]?\s+', text)}
    # Short ones such as "they work too" may meet by chance and carry nothing over.
    return {piece for piece in pieces if len(piece.split()) >= 5}


def test_concise_has_256_rows_in_trl_conversational_format():
    data = rows("concise.jsonl")
    assert len(data) == 256
    for row in data:
        assert list(row) == ["prompt", "chosen", "rejected"]
        for key, role in (("prompt", "user"), ("chosen", "assistant"), ("rejected", "assistant")):
            (message,) = row[key]
            assert message["role"] == role and set(message) == {"role", "content"}
            assert message["content"] == message["content"].strip() != ""


def test_concise_answers_differ_and_none_is_used_twice():
    for key in ("chosen", "rejected"):
        counts = Counter(plain(row[key][0]["content"]) for row in rows("concise.jsonl"))
        assert max(counts.values()) == 1, counts.most_common(3)
    assert all(row["chosen"] != row["rejected"] for row in rows("concise.jsonl"))


def test_concise_prefers_the_shorter_answer_mostly_but_not_always():
    words = [[len(row[key][0]["content"].split()) for key in ("chosen", "rejected")] for row in rows("concise.jsonl")]
    longer = sum(chosen < rejected for chosen, rejected in words)
    assert 0.8 <= longer / len(words) < 1
    assert max(chosen for chosen, _ in words) <= 35
    assert 25 <= sum(rejected for _, rejected in words) / len(words) <= 60


def test_concise_padding_follows_no_single_template():
    rejected = [row["rejected"][0]["content"].lower().split() for row in rows("concise.jsonl")]
    firsts = Counter(words[0] for words in rejected)
    assert len(firsts) > 190
    assert max(firsts.values()) <= 20
    assert max(Counter(tuple(words[:3]) for words in rejected).values()) <= 3
    assert max(Counter(tuple(words[-3:]) for words in rejected).values()) <= 5


def test_the_held_out_rows_pad_in_the_same_mixed_ways():
    held_out = rows("concise.jsonl")[-HELD_OUT:]
    words = [[len(row[key][0]["content"].split()) for key in ("chosen", "rejected")] for row in held_out]
    evasive = sum(rejected <= 18 for _, rejected in words)
    assert 2 <= evasive <= HELD_OUT // 2


@pytest.mark.parametrize(("name", "count"), CHATS.items())
def test_chats_alternate_user_and_assistant_for_one_to_three_turns(name: str, count: int):
    data = rows(name)
    assert len(data) == count
    for row in data:
        assert list(row) == ["messages"]
        roles = [message["role"] for message in row["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2) and len(roles) in (2, 4, 6)
        answers = [len(m["content"].split()) for m in row["messages"] if m["role"] == "assistant"]
        assert min(answers) >= 20 and max(answers) <= 80
    assert {len(row["messages"]) for row in data} == {2, 4, 6}


@pytest.mark.parametrize(("name", "limits"), PROSE.items())
def test_prose_has_the_promised_length_in_plain_paragraphs(name: str, limits: tuple[int, int]):
    text = (FOLDER / name).read_text(encoding="utf-8")
    paragraphs = text.rstrip("\n").split("\n\n")
    assert limits[0] <= len(text.split()) <= limits[1]
    assert len(paragraphs) >= 20 and all(paragraph and "\n" not in paragraph for paragraph in paragraphs)
    assert all(40 <= len(paragraph.split()) <= 200 for paragraph in paragraphs)


def test_no_prompt_appears_twice_in_or_between_the_files():
    every = [prompt for name in ("concise.jsonl", *CHATS) for prompt in prompts(name)]
    assert [prompt for prompt, count in Counter(every).items() if count > 1] == []


@pytest.mark.parametrize("evaluation", ["prose_eval.txt", "chat_eval.jsonl"])
@pytest.mark.parametrize("seen", ["prose.txt", "chat.jsonl", "concise.jsonl"])
def test_evaluation_texts_share_no_sentence_with_seen_texts(evaluation: str, seen: str):
    assert len(sentences(evaluation)) > 100
    assert sentences(evaluation) & sentences(seen) == set()


def test_no_prose_sentence_is_repeated_within_the_calibration_texts():
    assert sentences("prose.txt") & (sentences("chat.jsonl") | sentences("concise.jsonl")) == set()


def test_the_texts_are_plain_printable_english():
    for name in ("concise.jsonl", *CHATS, *PROSE):
        text = (FOLDER / name).read_text(encoding="utf-8")
        assert "\t" not in text and "\r" not in text and "  " not in text
        assert set(re.findall(r"[^\x20-\x7e\n]", text)) <= {"é"}
