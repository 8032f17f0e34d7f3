"""Preference data: every format and file kind gives the same rows; the split keeps prompts apart."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from readwrite_edit.align import hub_data
from readwrite_edit.align.preferences import PreferenceData, data_hash, load_preferences, split_rows
from readwrite_edit.errors import DataError
from readwrite_edit.recipe.sections import Data

Row = dict[str, Any]


def standard(number: int) -> Row:
    return {"prompt": f"Question {number}, “é”?", "chosen": f" good {number}", "rejected": f" bad {number}"}


def user(text: str) -> Row:
    return {"role": "user", "content": text}


def assistant(text: str) -> Row:
    return {"role": "assistant", "content": text}


def chat(number: int) -> Row:
    return {
        "prompt": [{"role": "system", "content": "Be kind."}, user(f"Question {number},\nplease?")],
        "chosen": [assistant(f'good "{number}"')],
        "rejected": [assistant(f"bad {number}")],
    }


def implicit(row: Row) -> Row:
    return {key: row["prompt"] + row[key] for key in ("chosen", "rejected")}


def write_jsonl(file: Path, rows: list[Row]) -> None:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_json_array(file: Path, rows: list[Row]) -> None:
    file.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def write_parquet(file: Path, rows: list[Row]) -> None:
    pq.write_table(pa.Table.from_pylist([{**row, "score": 0.5} for row in rows]), file)


def write_csv(file: Path, rows: list[Row]) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow({key: json.dumps(item) if isinstance(item, list) else item for key, item in row.items()})


WRITERS: dict[str, Callable[[Path, list[Row]], None]] = {
    ".jsonl": write_jsonl,
    ".json": write_json_array,
    ".parquet": write_parquet,
    ".csv": write_csv,
}


def load(path: Path | str, **options: Any) -> PreferenceData:
    return load_preferences(Data.model_validate({"path": str(path), "eval_rows": 2, **options}))


def all_rows(data: PreferenceData) -> list[Row]:
    return sorted([*data.train, *data.held_out], key=json.dumps)


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("make", [standard, chat])
@pytest.mark.parametrize("form", ["explicit", "implicit"])
def test_every_file_kind_and_format_gives_the_same_rows(
    tmp_path: Path, suffix: str, make: Callable[[int], Row], form: str
) -> None:
    expected = [make(number) for number in range(7)]
    WRITERS[suffix](tmp_path / f"data{suffix}", expected if form == "explicit" else [implicit(row) for row in expected])
    data = load(tmp_path / f"data{suffix}")
    if form == "implicit" and make is standard:
        # TRL's rule leaves the space with the answer.
        assert all(row["chosen"].startswith(" good") for row in data.train)
    assert all_rows(data) == sorted(expected, key=json.dumps)
    assert (len(data.train), len(data.held_out)) == (5, 2)
    assert data.origin == str(tmp_path / f"data{suffix}")


def test_columns_that_trl_tokenises_are_kept_and_others_are_not(tmp_path: Path) -> None:
    rows = [chat(number) | {"tools": [{"name": "f"}], "score": 3, "chat_template_kwargs": None} for number in range(4)]
    write_jsonl(tmp_path / "data.jsonl", rows)
    for row in load(tmp_path / "data.jsonl").train:
        assert set(row) == {"prompt", "chosen", "rejected", "tools"}


def test_nulls_of_columnar_messages_are_left_out(tmp_path: Path) -> None:
    rows = [chat(number) for number in range(4)]
    rows[0]["prompt"][0]["name"] = "Ann"
    write_parquet(tmp_path / "data.parquet", rows)
    assert all_rows(load(tmp_path / "data.parquet")) == sorted(rows, key=json.dumps)


def test_standard_texts_that_look_like_json_stay_texts_in_csv(tmp_path: Path) -> None:
    rows = [{"prompt": "JSON?", "chosen": f'[{{"a": {n}}}]', "rejected": f"[{{{n}}}]"} for n in range(2)]
    write_csv(tmp_path / "data.csv", [*rows, *(standard(n) for n in range(2))])
    assert rows[0] in all_rows(load(tmp_path / "data.csv"))


def test_csv_cells_may_be_longer_than_python_s_own_limit(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    rows = [standard(number) for number in range(4)]
    rows[1]["chosen"] = "x" * (limit + 1)
    write_csv(tmp_path / "data.csv", rows)
    assert rows[1] in all_rows(load(tmp_path / "data.csv"))
    assert csv.field_size_limit() == limit


def test_blank_lines_windows_line_ends_and_a_byte_order_mark_are_no_errors(tmp_path: Path) -> None:
    lines = "\r\n\r\n".join(json.dumps(standard(number)) for number in range(4))
    (tmp_path / "data.jsonl").write_bytes(b"\xef\xbb\xbf" + lines.encode() + b"\r\n\n")
    assert len(all_rows(load(tmp_path / "data.jsonl"))) == 4


def test_builtin_data_holds_its_last_rows_out() -> None:
    whole = load_preferences(Data(path="builtin:concise", seed=5))
    fewer = load_preferences(Data(path="builtin:concise", eval_rows=10))
    assert (len(whole.train), len(whole.held_out)) == (224, 32)
    assert whole.held_out[-10:] == fewer.held_out
    assert fewer.train[:224] == whole.train
    assert whole.origin == "builtin:concise"


def test_a_prompt_never_lies_on_both_sides() -> None:
    rows = [standard(number) | {"prompt": f"p{number % 7}"} for number in range(40)]
    for seed in range(20):
        train, held_out = split_rows(rows, 13, seed=seed)
        assert not {row["prompt"] for row in train} & {row["prompt"] for row in held_out}
        assert 0 < len(held_out) <= 13
        assert sorted(train + held_out, key=str) == sorted(rows, key=str)


def test_the_split_is_seeded_exact_and_in_order(tmp_path: Path) -> None:
    rows = [standard(number) for number in range(50)]
    write_jsonl(tmp_path / "data.jsonl", rows)
    first, again, other = (load(tmp_path / "data.jsonl", seed=seed, eval_rows=11) for seed in (3, 3, 4))
    assert first == again
    assert first.held_out != other.held_out
    assert len(first.held_out) == 11
    assert first.held_out != rows[-11:] and first.held_out != rows[:11]
    for side in (first.train, first.held_out):
        assert [rows.index(row) for row in side] == sorted(rows.index(row) for row in side)


def test_limit_draws_training_rows_with_the_seed(tmp_path: Path) -> None:
    rows = [standard(number) for number in range(50)]
    write_jsonl(tmp_path / "data.jsonl", rows)
    whole, limited, again, other = (
        load(tmp_path / "data.jsonl", **options)
        for options in ({"seed": 1}, {"seed": 1, "limit": 9}, {"seed": 1, "limit": 9}, {"seed": 2, "limit": 9})
    )
    assert limited == again != other
    assert limited.held_out == whole.held_out
    assert len(limited.train) == 9 and limited.train != whole.train[:9]
    assert [row for row in whole.train if row in limited.train] == limited.train
    assert load(tmp_path / "data.jsonl", limit=1000).train == load(tmp_path / "data.jsonl").train


def test_an_own_file_of_held_out_data_is_used_whole(tmp_path: Path) -> None:
    rows = [standard(number) for number in range(9)]
    write_jsonl(tmp_path / "train.jsonl", rows[:5])
    write_csv(tmp_path / "eval.csv", rows[5:])
    data = load(tmp_path / "train.jsonl", eval_path=str(tmp_path / "eval.csv"))
    assert (data.train, data.held_out) == (rows[:5], rows[5:])


def test_hash_depends_on_content_and_order_of_rows_only() -> None:
    rows = [chat(1), chat(2)]
    shuffled_fields = [dict(reversed(list(row.items()))) for row in rows]
    assert data_hash(rows) == data_hash(shuffled_fields)
    changed = [chat(1), chat(2) | {"chosen": [assistant('good "2".')]}]
    assert len({data_hash(rows), data_hash(rows[::-1]), data_hash(rows[:1]), data_hash(changed)}) == 4
    assert len(data_hash(rows)) == 64


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None, str | None]]:
    """A data set "owner/pairs" with the splits train and test, in a folder; what is asked for is returned."""
    folder = tmp_path / "hub"
    folder.mkdir()
    write_jsonl(folder / "train.jsonl", [chat(number) for number in range(6)])
    write_jsonl(folder / "test.jsonl", [chat(number) for number in range(6, 9)])
    asked: list[tuple[str, str | None, str | None]] = []

    def local_builder(path: str, name: str | None, revision: str | None) -> datasets.DatasetBuilder:
        asked.append((path, name, revision))
        return datasets.load_dataset_builder(str(folder), name, cache_dir=str(tmp_path / "cache"))

    monkeypatch.setattr(
        hub_data, "datasets", type("Stand-in", (), {"load_dataset_builder": staticmethod(local_builder)})
    )
    datasets.disable_progress_bars()
    return asked


def test_hub_data_set_with_its_own_split(hub: list[Any]) -> None:
    data = load("owner/pairs", revision="main", eval_split="test", name="default")
    assert (len(data.train), len(data.held_out)) == (6, 3)
    assert data.held_out[0] == chat(6)
    assert hub == [("owner/pairs", "default", "main")] * 2
    assert data.origin == "owner/pairs, default, train, revision main"


def test_configuration_and_revision_do_not_carry_over_to_another_data_set(hub: list[Any]) -> None:
    load("owner/pairs", revision="main", name="default", eval_path="owner/other", eval_split="test")
    assert hub == [("owner/pairs", "default", "main"), ("owner/other", None, None)]


def test_hub_data_set_split_by_us(hub: list[Any]) -> None:
    assert all_rows(load("owner/pairs")) == sorted((chat(number) for number in range(6)), key=json.dumps)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"eval_split": "validation"}, "validation"),
        ({"name": "other"}, "'other'"),
        ({"eval_split": "train"}, "would be the training data itself"),
        ({"eval_path": "owner/pairs"}, "would be the training data itself"),
    ],
)
def test_wrong_parts_of_a_hub_data_set_are_one_line(hub: list[Any], options: Row, expected: str) -> None:
    with pytest.raises(DataError) as raised:
        load("owner/pairs", **options)
    assert expected in str(raised.value) and "owner/pairs" in str(raised.value)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 400
