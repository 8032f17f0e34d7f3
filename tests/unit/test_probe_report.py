"""The page of a probe: what it shows of each kind, and that no table and no string in it can break it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from readwrite_edit.errors import DataError
from readwrite_edit.report import write_report
from readwrite_edit.report.probe_figures import figures_of
from readwrite_edit.report.probe_figures.plan import numbers
from readwrite_edit.report.probe_figures.plots import named_lines, spaced, styles
from readwrite_edit.report.probe_modules import module_rows
from tests.probe_frames import COMMAND, TABLES, curves_frame, geometry_frame, write_probe
from tests.report_pages import Page, page_of

HOSTILE = "</pre></style><script>alert('x')</script><img src=//evil.example/x onerror=alert(1)>\x1b[31m$x$"
TITLES = {
    "delta": ["Layers and matrices", "Cumulative curves, read side", "Cumulative curves, write side", "By head",
              "What was compared"],
    "activations": ["Concentration by layer", "Spectra", "Convergence with tokens", "In numbers"],
    "gradients": ["Objectives side by side", "Energy in the prediction subspace", "Effective rank by layer", "Spectra",
                  "Weight gradient, write side", "Weight gradient, read side"],
    "trajectory": ["Against the first checkpoint", "Against the checkpoint before",
                   "Layers and matrices at the last step"],
    "contrast": ["Fraction ÷ isotropic null against the grade", "Fraction ÷ energy null against the grade",
                 "Fraction against the grade", "Trends", "What each arm learned"],
    "causal": ["Effects", "Effect and controls", "Dose-response"],
    "sensitivity": ["The verdict's numbers", "Definition by definition"],
}  # fmt: skip


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The page of a whole probe of each kind."""
    root = tmp_path_factory.mktemp("probes")
    return {kind: write_report(write_probe(root / kind, kind)).read_text(encoding="utf-8") for kind in TABLES}


@pytest.mark.parametrize("kind", TABLES)
def test_every_kind_shows_all_its_figures_each_with_its_command(pages: dict[str, str], kind: str) -> None:
    html, page = pages[kind], Page(pages[kind])
    found = re.findall(r'<h2 id="figure-\d+">(.*?)</h2>', html)
    assert [title.replace("&#39;", "'") for title in found] == TITLES[kind]
    assert "Left out of this page" not in page.words
    command = COMMAND.replace("KIND", kind)
    by_module = int(kind == "delta")
    assert page.words.count(f"Made by {command}") == len(TITLES[kind]) + by_module
    assert page.words.index("Shown: the read side") < page.words.index(TITLES[kind][0])
    assert "One tensor is missing." in page.words and "base-model → tuned-model" in page.words


@pytest.mark.parametrize("kind", TABLES)
def test_page_fetches_nothing_has_unique_ids_and_only_the_page_s_colours(pages: dict[str, str], kind: str) -> None:
    html, page = pages[kind], Page(pages[kind])
    assert not [entry for entry in page.attributes if entry[1] in ("src", "srcset", "href", "action")]
    assert all(value.startswith("#") for _, name, value in page.attributes if name == "xlink:href")
    assert not {"script", "link", "iframe", "object", "embed", "img", "base"} & set(page.tags)
    assert "@import" not in html and not re.search(r"url\((?!#)", html)
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        assert not re.search(r"(fill|stroke): #", svg)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, make in TABLES.items() for name in make()])
def test_table_that_is_missing_empty_or_not_what_it_should_be_is_said(kind: str, name: str) -> None:
    whole = TABLES[kind]()[name]
    junk = whole.astype(object).map(lambda value: "nonsense" if isinstance(value, float | int) else value)
    changes = {
        f"there is no table {name}": {},
        f"table {name} is empty": {name: whole.head(0)},
        f"table {name} has no column": {name: pd.DataFrame({"x": [1.0]})},
        f"table {name} has no figures": {name: junk},
    }
    for sentence, tables in changes.items():
        figures, absent = figures_of(kind, tables)
        labels_suffice = name in ("tensors", "trend", "comparison", "variants") and tables.get(name) is junk
        assert labels_suffice or (figures == [] and any(sentence in said for said in absent)), sentence


@pytest.mark.parametrize("kind", TABLES)
def test_odd_numbers_can_be_drawn(kind: str) -> None:
    odd = [float("nan"), float("inf"), -1.0, 0.0, 1e300, 5e-324, 2.0]
    tables = {
        name: table.assign(
            **{
                column: [odd[place % len(odd)] for place in range(len(table))]
                for column in table.columns
                if table[column].dtype == "float64"
            }
        )
        for name, table in TABLES[kind]().items()
    }
    _, absent = figures_of(kind, tables)
    assert not [sentence for sentence in absent if "can not be drawn" in sentence]


def test_page_without_any_table_says_what_is_absent(tmp_path: Path) -> None:
    _, page = page_of(write_probe(tmp_path / "run", "delta", {}))
    assert "Left out of this page" in page.words and page.words.count("there is no table") == len(TITLES["delta"])


@pytest.mark.parametrize("kind", TABLES)
def test_strings_of_files_are_data(tmp_path: Path, kind: str) -> None:
    tables = {
        name: table.assign(**{
            column: table[column].map(lambda value: value if value in ("read", "write", "first") else HOSTILE)
            for column in table.columns if not pd.api.types.is_numeric_dtype(table[column]) and column != "quantity"
        })
        for name, table in TABLES[kind]().items()
    }  # fmt: skip
    run = write_probe(
        tmp_path / "run", kind, tables, verdict=HOSTILE, notes=[HOSTILE], figures={HOSTILE: 1.0}, command=HOSTILE,
        settings={"base": HOSTILE, HOSTILE: HOSTILE}, provenance={HOSTILE: HOSTILE},
    )  # fmt: skip
    _, page = page_of(run)
    assert not {"script", "img"} & set(page.tags)
    assert page.tags.count("pre") == 1
    assert "<script>alert('x')</script>" in page.words
    svg_text = "".join(re.findall(r"<text.*?</text>", (run / "report.html").read_text(), re.DOTALL))
    assert "\x1b" not in svg_text


def test_figure_that_can_not_be_made_costs_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("odd")

    monkeypatch.setattr("readwrite_edit.report.probe_figures.geometry.small_multiples", broken)
    figures, absent = figures_of("delta", {"geometry": geometry_frame(), "curves": curves_frame()})
    assert [figure.title for figure in figures] == ["Layers and matrices"]
    assert any("can not be drawn (ValueError: odd)" in sentence for sentence in absent)


def test_kind_that_is_not_known_still_has_a_page(tmp_path: Path) -> None:
    run = write_probe(tmp_path / "run", "delta")
    (run / "recipe.yaml").write_text("probe: later\nsettings: [1]\ncommand: null\n")
    _, page = page_of(run)
    assert "Probe: later" in page.words and "Shown: the read side" in page.words


def test_unfinished_probe_is_shown_as_far_as_it_got(tmp_path: Path) -> None:
    run = write_probe(tmp_path / "run", "delta", {})
    (run / "summary.json").unlink()
    rows = json.loads(geometry_frame().to_json(orient="records"))
    lines = [json.dumps({"step": 0, "segment": 0, "time": 1.0, **row}) for row in rows]
    (run / "geometry.jsonl").write_text("\n".join(lines) + "\n")
    html, page = page_of(run)
    assert "Unfinished." in page.words and "probe resume" in page.words
    assert "taken from geometry.jsonl" in page.words and "Layers and matrices" in page.words
    assert html.count('style="--v:') > 12


def test_table_that_can_not_be_read_or_is_missing_is_said(tmp_path: Path) -> None:
    run = write_probe(tmp_path / "run", "delta")
    (run / "heads.parquet").write_bytes(b"PAR1 and no more")
    (run / "curves.parquet").unlink()
    _, page = page_of(run)
    assert "Table heads can not be read" in page.words and "Table curves is missing." in page.words


@pytest.mark.parametrize(("name", "text"), [("summary.json", "{"), ("summary.json", "[]"), ("recipe.yaml", "a: [")])
def test_damaged_file_is_one_line(tmp_path: Path, name: str, text: str) -> None:
    run = write_probe(tmp_path / "run", "delta")
    (run / name).write_text(text)
    with pytest.raises(DataError, match=re.escape(name)) as caught:
        write_report(run)
    assert "\n" not in str(caught.value)


def test_heatmaps_print_ratios_to_the_nulls_and_leave_out_sides_that_are_not_there() -> None:
    figures, _ = figures_of("delta", {"geometry": geometry_frame()})
    maps = {one.title: one for one in figures[0].maps}
    read = maps["Read ÷ isotropic null"]
    assert read.modules == ["q_proj", "k_proj"]
    assert {cell.text for _, cells in read.rows for cell in cells} == {"2.00"}
    write = maps["Write ÷ isotropic null"]
    assert [cells[0].text for _, cells in write.rows] == ["1.00", "0.80", "1.50"]
    assert [cells[0].below for _, cells in write.rows] == [False, True, False]
    assert "Write ÷ energy null" not in maps
    assert {"Relative norm (×10⁻³)", "Changed entries", "Under the step", "Effective rank"} <= set(maps)


def test_curves_have_a_panel_per_role_and_an_energy_null_where_it_was_measured() -> None:
    figures, absent = figures_of("delta", {"curves": curves_frame()})
    read, write = figures
    assert ">q_proj<" in read.svg and ">k_proj<" in read.svg and ">o_proj<" not in read.svg
    assert ">energy null<" in read.svg and ">energy null<" not in write.svg
    assert ">95 % of isotropic deltas<" in write.svg and ">isotropic null<" in write.svg
    assert [sentence for sentence in absent if "curves" in sentence] == []


def test_a_name_has_the_same_line_in_every_panel() -> None:
    of = styles(["k_proj", "o_proj", "q_proj", "q_proj"])
    assert list(of) == ["q_proj", "k_proj", "o_proj"]
    assert list(styles(["sft", "dpo"])) == ["sft", "dpo"]
    axes = Figure().add_subplot()
    table = pd.DataFrame({"module": ["o_proj"] * 2, "x": [0, 1], "y": [1.0, 2.0]})
    named_lines(axes, table, "x", "y", "module", of)
    (line,) = axes.lines
    assert (line.get_color(), line.get_marker(), line.get_label()) == (of["o_proj"][0], of["o_proj"][2], "o_proj")


def test_names_are_told_apart_without_colour() -> None:
    looks = [(str(dash), mark) for _, dash, mark in styles(f"name{number}" for number in range(8)).values()]
    assert len(set(looks)) == 8 and len({mark for _, mark in looks}) == 8


def test_long_curves_are_thinned_but_keep_their_ends() -> None:
    kept = spaced(range(4097))
    assert len(kept) <= 48 and kept[0] == 1 and kept[-1] == 4096 and kept == sorted(set(kept))
    assert spaced([3, 1, 2, 2]) == [1.0, 2.0, 3.0]
    assert spaced([]) == []


def test_numbers_takes_only_finite_ones() -> None:
    found = numbers(pd.Series([1, "2", None, "x", float("inf"), True], dtype=object))
    assert found.isna().tolist() == [False, False, True, True, True, False]
    assert np.isfinite(found.dropna()).all()


def test_means_by_module() -> None:
    rows = {row.module: row for row in module_rows(geometry_frame())}
    assert list(rows) == ["q_proj", "k_proj", "o_proj", "down_proj"]
    assert rows["q_proj"].ratios[:2] == (pytest.approx(2.0), pytest.approx(2 * 4 / 12 / 0.8))
    assert rows["o_proj"].ratios[2] == pytest.approx((1.0 + 0.8 + 1.5) / 3)
    assert rows["o_proj"].cells == ("o_proj", "3", "–", "–", "1.10", "–", "1.00e-03", "25.0 %")


def test_same_run_gives_same_bytes(tmp_path: Path) -> None:
    run = write_probe(tmp_path / "run", "delta")
    assert write_report(run).read_bytes() == write_report(run).read_bytes()


def test_report_of_a_probe_loads_no_torch(tmp_path: Path) -> None:
    run = write_probe(tmp_path / "run", "delta")
    script = (
        "import sys; from pathlib import Path; from readwrite_edit.report import write_report;"
        "write_report(Path(sys.argv[1])); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(run)], check=False).returncode == 0


def test_finished_probe_without_a_geometry_table_takes_none_from_the_log(tmp_path: Path) -> None:
    run = write_probe(tmp_path / "run", "sensitivity")
    line = {"step": 1, "segment": 0, "time": 1.0, "layer": 0, "module": "q_proj"}
    (run / "geometry.jsonl").write_text(json.dumps(line) + "\n")
    _, page = page_of(run)
    assert "Left out of this page" not in page.words
