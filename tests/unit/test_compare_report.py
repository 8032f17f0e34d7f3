"""The page of a comparison: it holds what it shows, fetches nothing, and names what it can not say."""

import re
from itertools import pairwise

import pytest

from readwrite_edit.compare.result import compare_runs
from readwrite_edit.compare.text import beside
from readwrite_edit.report.compare_page import definitions, render
from readwrite_edit.report.compare_plane import pens, root_ticks, spread
from readwrite_edit.report.svg import MANY
from tests.compared_runs import evaluations_of, write_compared, write_sweep
from tests.report_pages import Page

COMMAND = "readwrite-edit compare sweep --out out"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    arms = {"principal": {"": (1.2, 0.008)}, "random": {"": (0.2, 0.004)}, "lora": {"": (1.0, 0.02)}}
    return write_sweep(tmp_path_factory.mktemp("compared") / "sweep", arms, seeds=2)


@pytest.fixture(scope="module")
def html(sweep):
    return render(compare_runs([sweep], draws=100), command=COMMAND)


def test_the_page_shows_planes_tables_checks_definitions_and_the_command(html):
    page = Page(html)
    assert page.tags.count("svg") == 2
    for words in ("Text ‘prose’", "margin at equal KL on ‘chat’", "spent\N{NO-BREAK SPACE}less", "against lora",
                  "Fair comparison", "What the figures are", COMMAND, "points.csv", "numpy"):  # fmt: skip
        assert words in html, words
    assert page.words.count("never") >= 2 and "nan" not in page.words


def test_it_fetches_nothing_and_uses_the_pages_colours(html):
    assert not re.search(r"""(?:src|href)=["'](?!#)""", html) and "url(http" not in html
    assert "var(--many-0)" in html and not any(colour in html for colour in MANY)


def test_the_same_comparison_gives_the_same_page(sweep, html):
    assert render(compare_runs([sweep], draws=100), command=COMMAND) == html


def test_a_comparison_that_is_not_fair_says_so_at_the_top(tmp_path):
    paths = [write_compared(tmp_path / name, evaluations_of(shared=0.2)) for name in ("a", "b")]
    page = Page(render(compare_runs(paths, draws=100), command=COMMAND))
    assert "Not fair: kept apart." in page.words and "✗ failed" in page.words


def test_names_are_text_on_the_page(tmp_path):
    name = "<b>$x$&\x1b[2J"
    paths = [write_compared(tmp_path / f"{name}{at}", evaluations_of(texts=(name,))) for at in "ab"]
    html = render(compare_runs(paths, draws=100), command=COMMAND)
    assert "<b>" not in html and "b" not in Page(html).tags and html.count("$x$") > 4
    assert "\x1b" not in html and "\\x1b[2J" in html


def test_a_run_without_gain_or_cost_still_has_its_plane(tmp_path):
    path = write_compared(tmp_path / "a", evaluations_of(gain=0.0, cost=0.0, steps=(3,)))
    page = Page(render(compare_runs([path], draws=100), command=COMMAND))
    assert "svg" in page.tags and "One arm:" in page.words and "gained nothing" in page.words


def test_many_arms_have_colours_and_marks_of_their_own(tmp_path):
    arms = {f"arm{number}": {"": (1.0, 0.01)} for number in range(12)}
    found = compare_runs([write_sweep(tmp_path / "s", arms, seeds=1)], draws=100)
    assert len(set(pens(found).values())) == 12


def test_labels_are_moved_apart_and_stay_inside():
    heights = spread([0.5, 0.5, 0.52, 0.99, 1.0, 0.0], 0.05)
    ordered = sorted(heights)
    assert all(b - a >= 0.05 - 1e-9 for a, b in pairwise(ordered))
    assert min(heights) >= 0 and max(heights) <= 1 and heights[5] == 0 and heights[0] == 0.5
    crowded = sorted(spread([0.9] * 41, 0.05))
    assert crowded[0] == pytest.approx(0) and crowded[-1] == 1


def test_ticks_are_round_and_within():
    assert root_ticks(0.1) == sorted(root_ticks(0.1)) and root_ticks(0.1)[0] == 0 and root_ticks(0.0) == [0.0]
    assert all(f"{tick:g}".strip("0.")[0] in "12357" for tick in root_ticks(0.0734)[1:])


def test_a_wide_table_is_printed_in_parts_with_its_first_column():
    rows = [("arm", "a" * 30, "b" * 30, "c" * 10), ("x", "1", "2", "3")]
    parts = list(beside(rows, 60))
    assert [part[0][1:] for part in parts] == [("a" * 30,), ("b" * 30, "c" * 10)] and parts[1][1] == ("x", "2", "3")


def test_each_figure_is_defined_in_a_sentence(sweep):
    found = dict(definitions(compare_runs([sweep], draws=100)))
    assert all(text.endswith(".") for text in found.values()) and "100 bootstrap draws" in found["[ , ]"]
