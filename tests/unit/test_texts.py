"""Texts of a recipe as token sequences: built-in, files, formats, and how many tokens."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import PreTrainedTokenizerFast

from readwrite_edit.align.texts import load_text, supports_chat
from readwrite_edit.errors import DataError
from readwrite_edit.recipe.sections import ProtectedText
from tests.tiny_models import tiny_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def bare() -> PreTrainedTokenizerFast:
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.chat_template = None
    return tokenizer


def text_of(path: Path | str, **options: Any) -> ProtectedText:
    return ProtectedText.model_validate({"path": str(path), **options})


def decoded(sequences: list[list[int]], tokenizer: PreTrainedTokenizerFast) -> list[str]:
    return sorted(tokenizer.decode(sequence) for sequence in sequences)


def write_lines(file: Path, rows: list[Any]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.mark.parametrize("name", ["prose", "prose_eval", "chat", "chat_eval"])
def test_builtin_texts_give_the_tokens_asked_for(name: str, tokenizer: PreTrainedTokenizerFast) -> None:
    text = text_of(f"builtin:{name}", tokens=3000)
    sequences = load_text(text, tokenizer, max_length=100)
    assert sum(map(len, sequences)) == 3000
    assert max(map(len, sequences)) == 100
    assert ("<|im_start|>" in tokenizer.decode(sequences[0])) == name.startswith("chat")
    assert sum(map(len, load_text(text, tokenizer, tokens=500, max_length=100))) == 500


def test_the_choice_is_seeded(tokenizer: PreTrainedTokenizerFast) -> None:
    text = text_of("builtin:prose", tokens=600)
    first, again, other = (load_text(text, tokenizer, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_a_text_file_is_read_whole_and_in_paragraphs(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    paragraphs = ["a" * 30, "b" * 140, "c" * 5, "d" * 400, "e" * 20]
    (tmp_path / "my.txt").write_bytes("\r\n\r\n".join(paragraphs).encode("utf-8-sig"))
    sequences = load_text(text_of(tmp_path / "my.txt"), tokenizer, max_length=10)
    together = "".join(tokenizer.decode(sequence) for sequence in sequences)
    assert {letter: together.count(letter) for letter in "abcde"} == {"a": 30, "b": 140, "c": 5, "d": 400, "e": 20}
    assert not set(together) - set("abcde\n")
    assert max(map(len, sequences)) == 10


def test_documents_are_drawn_from_the_whole_file(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    (tmp_path / "my.txt").write_text("\n\n".join(letter * 300 for letter in "abcdefgh"), encoding="utf-8")
    text = text_of(tmp_path / "my.txt", tokens=10)
    drawn = {tokenizer.decode(load_text(text, tokenizer, max_length=10, seed=seed)[0])[0] for seed in range(12)}
    assert len(drawn) > 3


def test_short_paragraphs_are_put_together(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    (tmp_path / "my.txt").write_text("\n\n".join(["short"] * 100), encoding="utf-8")
    sequences = load_text(text_of(tmp_path / "my.txt"), tokenizer, max_length=10)
    assert sum(len(sequence) < 10 for sequence in sequences) <= 4


def test_only_as_much_as_needed_is_tokenised(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    asked = []

    class Counting:
        bos_token_id = None

        def __call__(self, text: str, **options: Any) -> Any:
            asked.append(len(text))
            return tokenizer(text, **options)

    (tmp_path / "long.txt").write_text("\n\n".join("x" * 100 for _ in range(2000)), encoding="utf-8")
    load_text(text_of(tmp_path / "long.txt"), Counting(), tokens=200, max_length=20)  # type: ignore[arg-type]
    assert sum(asked) < 1000


@pytest.mark.parametrize("row", [{"text": "hello"}, {"content": "hello"}, {"prompt": "hel", "chosen": "lo"}])
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".csv"])
def test_plain_text_columns(
    row: dict[str, str], suffix: str, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    file = tmp_path / f"texts{suffix}"
    blank = {key: " " for key in row}
    if suffix == ".jsonl":
        write_lines(file, [row, blank])
    elif suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([row, blank]), file)
    else:
        file.write_text("\n".join(",".join(cells) for cells in (row, row.values(), blank.values())), encoding="utf-8")
    assert decoded(load_text(text_of(file), tokenizer), tokenizer) == ["hello"]


MESSAGES = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
RENDERED = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nho<|im_end|>\n"


@pytest.mark.parametrize(
    "row", [{"messages": MESSAGES}, {"prompt": MESSAGES[:1], "chosen": MESSAGES[1:]}, {"chosen": MESSAGES}]
)
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_chats(row: dict[str, Any], suffix: str, tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    file = tmp_path / f"chats{suffix}"
    if suffix == ".jsonl":
        write_lines(file, [row])
    else:
        pq.write_table(pa.Table.from_pylist([row]), file)
    assert decoded(load_text(text_of(file, format="chat"), tokenizer), tokenizer) == [RENDERED]


def test_chats_need_a_chat_template(bare: PreTrainedTokenizerFast, tokenizer: PreTrainedTokenizerFast) -> None:
    assert supports_chat(tokenizer) and not supports_chat(bare)
    with pytest.raises(DataError, match=r"builtin:chat: .*no chat template; use a plain text \(format: text\)"):
        load_text(text_of("builtin:chat"), bare)
    assert load_text(text_of("builtin:prose"), bare)


@pytest.mark.parametrize(
    ("path", "format", "expected"),
    [
        ("builtin:chat", "text", "line 1: no text and no content; set format: chat to read its messages"),
        ("builtin:prose", "chat", "set format: text"),
        ("builtin:pros", "text", "did you mean builtin:prose?"),
        ("builtin:zzzzzzzz", "text", "expected builtin:prose, "),
    ],
)
def test_wrong_format_or_name_says_what_to_do(
    path: str, format: str, expected: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(DataError) as raised:
        load_text(text_of(path, format=format), tokenizer)
    assert expected in str(raised.value)
    assert str(raised.value).startswith(path) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "empty; expected some text"),
        (b" \n\n \n\n", "empty; expected some text"),
        (b"one\ntwo \xff\n", "line 2: not valid UTF-8"),
        (b"one\ntwo\nthree \0\n", "line 3: it holds a NUL character"),
    ],
)
def test_bad_text_files(content: bytes, expected: str, tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    (tmp_path / "bad.txt").write_bytes(content)
    with pytest.raises(DataError) as raised:
        load_text(text_of(tmp_path / "bad.txt"), tokenizer)
    assert str(raised.value).startswith(f"{tmp_path / 'bad.txt'}: {expected}")


@pytest.mark.parametrize(
    ("rows", "format", "expected"),
    [
        ([{"text": "ok"}, {"text": 5}], "text", "line 2: text is a number"),
        ([{"text": "ok"}, {"text": "a\0"}], "text", "line 2: text holds a NUL"),
        ([{"body": "x"}], "text", "line 1: no text and no content (its fields: body)"),
        ([{"text": "x"}], "chat", "line 1: no list of messages; set format: text"),
        ([{"messages": []}], "chat", "line 1: messages is an empty list"),
        ([{"messages": [{"role": "bot", "content": "x"}]}], "chat", "message 1 of messages has the unknown role 'bot'"),
        ([{"text": n} for n in range(8)], "text", "; and 3 more bad rows"),
        ([{"text": " "}], "text", "empty"),
    ],
)
def test_bad_records(
    rows: list[Any], format: str, expected: str, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(DataError) as raised:
        load_text(text_of(write_lines(tmp_path / "bad.jsonl", rows), format=format), tokenizer)
    assert expected in str(raised.value) and "\n" not in str(raised.value)


def test_a_template_that_refuses_a_chat_names_its_line(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    strict = copy.deepcopy(tokenizer)
    strict.chat_template = "{{ raise_exception('no system role') if messages[0].role == 'system' else 'ok' }}"
    rows = [{"messages": MESSAGES}, {"messages": [{"role": "system", "content": "x"}, *MESSAGES]}]
    file = write_lines(tmp_path / "chats.jsonl", rows)
    with pytest.raises(DataError, match=r"chats\.jsonl: line 2: the chat template refuses it \(no system role\)"):
        load_text(text_of(file, format="chat"), strict)
