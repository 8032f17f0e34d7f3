"""The report page and the end table: what they show, and that nothing in them comes from elsewhere or runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from readwrite_edit.errors import DataError
from readwrite_edit.report import summary_table, write_report
from readwrite_edit.report.curves import energy_by_layer, training_curves
from readwrite_edit.report.facts import duration, size
from readwrite_edit.report.figures_table import main_rows
from readwrite_edit.report.heatmap import heatmaps
from readwrite_edit.report.record import read_record
from tests.finished_run import write_finished_run, write_summary
from tests.report_pages import Page, page_of

ALL_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
HOSTILE = "</pre></style><script>alert('x')</script><img src=//evil.example/x onerror=alert(1)>"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_finished_run(tmp_path / "20251122-231455-dpo_readonly")


def line(step: int, kind: str = "train", segment: int = 0, **values: Any) -> dict[str, Any]:
    return {"step": step, "segment": segment, "time": 1.7e9, "kind": kind, "values": values}


def drawn_lines(svg: str) -> list[str]:
    """Path data of the training lines."""
    return re.findall(r'<path d="([^"]*)" clip-path="[^"]*" style="fill: none; stroke: var\(--first\)', svg)


def test_report_fetches_nothing_and_runs_nothing(run: Path) -> None:
    html, page = page_of(run)
    fetching = [
        (tag, name, value) for tag, name, value in page.attributes if name in ("src", "srcset", "href", "action")
    ]
    assert fetching == []
    assert all(
        value.startswith("#curves-") or value.startswith("#energy-")
        for _, name, value in page.attributes
        if name == "xlink:href"
    )
    assert not {"script", "link", "iframe", "object", "embed", "img", "base"} & set(page.tags)
    assert "@import" not in html and not re.search(r"url\((?!#)", html)


def test_ids_are_unique(run: Path) -> None:
    _, page = page_of(run)
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_text_from_the_run_is_escaped(tmp_path: Path) -> None:
    run = write_finished_run(tmp_path / "run", base=HOSTILE, modules=("q_proj", HOSTILE + "$x$"), layers=2)
    generation = {"prompt": HOSTILE, "before": HOSTILE, "after": HOSTILE}
    check = {"name": HOSTILE, "passed": False, "detail": HOSTILE}
    certificate = {"passed": False, "checks": [check]}
    write_summary(
        run, generations=[generation], certificate=certificate, alarms=[HOSTILE], before={f"kl_{HOSTILE}": 1.0}
    )
    _, page = page_of(run)
    assert not {"script", "img"} & set(page.tags)
    assert page.tags.count("pre") == page.tags.count("style") - _svg_styles(page) == 1
    assert "".join(page.text).count(HOSTILE) >= 8


def _svg_styles(page: Page) -> int:
    return sum(1 for tag, name, value in page.attributes if tag == "style" and value == "text/css")


def test_report_shows_what_the_run_did(run: Path) -> None:
    html, page = page_of(run)
    text = " ".join(" ".join(page.text).split())
    for expected in (
        "dpo_readonly",
        "bundled:smollm2-135m-instruct",
        "2025-10-09 08:57 UTC",
        "0.6931",
        "0.3133",
        "−0.3799",
    ):
        assert expected in text
    assert "log-probability of chosen answers fell" in text
    assert "✓ passed stays in its read subspace largest residual 3.1e-08 ≤ 1e-06" in text
    assert "Air scatters blue light more than red." in text
    assert f"readwrite-edit verify {run / 'adapter'}" in text
    assert "per_device_train_batch_size: 8" in text
    assert "Trained with torch 2.13.0, peft 0.21.2, python 3.11.2." in text
    assert html.count("<svg") == 2


def test_same_run_gives_same_bytes(run: Path) -> None:
    assert write_report(run).read_bytes() == write_report(run).read_bytes()


def test_unfinished_run_is_reported_as_far_as_it_got(run: Path) -> None:
    (run / "summary.json").unlink()
    (run / "geometry.jsonl").unlink()
    html, _ = page_of(run)
    assert "Unfinished." in html and "Alarm." in html and html.count("<svg") == 1


def test_run_that_has_logged_nothing_is_reported(run: Path) -> None:
    for name in ("summary.json", "geometry.jsonl", "metrics.jsonl"):
        (run / name).unlink()
    html, _ = page_of(run)
    assert "Unfinished." in html and "<svg" not in html


def test_failed_certificate_is_said_in_words(run: Path) -> None:
    check = {"name": "reload", "passed": False, "detail": "off by 1"}
    write_summary(run, certificate={"passed": False, "checks": [check]})
    html, _ = page_of(run)
    assert "The adapter did not pass." in html and "✗ failed" in html


@pytest.mark.parametrize(
    "summary",
    ["{", "[]", '{"before": []}', '{"generations": [{"prompt": "x"}]}', '{"certificate": {"checks": []}}',
     '{"certificate": {"passed": true, "checks": [1]}}'],
)  # fmt: skip
def test_damaged_summary_is_one_line(run: Path, summary: str) -> None:
    (run / "summary.json").write_text(summary)
    with pytest.raises(DataError, match=r"summary\.json is damaged.*resume the run") as caught:
        write_report(run)
    assert "\n" not in str(caught.value)
    assert not (run / "report.html").exists()


@pytest.mark.parametrize("recipe", ["- a\n", "a: [", "a: b: c"])
def test_damaged_recipe_is_one_line(run: Path, recipe: str) -> None:
    (run / "recipe.yaml").write_text(recipe)
    with pytest.raises(DataError, match=r"recipe\.yaml is damaged") as caught:
        write_report(run)
    assert "\n" not in str(caught.value)


def test_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a run folder"):
        write_report(tmp_path)


def test_lines_that_a_resume_superseded_are_left_out(run: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(line(20, loss=99.0)) + "\n")  # of segment 0, beyond the resume at 14
    assert 99.0 not in [entry["values"].get("loss") for entry in read_record(run).metrics]


def test_segments_are_drawn_apart() -> None:
    whole = [line(step, learning_rate=step * 1e-4) for step in range(1, 9)]
    resumed = [entry | {"segment": int(entry["step"] > 5)} for entry in whole]
    assert len(drawn_lines(training_curves(whole))) == 1
    assert len(drawn_lines(training_curves(resumed))) == 2


def test_non_finite_values_leave_a_gap() -> None:
    values = [0.6, 0.5, None, 0.4, 0.3]
    (path,) = drawn_lines(training_curves([line(step, loss=value) for step, value in enumerate(values)]))
    assert path.count("M") == 2


def test_held_out_points_are_marked() -> None:
    train = [line(step, loss=0.5) for step in range(9)]
    held_out = [line(step, "eval", eval_loss=0.4) for step in (2, 5, 8)]
    marks = re.compile(r"<use [^>]*style=\"fill: var\(--first\)")
    alone = len(marks.findall(training_curves(train)))
    assert len(marks.findall(training_curves(train + held_out))) - alone == 3 + 1  # and one in the legend


def test_running_mean_is_drawn_over_long_runs_only() -> None:
    noisy = [line(step, loss=0.5 + 0.1 * (step % 2)) for step in range(200)]
    faint, mean = drawn_lines(training_curves(noisy))
    assert heights(faint) > 2 * heights(mean)
    assert len(drawn_lines(training_curves(noisy[:60]))) == 1


def heights(path: str) -> float:
    """Height of a line, its first and last tenth left out."""
    ys = [float(y) for y in re.findall(r"[ML] \S+ (\S+)", path)]
    inner = ys[len(ys) // 10 : -len(ys) // 10]
    return max(inner) - min(inner)


def test_odd_values_in_the_log_do_not_break_the_plots() -> None:
    metrics = [line(1, loss="text"), line(2, loss=True), line(3, loss=0.5), line(4, loss=10**400)]
    assert len(drawn_lines(training_curves(metrics))) == 1
    assert training_curves([line(1, loss=None)]) == ""
    assert training_curves([]) == ""


def test_plots_follow_the_page_in_light_and_dark(run: Path) -> None:
    record = read_record(run)
    for svg in (training_curves(record.metrics), energy_by_layer(record.matrices)):
        assert "var(--ink)" in svg and "var(--first)" in svg
        assert not re.search(r"(fill|stroke): #", svg)  # a fixed colour, such as a white background
        assert "<text" in svg  # text, not outlines


def test_projections_that_share_an_input_share_a_line() -> None:
    entries = [
        {"layer": layer, "module": module, "captured_energy": energy}
        for module, energy in (("q_proj", 0.7), ("k_proj", 0.7), ("o_proj", 0.4))
        for layer in range(4)
    ]
    svg = energy_by_layer(entries)
    assert "q_proj, k_proj" in svg and ">o_proj<" in svg
    assert energy_by_layer([entry | {"captured_energy": None} for entry in entries]) == ""


def test_dollar_sign_in_a_name_is_no_formula() -> None:
    assert ">$\\broken$<" in energy_by_layer([{"layer": 0, "module": "$\\broken$", "captured_energy": 0.5}])


@pytest.mark.parametrize(("layers", "modules"), [(12, ("q_proj", "k_proj")), (80, ALL_MODULES)])
def test_heatmap_prints_a_figure_in_every_cell(tmp_path: Path, layers: int, modules: tuple[str, ...]) -> None:
    run = write_finished_run(tmp_path / "run", layers=layers, modules=tuple(reversed(modules)))
    maps = heatmaps(read_record(run).matrices)
    assert [one.title.split(" (")[0] for one in maps] == [
        "Read fraction ÷ energy null", "Read fraction ÷ isotropic null", "Write fraction ÷ isotropic null",
        "Norm of the delta", "Price", "Output energy",
    ]  # fmt: skip
    for one in maps:
        assert one.modules == list(modules)
        assert [layer for layer, _ in one.rows] == list(range(layers))
        cells = [cell for _, row in one.rows for cell in row]
        assert len(cells) == layers * len(modules)
        assert all(re.fullmatch(r"\d+(\.\d+)?", cell.text) and len(cell.text) <= 5 for cell in cells)
        assert all(0 <= cell.shade <= 1 for cell in cells)
    html, _ = page_of(run)
    assert html.count('style="--v:') == 6 * layers * len(modules)


def test_heatmap_divides_by_the_null_and_tells_the_sides_apart() -> None:
    entries = [matrix(0, read_fraction=0.8, read_energy_null=0.4), matrix(1, read_fraction=0.1, read_energy_null=0.4)]
    (found,) = [one for one in heatmaps(entries) if "energy null" in one.title]
    above, below = found.rows[0][1][0], found.rows[1][1][0]
    assert (above.text, above.below, below.text, below.below) == ("2.00", False, "0.25", True)
    assert above.shade == pytest.approx(0.5) and below.shade == 1.0  # by the logarithm


def test_heatmap_leaves_unmeasured_matrices_empty_and_unmeasured_quantities_out() -> None:
    entries = [matrix(0, norm=0.5), matrix(1, norm=None), matrix(2, norm=float("nan")), matrix(3, price=None)]
    (found,) = heatmaps(entries)
    assert [row[0].text for _, row in found.rows] == ["0.50", "–", "–", "–"]
    assert heatmaps([]) == []


def test_heatmap_takes_a_power_of_ten_out_of_small_figures() -> None:
    (found,) = heatmaps([matrix(0, price=3.1e-4), matrix(1, price=2e-5)])
    assert found.title == "Price (×10⁻⁴)"
    assert [row[0].text for _, row in found.rows] == ["3.10", "0.20"]


def test_delta_of_zero_is_no_division_by_zero() -> None:
    (found,) = heatmaps([matrix(0, norm=0.0)])
    assert found.rows[0][1][0].text == "0.00"
    (zero,) = heatmaps([matrix(0, read_fraction=0.0, read_energy_null=0.4)])
    assert zero.rows[0][1][0].below


def matrix(layer: int, **values: Any) -> dict[str, Any]:
    return {"layer": layer, "module": "q_proj"} | values


def test_summary_table_lines_up() -> None:
    summary = {
        "before": {"eval_loss": 0.693147, "eval_rewards/accuracies": None, "perplexity_prose": 24.317, "kl_prose": 0},
        "after": {
            "eval_loss": 0.6498,
            "eval_rewards/accuracies": 0.85156,
            "perplexity_prose": 24.402,
            "kl_prose": 3.12e-4,
        },
    }
    assert summary_table(summary).splitlines() == [
        "                                before     after     change",
        "Held-out loss                   0.6931    0.6498    -0.0433",
        "Held-out accuracy (%)                –      85.2          –",
        "KL to base, prose (nats/token)       0  0.000312  +0.000312",
        "Perplexity, prose                24.32     24.40      +0.09",
    ]


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        (0.693147, 0.6498, ("0.6931", "0.6498", "-0.0433")),
        (1234.5678, 1250.0, ("1,235", "1,250", "+15")),
        (0.0, 0.0, ("0", "0", "0")),
        (2.0, 1.9998, ("2.000", "2.000", "0.000")),
        (0.0004, 1.0, ("0.000", "1.000", "+1.000")),
        (0.0, 3.4e-8, ("0", "3.4e-08", "+3.4e-08")),
        (None, 0.5, ("–", "0.5000", "–")),
        (float("nan"), 0.5, ("–", "0.5000", "–")),
        ("text", float("inf"), ("–", "–", "–")),
    ],
)
def test_numbers_are_shown_to_four_digits(before: Any, after: Any, shown: tuple[str, str, str]) -> None:
    (row,) = main_rows({"before": {"eval_loss": before}, "after": {"eval_loss": after}})
    assert (row.before, row.after, row.change) == shown


def test_sizes_and_durations_have_units() -> None:
    assert [size(value) for value in (0, 1023, 2964480, 5 << 30, None)] == ["0 B", "1023 B", "2.8 MiB", "5.0 GiB", "–"]
    assert [duration(value) for value in (0, 59.6, 261.4, 7322, None)] == [
        "0 s",
        "1 min",
        "4 min 21 s",
        "2 h 2 min 2 s",
        "–",
    ]


def test_report_loads_no_torch(run: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from readwrite_edit.report import write_report;"
        "write_report(Path(sys.argv[1])); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(run)], check=False).returncode == 0
