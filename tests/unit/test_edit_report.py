"""The page and the terminal text of an edit: what they show of each kind, and that no table or string breaks them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import unicodedata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from readwrite_edit.errors import DataError
from readwrite_edit.report import write_report
from readwrite_edit.report.edit_figures import figures_of_edit
from readwrite_edit.report.edit_text import preflight_text, result_text
from tests.edit_frames import (
    COMMAND,
    NOTE,
    TABLES,
    VERDICT,
    control_tables,
    extract_tables,
    price_tables,
    trace_tables,
    write_edit,
)
from tests.report_pages import Page, page_of

HOSTILE = "</pre></style><script>alert('x')</script><img src=//evil.example/x onerror=alert(1)>\x1b[31m$x$"
PRICE = ["Price", "Neutral texts", "Predicted and measured damage", "Earlier edits in the same matrices"]
CONTROLS = ["Effect and controls", "Effect in numbers"]
TITLES = {
    "associate": ["Before and after", *CONTROLS, *PRICE, "Prompt by prompt", "Facts"],
    "attend": [*CONTROLS, *PRICE, "Attention scores", "Attention that should stay"],
    "project": ["Before and after", *CONTROLS, *PRICE, "Prompt by prompt", "The concept, on held-out prompts",
                "What was projected"],
    "steer": [*CONTROLS, *PRICE, "Where the pattern acts"],
    "extract": [*PRICE, "Retained energy"],
    "project_adapter": [*PRICE, "Retained energy"],
    "locate": ["What was traced", "Causal trace: restored prediction", "Causal trace by layer",
               "Causal trace: restored probability"],
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of each kind, with its page."""
    root = tmp_path_factory.mktemp("edits")
    found = {kind: write_edit(root / kind, kind) for kind in TABLES}
    for run in found.values():
        write_report(run)
    return found


def page_text(run: Path) -> str:
    return (run / "report.html").read_text(encoding="utf-8")


def prepared(tables: dict[str, pd.DataFrame], **plan: Any) -> Any:
    """An edit that is priced and not applied."""
    given = {"title": "Eiffel Tower → Rome", "why": "Layer 1.", "notes": (), "figures": {}, "tables": {}} | plan
    price = SimpleNamespace(tables=tables, table=tables["preflight"], notes=(NOTE,), figures={"norm": 2.5})
    recipe = SimpleNamespace(kind="project_adapter")
    return SimpleNamespace(context=SimpleNamespace(recipe=recipe), plan=SimpleNamespace(**given), price=price)


def is_safe(text: str) -> bool:
    return all(char == "\n" or not unicodedata.category(char).startswith("C") for char in text)


@pytest.mark.parametrize("kind", TABLES)
def test_every_kind_shows_all_its_figures_and_fetches_nothing(runs: dict[str, Path], kind: str) -> None:
    html = page_text(runs[kind])
    page = Page(html)
    assert re.findall(r'<h2 id="figure-\d+">(.*?)</h2>', html) == TITLES[kind]
    assert "Left out of this page" not in page.words
    assert page.words.count(f"Made by {COMMAND.replace('KIND', kind)}") == len(TITLES[kind])
    assert VERDICT.split(":")[0] in page.words and NOTE in page.words and "bundled:tiny" in page.words
    assert not {"script", "link", "iframe", "object", "embed", "img", "base"} & set(page.tags)
    assert not [entry for entry in page.attributes if entry[1] in ("src", "srcset", "href", "action")]
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_page_shows_title_reason_generations_and_certificate(runs: dict[str, Path]) -> None:
    words = Page(page_text(runs["associate"])).words
    assert "Edit: associate Eiffel Tower → Rome bundled:tiny · associate" in words
    assert "Why here Layer 1, as a causal trace names it." in words
    assert "before Paris, France. after Rome, Italy." in words
    assert "The adapter passed every check. ✓ passed logits difference 0" in words
    assert "120 → 1" in words and "0.001 → 0.71" in words and "14.2 → 14.3" in words


@pytest.mark.parametrize(
    ("controls", "said"),
    [(0, "No controls. They were switched off. Nothing here says whether"), (9, "No controls. Nothing here says")],
)
def test_page_without_controls_says_so(tmp_path: Path, controls: int, said: str) -> None:
    run = write_edit(tmp_path / "run", "extract", controls=controls)
    assert said in page_of(run)[1].words
    assert said in result_text(run, entry=None)


def test_nothing_is_said_of_controls_where_there_are_some_or_could_be_none(runs: dict[str, Path]) -> None:
    for kind in ("associate", "locate"):
        assert "No controls" not in Page(page_text(runs[kind])).words


def test_controls_are_dots_and_the_edit_is_a_line_through_all_rows() -> None:
    figures, absent = figures_of_edit(control_tables())
    svg = figures[0].svg
    assert not absent and [figure.title for figure in figures] == CONTROLS
    for label in ("random input, same norm", "random output, same norm", "complement, same energy"):
        assert f">{label}<" in svg
    assert ">this edit<" in svg and ">its opposite<" in svg and ">sign flip<" not in svg
    table = figures[1].table
    assert table is not None and [row[0] for row in table.rows][-1] == "sign flip"
    assert table.rows[0][2] == "0 of 9".replace(" ", "\N{NO-BREAK SPACE}")


def test_trace_is_a_map_of_layers_by_tokens_of_the_first_prompt() -> None:
    figures, _ = figures_of_edit(trace_tables())
    maps = next(figure for figure in figures if figure.title.endswith("restored prediction")).maps
    assert [one.title for one in maps] == ["Hidden state", "MLP output", "Attention output"]
    assert maps[0].modules == ["Eiff*", "el*", "is", "in"]
    assert [[cell.text for cell in cells] for _, cells in maps[1].rows][1] == ["-0.02", "0.48", "-0.02", "-0.02"]
    assert maps[1].rows[1][1][1].shade == 1.0


def test_many_matrices_are_maps_and_many_pairs_a_drawing() -> None:
    few, many = (figures_of_edit(price_tables(count))[0] for count in (2, 16))
    assert few[0].table is not None and few[2].table is not None
    assert many[0].maps[0].title.startswith("Relative damage")
    assert ">as predicted<" in many[2].svg


def test_long_tables_are_cut_and_say_where_the_rest_is() -> None:
    facts = pd.DataFrame({"subject": [f"s{i}" for i in range(40)], "margin": range(40)})
    (figure,), _ = figures_of_edit({"facts": facts})
    assert figure.table is not None and len(figure.table.rows) == 17
    assert figure.table.rows[-1][0] == "24 more rows stand in facts.csv"


def test_hostile_text_is_shown_as_text(tmp_path: Path) -> None:
    tables = TABLES["associate"]()
    for table in tables.values():
        for column in table.select_dtypes(include=["object", "str"]).columns:
            table[column] = HOSTILE
    tables["odd"] = pd.DataFrame({HOSTILE: [HOSTILE]})
    generations = [{"prompt": HOSTILE, "before": HOSTILE, "after": HOSTILE}, {"prompt": 1}, "x"]
    certificate = {"passed": False, "checks": [{"name": HOSTILE, "passed": False, "detail": HOSTILE}, 3]}
    texts = {"title": HOSTILE, "why": f"why {HOSTILE}", "verdict": HOSTILE, "notes": [HOSTILE], "figures": {HOSTILE: 1}}
    run = write_edit(tmp_path / "run", "associate", tables, generations=generations, certificate=certificate, **texts)
    html, page = page_of(run)
    assert not {"script", "img"} & set(page.tags) and "\x1b" not in html
    assert "The adapter did not pass its certificate." in page.words
    assert is_safe(result_text(run, entry=HOSTILE))
    json.loads(result_text(run, entry=HOSTILE, form="json"))


@pytest.mark.parametrize("kind", TABLES)
def test_tables_that_are_not_what_they_should_be_cost_only_themselves(tmp_path: Path, kind: str) -> None:
    odd = {name: pd.DataFrame({"layer": ["x"], "module": [None], "family": [1.5]}) for name in TABLES[kind]()}
    run = write_edit(tmp_path / "odd", kind, odd)
    assert "Commands" in page_of(run)[1].words and is_safe(result_text(run, entry=None))
    empty = {name: table.head(0) for name, table in TABLES[kind]().items()}
    run = write_edit(tmp_path / "empty", kind, empty)
    assert "Commands" in page_of(run)[1].words and is_safe(result_text(run, entry=None))


@pytest.mark.parametrize("kind", TABLES)
def test_odd_numbers_can_be_drawn(kind: str) -> None:
    odd = [float("nan"), float("inf"), -1.0, 0.0, 1e300, 5e-324, 2.0]
    tables = TABLES[kind]()
    for table in tables.values():
        for column in table.select_dtypes(include=["float64"]).columns:
            table[column] = [odd[place % len(odd)] for place in range(len(table))]
    _, absent = figures_of_edit(tables)
    assert not [sentence for sentence in absent if "can not be drawn" in sentence]


def test_missing_and_damaged_tables_are_said(tmp_path: Path) -> None:
    run = write_edit(tmp_path / "run", "associate")
    (run / "effects.parquet").unlink()
    (run / "texts.parquet").write_bytes(b"PAR1 and no more")
    _, page = page_of(run)
    assert "Table effects is missing." in page.words and "Table texts can not be read" in page.words
    assert "No controls" not in page.words
    assert "Table effects is missing." in result_text(run, entry=None)


def test_unfinished_edit_is_shown_as_far_as_it_got(tmp_path: Path) -> None:
    run = write_edit(tmp_path / "run", "associate")
    (run / "summary.json").unlink()
    _, page = page_of(run)
    assert "Unfinished." in page.words and "Edit: associate" in page.words and "Price" in page.words


@pytest.mark.parametrize(("name", "text"), [("summary.json", "{"), ("summary.json", "[]"), ("recipe.yaml", "a: [")])
def test_damaged_file_is_one_line(tmp_path: Path, name: str, text: str) -> None:
    run = write_edit(tmp_path / "run", "associate")
    (run / name).write_text(text)
    with pytest.raises(DataError, match=re.escape(name)) as caught:
        write_report(run)
    assert "\n" not in str(caught.value) and "probe" not in str(caught.value)


def test_report_of_an_edit_loads_no_torch_and_same_run_gives_same_bytes(runs: dict[str, Path]) -> None:
    script = (
        "import sys; from pathlib import Path; from readwrite_edit.report import write_report;"
        "from readwrite_edit.report.edit_text import result_text;"
        "write_report(Path(sys.argv[1])); result_text(Path(sys.argv[1]), entry=None); sys.exit('torch' in sys.modules)"
    )
    before = page_text(runs["associate"])
    assert subprocess.run([sys.executable, "-c", script, str(runs["associate"])], check=False).returncode == 0
    assert page_text(runs["associate"]) == before


def test_price_on_the_terminal() -> None:
    text = preflight_text(prepared(price_tables(2), notes=("Read this first.",), figures={"margin": 2.0}))
    lines = text.splitlines()
    assert lines[:2] == ["edit project adapter: Eiffel Tower → Rome", "why: Layer 1."]
    assert lines[3:6] == [
        "matrix             rank  ‖ΔW‖  ÷‖W‖  damage  ÷output  condition  <step",
        "layer 0 down_proj     1   2.5  0.05  0.0123    0.004    2.3e+05   0.25",
        "layer 0 o_proj        1   2.5  0.05  0.0123    0.004    2.3e+05   0.25",
    ]
    assert any(line.startswith("associate-1   layer 0 down_proj") for line in lines)
    assert "note: Read this first." in lines and f"note: {NOTE}" in lines
    assert lines[-2:] == ["margin    2", "norm    2.5"]
    assert "(4 more rows)" in preflight_text(prepared(price_tables(16)))


def test_price_for_programs() -> None:
    value = json.loads(preflight_text(prepared(price_tables(2), title=""), form="json"))
    assert value["edit"] == "project_adapter" and value["title"] == "project adapter"
    assert [row["module"] for row in value["tables"]["preflight"]] == ["down_proj", "o_proj"]
    assert value["figures"] == {"norm": 2.5} and value["notes"] == [NOTE]


def test_result_on_the_terminal_fits_and_tells_how_to_take_it_back(runs: dict[str, Path]) -> None:
    for kind, run in runs.items():
        text = result_text(run, entry="associate-2" if kind == "associate" else None)
        assert all(len(line) <= 80 for line in text.splitlines() if str(run) not in line), kind
        assert ("readwrite-edit edit undo associate-2" in text) == (kind == "associate")
    text = result_text(runs["associate"], entry=None)
    assert "efficacy_success         6       0      1  0.95  1.05" in text and "certificate: passed" in text
    assert "  after  ' Rome, Italy.'" in text.splitlines()
    trace = result_text(runs["locate"], entry=None).splitlines()
    assert trace[1:4] == [
        "layer  hidden  mlp  attention",
        "0           0    0          0",
        "1         0.1  0.1        0.1",
    ]


def test_failed_certificate_names_its_checks(tmp_path: Path) -> None:
    checks = [{"name": "logits", "passed": False, "detail": "d"}, {"name": "files", "passed": True, "detail": "d"}]
    run = write_edit(tmp_path / "run", "steer", certificate={"passed": False, "checks": checks})
    assert "certificate: NOT passed: logits" in result_text(run, entry=None).splitlines()


def test_result_for_programs(runs: dict[str, Path]) -> None:
    value = json.loads(result_text(runs["extract"], entry="extract-1", form="json"))
    assert value["entry"] == "extract-1" and value["controls"] is False
    assert set(value["tables"]) == {"matrices", "texts"} and len(value["tables"]["matrices"]) == len(
        extract_tables()["matrices"]
    )
    assert value["figures"]["odd"] is None and value["certificate"]["passed"] is True
