"""Lines of ``evaluations.jsonl``: what is written is read back, and what is malformed is left out."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from readwrite_edit.durable import plain
from readwrite_edit.errors import DataError
from readwrite_edit.evaluate.metrics import described
from readwrite_edit.evaluate.records import (
    Evaluation,
    RowScores,
    TextScores,
    as_line,
    find_evaluations,
    parse,
    token_id,
)
from readwrite_edit.evaluate.result import read_result, write_result

ROWS = RowScores(
    ids=("a",), chosen=(-1.23456789,), rejected=(-2.0,), reference_chosen=(-1.5,), reference_rejected=(-2.5,)
)
TEXT = TextScores(ids=("b", "c"), positions=(3, 4), kl=(0.1, 0.2), nll=(5.0, 6.0), base_nll=(5.5, 6.5))
EVALUATION = Evaluation(step=4, beta=0.1, rows=ROWS, texts={"prose": TEXT}, price={"prose": 0.5})


def test_an_evaluation_survives_its_line_to_seven_digits():
    read = parse(json.loads(json.dumps(as_line(EVALUATION))))
    assert read is not None and read.rows is not None
    assert read.rows.chosen == (-1.234568,) and read.texts == {"prose": TEXT} and read.price == {"prose": 0.5}
    assert parse(as_line(Evaluation(step=0, beta=1.0, rows=None, texts={}))) is not None


def test_ids_are_of_the_content():
    assert token_id([1, 2], [3]) == token_id((1, 2), (3,)) != token_id([1], [2, 3])
    assert len(token_id([1])) == 12


BROKEN = {
    "a newer schema": {"schema": 2},
    "no step": {"step": None},
    "a negative step": {"step": -1},
    "no β": {"beta": None},
    "texts that are a list": {"texts": [1]},
    "a column of another length": {"texts": {"prose": {**as_line(EVALUATION)["texts"]["prose"], "kl": [0.1]}}},
    "a column that is missing": {"texts": {"prose": {"ids": ["b"]}}},
    "a column nobody knows": {"rows": {**as_line(EVALUATION)["rows"], "more": [1]}},
    "null among the numbers": {"texts": {"prose": {**as_line(EVALUATION)["texts"]["prose"], "kl": [0.1, None]}}},
    "ids that are numbers": {"rows": {**as_line(EVALUATION)["rows"], "ids": [7]}},
    "no rows at all": {"rows": {name: [] for name in as_line(EVALUATION)["rows"]}},
    "a price in words": {"price": {"prose": "dear"}},
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_a_malformed_line_holds_no_evaluation(change):
    assert parse({**as_line(EVALUATION), **change}) is None


def test_a_run_gives_its_evaluations_by_step_and_passes_over_garbage(tmp_path: Path):
    def line(step: int, segment: int, **change: object) -> str:
        return json.dumps({**as_line(EVALUATION), "step": step, "segment": segment, **change})

    lines = [
        line(8, 0), line(4, 0), line(12, 0),  # the resume went on from 8: what lies beyond no longer holds
        "no json", "[]", '{"step": "x", "segment": 0}', line(10, 1, schema=9), line(12, 1, beta=0.7),
    ]  # fmt: skip
    (tmp_path / "evaluations.jsonl").write_text("\n".join(lines) + "\n" + line(16, 1)[:40], encoding="utf-8")
    state = {"schema": 1, "status": "finished", "kind": "align", "recipe": "r", "segment": 1, "segment_starts": [0, 8]}
    (tmp_path / "state.json").write_text(json.dumps(state), encoding="utf-8")
    found = find_evaluations(tmp_path).evaluations
    assert [one.step for one in found] == [4, 8, 12] and found[-1].beta == 0.7
    assert find_evaluations(tmp_path).damaged == [
        "the evaluation at step 10 can not be used: it is of another schema than 1",
        "4 lines can not be read: no valid JSON object of up to 1 MiB with its step (steps that can: 4, 8, 12)",
    ]
    assert find_evaluations(tmp_path / "nowhere").evaluations == [] == find_evaluations(tmp_path / "nowhere").damaged


@pytest.mark.parametrize("name", ["null among the numbers", "a newer schema", "a column of another length"])
def test_an_evaluation_that_can_not_be_used_is_named_with_its_step_and_the_reason(tmp_path: Path, name: str):
    line = {**as_line(EVALUATION), "segment": 0}
    lines = (json.dumps(one) for one in (line, {**line, "step": 8, **BROKEN[name]}))
    (tmp_path / "evaluations.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    reason = {
        "null among the numbers": "texts.prose.kl has 1 entry without a finite number",
        "a newer schema": "it is of another schema than 1",
        "a column of another length": "texts.prose.kl has 1 entry for 2 ids",
    }[name]
    found = find_evaluations(tmp_path)
    assert [one.step for one in found.evaluations] == [4]
    assert found.damaged == [f"the evaluation at step 8 can not be used: {reason}"]


def test_a_result_is_read_back_and_says_what_can_not_be_compared(tmp_path: Path):
    path = tmp_path / "result.json"
    content = {"schema": 1, "kind": "evaluation", "metrics": described(), "evaluation": as_line(EVALUATION)}
    write_result(path, plain({**content, "odd": math.nan}))
    found = read_result(path)
    assert found.evaluation is not None and found.not_comparable == () and found.content["odd"] is None
    content["metrics"]["kl"] = {**content["metrics"]["kl"], "version": 2}
    write_result(path, content)
    assert "not comparable" in read_result(path).not_comparable[0]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "evaluation"}',
                                  '{"kind": "evaluation", "metrics": {}, "schema": 7}'])  # fmt: skip
def test_what_is_no_result_is_refused(text, tmp_path: Path):
    path = tmp_path / "result.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError):
        read_result(path)
