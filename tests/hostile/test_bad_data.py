"""Bad preference data: one line that says which row of which file is wrong, and what."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from readwrite_edit.align import hub_data
from readwrite_edit.align.preferences import load_preferences
from readwrite_edit.errors import DataError
from readwrite_edit.recipe.sections import Data

GOOD = {"prompt": "q", "chosen": "a", "rejected": "b"}
USER = {"role": "user", "content": "q"}
A, B = ({"role": "assistant", "content": text} for text in "ab")
CHAT = {"prompt": [USER], "chosen": [A], "rejected": [B]}


def error_of(path: Path | str, **options: Any) -> str:
    with pytest.raises(DataError) as raised:
        load_preferences(Data.model_validate({"path": str(path), "eval_rows": 1, **options}))
    message = str(raised.value)
    assert message.isprintable(), "one line, nothing a terminal would act on"
    assert str(path).splitlines()[0] in message
    return message


def write(file: Path, *lines: Any) -> Path:
    file.write_bytes(
        b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)
    )
    return file


BAD_STANDARD = [
    (b'{"prompt": "q", "chosen": ', "not JSON ("),
    (b"prompt,chosen", "not JSON (Expecting value at column 1)"),
    (b'["a", "b"]', "a list; expected an object"),
    (b'"text"', "a text; expected an object"),
    (b"null", "null; expected an object"),
    (b"[" * 100_000, "nested too deeply"),
    (b'{"chosen": ' + b"9" * 5000 + b"}", "not JSON ("),
    (b'{"chosen": "caf\xe9"}', "not valid UTF-8 (byte 16)"),
    (b'{"chosen": "a\0"}', "not JSON (Invalid control character"),
    ({"prompt": "q", "rejected": "b"}, "no chosen (its fields: prompt, rejected)"),
    ({"prompt": "q", "text": "b"}, "no chosen and no rejected (its fields: prompt, text)"),
    ({}, "no chosen and no rejected (its fields: none)"),
    ({**GOOD, "chosen": 5}, "chosen is a number; expected a text or a list of messages"),
    ({**GOOD, "chosen": True}, "chosen is a truth value;"),
    ({**GOOD, "chosen": {"role": "assistant"}}, "chosen is an object;"),
    ({**GOOD, "rejected": None}, "rejected is null;"),
    ({**GOOD, "prompt": None}, "prompt is null;"),
    ({**GOOD, "chosen": ""}, "chosen is empty"),
    ({**GOOD, "rejected": " \n"}, "rejected is empty"),
    ({**GOOD, "prompt": ""}, "prompt is empty"),
    ({**GOOD, "chosen": "b"}, "chosen and rejected are identical"),
    ({"chosen": "qa", "rejected": "qa"}, "chosen and rejected are identical"),
    ({"chosen": "yes ", "rejected": "no"}, "share no beginning that could be it; add a prompt"),
    ({"chosen": "a", "rejected": "ab"}, "share no beginning that could be it; add a prompt"),
    ({"chosen": "q: a", "rejected": "q: "}, "rejected is empty after the beginning that both share"),
    ({**GOOD, "chosen": "a\0b"}, "chosen holds a NUL character"),
    ({**GOOD, "rejected": "\ud83d"}, "rejected holds half of a surrogate pair"),
    ({**GOOD, "chosen": [A]}, "prompt is a text, chosen is messages, rejected is a text; expected one form"),
    (CHAT, "conversational (lists of messages), unlike the rows before"),
]


@pytest.mark.parametrize(("row", "expected"), BAD_STANDARD, ids=[expected[:30] for _, expected in BAD_STANDARD])
def test_a_bad_row_names_its_line(row: Any, expected: str, tmp_path: Path) -> None:
    message = error_of(write(tmp_path / "data.jsonl", GOOD, b"", row, GOOD))
    assert message.startswith(f"{tmp_path / 'data.jsonl'}: line 3: ")
    assert expected in message and "line 4" not in message


BAD_CHATS = [
    ({**CHAT, "chosen": []}, "chosen is an empty list"),
    ({**CHAT, "prompt": []}, "prompt is an empty list"),
    ({**CHAT, "chosen": ["a"]}, "message 1 of chosen is a text; expected an object with role and content"),
    ({**CHAT, "chosen": [{"content": "a"}]}, "message 1 of chosen has no role (its fields: 'content')"),
    ({**CHAT, "chosen": [{"from": "gpt", "value": "a"}]}, "has no role (its fields: 'from, value')"),
    ({**CHAT, "chosen": [{"role": "bot\x1b[2J", "content": "a"}]}, r"the unknown role 'bot\x1b[2J'; expected one of"),
    ({**CHAT, "chosen": [{"role": ["user"], "content": "a"}]}, "the unknown role ['user']"),
    ({**CHAT, "chosen": [{"role": "assistant"}]}, "message 1 of chosen has no content"),
    ({**CHAT, "chosen": [{**A, "content": None}]}, "message 1 of chosen has a content that is null, not a text"),
    ({**CHAT, "chosen": [{**A, "content": [{"type": "text"}]}]}, "has a content that is a list, not a text"),
    ({**CHAT, "chosen": [{**A, "content": " "}]}, "chosen is empty"),
    ({**CHAT, "chosen": [A, USER, {**A, "content": ""}]}, "the last message of chosen is empty"),
    ({**CHAT, "chosen": [A, USER]}, "chosen ends with the role 'user'; expected 'assistant'"),
    ({**CHAT, "chosen": [USER, A]}, "chosen repeats the prompt"),
    ({**CHAT, "chosen": [B]}, "chosen and rejected are identical"),
    ({**CHAT, "chosen": [{**A, "content": "a\0"}]}, "chosen holds a NUL character"),
    ({**CHAT, "rejected": [{**B, "name": "\udc00"}]}, "rejected holds half of a surrogate pair"),
    ({"chosen": [USER, A], "rejected": [A, B]}, "share no beginning that could be it; add a prompt"),
    ({"chosen": [USER, A], "rejected": [USER]}, "share no beginning that could be it"),
    ({"chosen": [USER, A], "rejected": [USER, USER]}, "rejected ends with the role 'user'"),
    (GOOD, "standard (plain texts), unlike the rows before"),
]


@pytest.mark.parametrize(("row", "expected"), BAD_CHATS, ids=[expected[:30] for _, expected in BAD_CHATS])
def test_a_bad_chat_names_its_line(row: Any, expected: str, tmp_path: Path) -> None:
    message = error_of(write(tmp_path / "data.jsonl", CHAT, row, CHAT))
    assert ": line 2: " in message and expected in message


def test_five_bad_rows_are_explained_and_the_others_counted(tmp_path: Path) -> None:
    rows = [GOOD, *({"chosen": "x"} for _ in range(7)), {**GOOD, "chosen": ""}]
    message = error_of(write(tmp_path / "data.jsonl", *rows))
    assert [f"line {number}: " in message for number in range(1, 10)] == [False] + [True] * 5 + [False] * 3
    assert message.endswith("; and 3 more bad rows")
    assert error_of(write(tmp_path / "six.jsonl", *rows[:7])).endswith("; and 1 more bad row")
    assert error_of(write(tmp_path / "five.jsonl", *rows[:6])).endswith("line 6: no rejected (its fields: chosen)")


@pytest.mark.parametrize("name", ["data.jsonl", "data.json", "data.csv"])
@pytest.mark.parametrize("content", [b"", b"\n \n\n"])
def test_an_empty_file(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    message = error_of(tmp_path / name)
    assert "no rows" in message or "expected some of prompt, chosen" in message


def test_empty_json_array_and_parquet(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text("[]")
    assert "no rows" in error_of(tmp_path / "data.json")
    pq.write_table(pa.table({"chosen": pa.array([], pa.string())}), tmp_path / "data.parquet")
    assert "no rows" in error_of(tmp_path / "data.parquet")


def test_json_array_names_rows(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text(json.dumps([GOOD, 3, {"chosen": "a"}], indent=1))
    message = error_of(tmp_path / "data.json")
    assert "row 2: a number; expected an object" in message and "row 3: no rejected" in message
    (tmp_path / "data.json").write_text(json.dumps([GOOD])[:-3])
    assert "the whole file: not JSON" in error_of(tmp_path / "data.json")


BAD_TABLES = [
    (b"prompt,chosen,rejected\nq,a,b\nq,a\n", "row 2: 2 cells; expected 3"),
    (b"prompt,chosen,rejected\nq,a,b,c\n", "row 1: 4 cells; expected 3"),
    (b"prompt,chosen,rejected\nq,a,b\nq,\xff,b\n", "row 2: not valid UTF-8"),
    (b"prompt,chosen,rejected\nq,a,b\nq,,b\n", "row 2: chosen is empty"),
    (b'prompt,chosen,rejected\nq,a,b\nq,"a,b\n', "row 2: not CSV (unexpected end of data)"),
    (b"question,answer\nq,a\n", "its columns are answer, question; expected some of prompt, chosen, rejected"),
    (b"prompt,chosen\nq,a\n", "row 1: no rejected"),
    (b"prompt,chosen,rejected\nq,\"[{'role': 'user'}]\",b\n", "row 1: chosen looks like a list of messages and is not"),
]


@pytest.mark.parametrize(("content", "expected"), BAD_TABLES, ids=[expected[:30] for _, expected in BAD_TABLES])
def test_bad_csv(content: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_bytes(content)
    assert expected in error_of(tmp_path / "data.csv")


def test_bad_parquet(tmp_path: Path) -> None:
    file = tmp_path / "data.parquet"
    broken = pa.StringArray.from_buffers(3, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xffc"))
    pq.write_table(pa.table({"prompt": ["q"] * 3, "chosen": broken, "rejected": ["b", "b", None]}), file)
    message = error_of(file)
    assert "row 2: not valid UTF-8" in message and "row 3: rejected is null" in message and "row 1" not in message
    file.write_bytes(file.read_bytes()[:-10])
    assert "not a Parquet file, or damaged" in error_of(file)
    file.write_bytes(b"")
    assert "not a Parquet file, or damaged" in error_of(file)
    pq.write_table(pa.table({"question": ["q"]}), file)
    assert "its columns are question; expected some of prompt, chosen, rejected" in error_of(file)
    pq.write_table(pa.table({"chosen": [b"q"], "rejected": ["b"]}), file)
    assert "row 1: chosen is binary" in error_of(file)


def test_missing_files_and_folders_name_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "pairs.jsonl", GOOD)
    assert f"no such file; did you mean {tmp_path / 'pairs.jsonl'}?" in error_of(tmp_path / "pair.jsonl")
    assert "check the path" in error_of(tmp_path / "zzzzzzzzzzzzz.csv")
    assert f"there is no folder {tmp_path / 'no'} either" in error_of(tmp_path / "no" / "pairs.jsonl")
    assert f"a folder; expected a file, such as {tmp_path / 'pairs.jsonl'}" in error_of(tmp_path)
    (tmp_path / "sub").mkdir()
    assert "a folder; expected a file (.jsonl, " in error_of(tmp_path / "sub")
    assert "no such file" in error_of(tmp_path / "nested" / ("x" * 5000))


@pytest.mark.timeout(60)  # a pipe that is opened waits for ever
def test_other_suffixes_and_kinds_of_file(tmp_path: Path) -> None:
    write(tmp_path / "pairs.pkl", GOOD)
    assert "suffix '.pkl' is unknown here; expected one of .jsonl" in error_of(tmp_path / "pairs.pkl")
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert "not a regular file" in error_of(tmp_path / "pipe.jsonl")


def test_a_file_that_can_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "pairs.jsonl", GOOD)

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert "can not be read (Permission denied)" in error_of(file)


def test_control_characters_of_a_path_reach_no_terminal(tmp_path: Path) -> None:
    with pytest.raises(DataError) as raised:
        load_preferences(Data(path=str(tmp_path / "a\x1b[2J\nb.jsonl")))
    assert str(raised.value).isprintable() and r"a\x1b[2J\x0ab.jsonl" in str(raised.value)


def test_too_few_rows(tmp_path: Path) -> None:
    rows = [{**GOOD, "prompt": f"q{number}"} for number in range(4)]
    file = write(tmp_path / "pairs.jsonl", *rows)
    assert "4 rows; expected at least 5 to hold 4 out" in error_of(file, eval_rows=4)
    assert len(load_preferences(Data(path=str(file), eval_rows=3)).train) == 1
    one = write(tmp_path / "one.jsonl", GOOD)
    assert "1 row; expected at least 2" in error_of(one)
    same = write(tmp_path / "same.jsonl", *[{**GOOD, "chosen": f"a{number}"} for number in range(9)])
    assert "each of its 1 prompts has more than 3 rows" in error_of(same, eval_rows=3)
    assert "256 rows; expected at least 257" in error_of("builtin:concise", eval_rows=256)


def test_options_of_the_hub_are_not_ignored_for_a_file(tmp_path: Path) -> None:
    file = write(tmp_path / "pairs.jsonl", GOOD, {**GOOD, "prompt": "other"})
    other = write(tmp_path / "other.jsonl", GOOD)
    for options in ({"name": "x"}, {"revision": "x"}, {"split": "x"}, {"eval_split": "x"}):
        message = error_of(file, **options)
        assert f"data.{next(iter(options))} is 'x', but" in message and "single table" in message
    with pytest.raises(DataError, match=r"data\.eval_split is 'x', but .*other.jsonl is a single table"):
        load_preferences(Data(path=str(file), eval_path=str(other), eval_split="x"))


def test_held_out_data_must_be_another_file(tmp_path: Path) -> None:
    file = write(tmp_path / "pairs.jsonl", GOOD, {**GOOD, "prompt": "other"})
    (tmp_path / "link.jsonl").symlink_to(file)
    for path in (file, tmp_path / "link.jsonl", tmp_path / "." / "pairs.jsonl"):
        with pytest.raises(DataError, match="would be the training data itself"):
            load_preferences(Data(path=str(file), eval_path=str(path)))
    bad = write(tmp_path / "bad.jsonl", {"chosen": "x"})
    with pytest.raises(DataError, match=r"bad\.jsonl: line 1: no rejected"):
        load_preferences(Data(path=str(file), eval_path=str(bad)))


def test_builtin_data_that_is_not_there() -> None:
    assert "did you mean builtin:concise?" in error_of("builtin:concice")
    assert "expected builtin:concise" in error_of("builtin:zzzzzzzzzzzz")


def test_offline_and_not_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    message = error_of("owner/not-in-any-cache")
    assert "the Hub can not be reached (network, or HF_HUB_OFFLINE set); connect, or name a local file" in message


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionError("a\nb"), "can not be reached"),
        (datasets.exceptions.DatasetNotFoundError("gone"), "no such Hub data set, or it is private or gated"),
        (RuntimeError("Dataset scripts are no longer supported\nat all"), "(Dataset scripts are no longer supported)"),
        (RuntimeError("x" * 5000 + "\x1b"), "can not be loaded (xxx"),
    ],
)
def test_whatever_the_hub_raises_is_one_line(error: Exception, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset_builder", refuse)
    message = error_of("owner/pairs")
    assert expected in message and len(message) < 500


def test_readers_that_load_pickles_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets.packaged_modules.pandas.pandas import Pandas

    downloads: list[str] = []

    class Builder(Pandas):
        def __init__(self) -> None:
            pass

        def download_and_prepare(self, *_: Any, **__: Any) -> None:
            downloads.append("started")

    monkeypatch.setattr(hub_data.datasets, "load_dataset_builder", lambda *_, **__: Builder())
    assert "its files need the reader 'pandas'" in error_of("owner/pairs")
    assert not downloads
