"""A probe's result on the terminal: what it says, that it fits, and that no string in it reaches the terminal raw."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from readwrite_edit.job.result import Result
from readwrite_edit.report.probe_grid import geometry_lines, mark
from readwrite_edit.report.probe_text import as_text
from tests.probe_frames import TABLES, delta_tables, geometry_frame

RUN = Path("runs/probe")
HOSTILE = "\x1b[31m\x07evil\u202e\x9b2J\nnext\x7f"


def result(kind: str = "delta", **changes: Any) -> Result:
    tables = changes.pop("tables", None) or TABLES[kind]()
    values = {"verdict": "Shown: it is.", "figures": {"read_ratio": 2.0}, "notes": ("One is missing.",)} | changes
    return Result(changes.pop("main", next(iter(tables))), tables, **values)


def shown(found: Result, form: str = "table", *, verdict_only: bool = False) -> str:
    return as_text(RUN, found, form=form, verdict_only=verdict_only)


def is_safe(text: str) -> bool:
    return all(char == "\n" or not unicodedata.category(char).startswith("C") for char in text)


def test_delta_shows_a_line_per_module_and_a_character_per_matrix() -> None:
    lines = shown(result()).splitlines()
    assert lines[:5] == [
        "module     layers  read÷k/d  ÷energy  write÷k/d  ÷energy  norm/‖W‖  changed",
        "q_proj          3      2.00     0.83          –        –  1.00e-03   25.0 %",
        "k_proj          3      2.00     0.83          –        –  1.00e-03   25.0 %",
        "o_proj          3         –        –       1.10        –  1.00e-03   25.0 %",
        "down_proj       3         –        –       1.10        –  1.00e-03   25.0 %",
    ]
    place = lines.index("read ÷ k/d by layer, 0 to 2")
    assert lines[place + 1 : place + 6] == [
        "q_proj     222",
        "k_proj     222",
        "write ÷ k/d by layer, 0 to 2",
        "o_proj     =-1",
        "down_proj  =-1",
    ]
    assert "note: One is missing." in lines and "verdict: Shown: it is." in lines and "read ratio      2" not in lines
    assert lines[-3:] == [
        "report   runs/probe/report.html",
        "summary  runs/probe/summary.json",
        "tables   runs/probe/NAME.parquet and .csv: curves, geometry, heads, tensors",
    ]


@pytest.mark.parametrize(
    ("figures", "character"),
    [((0.5, 0.4, 0.6, 1.0), "="), ((0.3, 0.4, 0.6, 0.6), "-"), ((1.0, 0.4, 0.6, 2.9), "2"), 
     ((1.0, 0.0, 0.1, 99.0), "9"), ((float("nan"), 0.4, 0.6, float("nan")), "·"), ((0.7, 0.4, float("nan"), 1.4), "1")],
)  # fmt: skip
def test_one_matrix_is_one_character(figures: tuple[float, ...], character: str) -> None:
    assert mark(*figures) == character


def test_grid_that_does_not_fit_is_left_out() -> None:
    wide = pd.concat([geometry_frame().assign(layer=layer) for layer in range(90)])
    lines = geometry_lines(wide, 80)
    assert len(lines) == 5 and all(len(line) <= 80 for line in lines)
    assert any("by layer" in line for line in geometry_lines(wide, 120))


@pytest.mark.parametrize("kind", TABLES)
def test_table_of_every_kind_fits_the_terminal(kind: str) -> None:
    text = shown(result(kind))
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "verdict: Shown: it is." in text and is_safe(text)


def test_long_and_wide_tables_say_what_is_left_out() -> None:
    table = pd.DataFrame({f"column_{number}": range(100) for number in range(30)})
    lines = shown(result(tables={"big": table})).splitlines()
    assert "60 more rows and 22 more columns in big.csv" in " ".join(lines)
    assert all(len(line) <= 80 for line in lines)


def test_columns_that_say_nothing_are_left_out_of_the_table() -> None:
    table = pd.DataFrame({"layer": [0, 1], "same": ["x", "x"], "value": [0.5, None], "yes": [True, False]})
    lines = shown(result(tables={"few": table})).splitlines()
    assert [line.split() for line in lines[:3]] == [["layer", "value", "yes"], ["0", "0.5", "yes"], ["1", "–", "no"]]
    assert "(1 more columns in few.csv)" in lines


def test_empty_table_and_no_verdict() -> None:
    text = shown(result(tables={"none": pd.DataFrame()}, verdict=None, figures={}, notes=()))
    assert text.startswith("none: no rows") and "verdict" not in text
    assert shown(result(verdict=None), verdict_only=True).startswith("no verdict")


def test_many_figures_stand_in_two_columns() -> None:
    figures: dict[str, float | None] = {f"figure_{number}": number for number in range(10)} | {"last": None}
    text = shown(result(figures=figures))
    assert "figure 0  0      figure 6  6" in text and "figure 5  5\n" in text and "last      –" in text


def strict(text: str) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_json_is_strict_and_whole() -> None:
    table = pd.DataFrame(
        {
            "p": [1e-30, float("nan"), float("inf")],
            "n": [1, 2, 3],
            "name": ["a", None, "c"],
            "flag": [True, False, True],
        }
    )
    found = strict(shown(result(tables={"t": table}, figures={"x": float("nan"), "y": 2}), "json"))
    assert found["tables"]["t"] == [
        {"p": 1e-30, "n": 1, "name": "a", "flag": True},
        {"p": None, "n": 2, "name": None, "flag": False},
        {"p": None, "n": 3, "name": "c", "flag": True},
    ]
    assert (found["figures"], found["verdict"], found["notes"]) == (
        {"x": None, "y": 2},
        "Shown: it is.",
        ["One is missing."],
    )


def test_json_of_the_delta_holds_every_row_and_column() -> None:
    found = strict(shown(result(), "json"))["tables"]
    assert list(found) == ["geometry"]
    frame = geometry_frame()
    assert [list(row) for row in found["geometry"]] == [list(frame.columns)] * len(frame)
    assert found["geometry"][0]["read_isotropic_p"] == 1e-30


def test_csv_is_the_main_table() -> None:
    rows = list(csv.DictReader(io.StringIO(shown(result(), "csv"))))
    frame = geometry_frame()
    assert list(rows[0]) == list(frame.columns) and len(rows) == len(frame)
    assert float(rows[0]["read_fraction"]) == frame["read_fraction"][0] and rows[-1]["read_fraction"] == ""


@pytest.mark.parametrize("form", ["table", "json", "csv"])
@pytest.mark.parametrize("kind", TABLES)
def test_no_string_reaches_the_terminal_raw(kind: str, form: str) -> None:
    tables = {
        name: table.assign(**{name: HOSTILE for name in table if not pd.api.types.is_numeric_dtype(table[name])})
        for name, table in TABLES[kind]().items()
    }
    tables = {HOSTILE if place else name: table for place, (name, table) in enumerate(tables.items())}
    tables = {name: table.rename(columns={"path": HOSTILE}) for name, table in tables.items()}
    found = result(tables=tables, verdict=HOSTILE, notes=(HOSTILE,), figures={HOSTILE: 1.0})
    assert is_safe(as_text(Path(HOSTILE), found, form=form, verdict_only=False))
    if form == "json":
        assert strict(shown(found, "json"))["verdict"] == HOSTILE


def test_verdict_alone_is_one_safe_line() -> None:
    text = shown(result(verdict=HOSTILE), "json", verdict_only=True)
    assert "\n" not in text and is_safe(text) and "evil" in text


def test_delta_without_a_write_side_or_without_columns_is_shown_all_the_same() -> None:
    frame = geometry_frame()
    reads = shown(result(tables=delta_tables() | {"geometry": frame.filter(regex="^(?!write)")}))
    assert "read ÷ k/d by layer" in reads and "write ÷ k/d by layer" not in reads
    assert "geometry: no rows" in shown(result(tables={"geometry": frame.head(0)}))
