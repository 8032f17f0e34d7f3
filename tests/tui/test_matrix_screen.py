"""One matrix: what its curves, spectrum, heads and numbers say."""

import json

import pytest
from rich.style import Style

from readwrite_edit.geometry.nulls import IsotropicNull
from readwrite_edit.tui.geometry.band import beta_cdf, isotropic_band
from readwrite_edit.tui.geometry.matrix_curves import curves_of, head_norms, numbers, singular_values
from readwrite_edit.tui.geometry.matrix_lines import head_bars, number_lines, shares_of
from readwrite_edit.tui.geometry.matrix_reading import MatrixReader
from readwrite_edit.tui.geometry.matrix_screen import MatrixScreen
from tests.tui.forms import until
from tests.tui.screens import LARGE, SMALL, drive, notes, says, settle, shown
from tests.tui.test_geometry_pane import on_geometry, press, row, write_run

KS = [1, 2, 4, 8, 16, 32, 48]


def trained(layer, module, fraction, **fields):
    """A line as a training writes it."""
    scale = [min(1.0, fraction * k / 8) for k in KS[:-1]] + [1.0]
    lists = {
        "read_curve_k": KS, "read_curve": scale, "read_energy_curve": [0.3, 0.4, 0.5, 0.6, 0.7, 0.9, 1.0],
        "write_curve_k": None, "write_curve": None, "singular_values": [0.2, 0.1, 0.05, 0.0123],
        "head_norms": [0.3, 0.1, 0.1, 0.1],
    }  # fmt: skip
    return row(layer, module, fraction, k=8, read_isotropic_null=8 / 48, **lists) | fields


def probed(layer, module, fraction):
    """A line as a probe writes it."""
    every = [min(1.0, fraction * (k + 1) / 8) for k in range(48)]
    heads = [{"head": head, "norm": 0.1 * (head + 1), "read": 0.5} for head in range(4)]
    known = row(layer, module, fraction, k=8, d_out=64, d_in=48, read_curve=every, heads=heads, write_curve=None)
    return {name: value for name, value in known.items() if name != "shape"}


def three(maker):
    return [maker(layer, module, 0.4) for layer in (0, 1) for module in ("q_proj", "k_proj")]


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_matrix_of_a_training_opens_with_all_of_it(tmp_path, size):
    write_run(tmp_path, (0, [row(0, "q_proj", None, norm=0.0)]), (4, three(trained)), (8, three(trained)))

    async def steps(app, pilot):
        await press(app, pilot, "right", "down", "enter")
        assert isinstance(app.screen, MatrixScreen) and says(app, "layer 1 k_proj")
        words = ["read fraction at k 8", "singular values of ΔW", "share of ‖ΔW‖² by head", "head 0: 75.0%"]
        later = ["fraction over training", "‖ΔW‖ over training", "0.0123", "▸    8", "energy null"]
        if size == LARGE:
            assert all(says(app, word) for word in words + later), shown(app)
            await press(app, pilot, "v")
            assert notes(app)[-1] == "part: all parts are shown"
        else:
            assert all(says(app, word) for word in words) and not says(app, "over training")
            await press(app, pilot, "v")
            assert says(app, "fraction over training")
            await press(app, pilot, "v")
            assert says(app, "▸    8  0.4") and not says(app, "over training")
            await press(app, pilot, *["down"] * 12)
            assert says(app, "0.0123") or says(app, "75.0%")
        assert says(app, f"$ readwrite-edit geometry {tmp_path}"[:60])

    on_geometry(tmp_path, steps, size)


def test_a_matrix_of_a_probe_shows_its_curve_and_heads(tmp_path):
    write_run(tmp_path, (0, three(probed)), kind="probe")

    async def steps(app, pilot):
        await press(app, pilot, "enter")
        assert says(app, "read fraction at k 8") and says(app, "head 3: 53.3%")
        assert not says(app, "singular") and not says(app, "over training") and not says(app, "snapshot")

    on_geometry(tmp_path, steps, LARGE)


def test_keys_go_through_matrices_and_snapshots(tmp_path):
    write_run(tmp_path, (2, three(trained)), (4, three(trained)))

    async def steps(app, pilot):
        titles = []
        for key in ("left", "n", "right", "n", "n", "N"):
            await press(app, pilot, key)
            await until(app, pilot, lambda: app.screen._last.place == app.screen._place)
            await pilot.pause()
            titles.append(next(line for line in shown(app)).split()[1:4])
        assert titles == [["layer", *place] for place in (
            ("0", "q_proj"), ("0", "k_proj"), ("1", "q_proj"), ("1", "k_proj"), ("1", "k_proj"), ("1", "q_proj")
        )]  # fmt: skip
        assert notes(app) == ["before: this is the first matrix", "next: this is the last matrix"]
        assert says(app, "step 4, snapshot 2 of 2, the newest")
        await press(app, pilot, "comma")
        assert says(app, "step 2, snapshot 1 of 2 ") and says(app, "--step 2")
        await press(app, pilot, "full_stop", "full_stop")
        assert says(app, "the newest") and notes(app)[-1] == "later: this is the newest snapshot"
        await press(app, pilot, "escape")
        assert not isinstance(app.screen, MatrixScreen)

    drive(tmp_path, steps, LARGE, screen=lambda: MatrixScreen(tmp_path / "run", 0, "q_proj"))


def test_a_snapshot_without_lists_or_matrix_says_so(tmp_path):
    write_run(tmp_path, (2, [row(0, "q_proj", None, norm=0.0)]))

    async def steps(app, pilot):
        assert says(app, "no fractions: the update is zero") and says(app, "This snapshot has no figures")
        app.push_screen(MatrixScreen(tmp_path / "run", 7, "\x1b[31m[b]"))
        await settle(app, pilot)
        assert says(app, "not measured here") and "\x1b" not in "".join(shown(app))
        app.push_screen(MatrixScreen(tmp_path / "none", 7, "x"))
        await settle(app, pilot)
        assert says(app, "No geometry: there is none, and what the run says of itself can not be read.")

    drive(tmp_path, steps, LARGE, screen=lambda: MatrixScreen(tmp_path / "run", 0, "q_proj"))


def test_the_reader_follows_a_run_and_takes_the_last_segment(tmp_path):
    run = write_run(tmp_path, (2, three(trained)), status=None)
    reader = MatrixReader(tmp_path / "run")
    first = reader.read((0, "q_proj"), None)
    assert first.step == 2 and len(first.places) == 4 and first.record["head_norms"] == [0.3, 0.1, 0.1, 0.1]
    run.log_geometry(4, three(trained))
    assert reader.read((0, "q_proj"), None).step == 4 and reader.read((0, "q_proj"), 2).step == 2
    path = tmp_path / "run" / "geometry.jsonl"
    later = trained(0, "q_proj", 0.9) | {"step": 4, "segment": 1}
    path.write_text(path.read_text() + json.dumps(later) + "\n")
    assert MatrixReader(tmp_path / "run").read((0, "q_proj"), 4).record["read_fraction"] == 0.9
    path.write_text("")
    assert reader.read((0, "q_proj"), 4).step is None
    run.close()


# ---- numbers


def test_the_band_is_that_of_the_beta_distribution():
    for d, n in ((576, 576), (576, 192), (16384, 4096), (64, 4), (48, 1)):
        for k in (1, 2, 16, d // 3, d - 1):
            low, high = IsotropicNull(k, d, n).interval()
            assert isotropic_band(k, d, n) == (
                pytest.approx(low, abs=1e-5 * (high - low)), pytest.approx(high, abs=1e-5 * (high - low)),
            )  # fmt: skip
    assert isotropic_band(8, 8, 3) == (1.0, 1.0)
    assert (beta_cdf(0.0, 2, 3), beta_cdf(1.0, 2, 3), beta_cdf(0.5, 2, 2)) == (0.0, 1.0, pytest.approx(0.5))


def test_curves_are_read_by_the_line_s_own_k_or_by_every_k():
    for line in (trained(0, "q_proj", 0.4), probed(0, "q_proj", 0.4)):
        (curve,) = curves_of(line)
        assert (curve.side, curve.d, curve.n) == ("read", 48, 64)
        values = dict(zip(curve.k, curve.fraction, strict=True))
        assert values[8] == pytest.approx(0.4) and values[1] == pytest.approx(0.05) and values[48] == 1.0
    both = trained(0, "o_proj", 0.4, write_fraction=0.1)
    assert [curve.side for curve in curves_of(both)] == ["read", "write"]
    assert dict(zip(curves_of(both)[1].k, curves_of(both)[1].fraction, strict=True))[8] == 0.1


@pytest.mark.parametrize(
    "damage",
    [
        {"shape": [64, 10**9]}, {"shape": "x"}, {"shape": [0, 48]}, {"read_curve_k": [1, 2]}, {"read_curve": "x"},
        {"read_curve_k": [0, *KS[1:]]}, {"read_curve": [None] * 7}, {"read_curve_k": {}}, {"k": "x"}, {"k": None},
        {"singular_values": [1e400]}, {"head_norms": [{}]}, {"read_curve": [True] * 7}, {"read_energy_curve": 3},
    ],
)  # fmt: skip
def test_damaged_lists_count_as_absent(damage):
    line = trained(0, "q_proj", 0.4) | damage
    assert all(curve.side == "read" for curve in curves_of(line))
    lines = number_lines(curves_of(line), line["k"], singular_values(line), head_norms(line), 78)
    assert isinstance(lines, list)
    assert numbers([1, 2.5]) == [1.0, 2.5] and numbers([]) is None


def test_a_long_curve_is_thinned_evenly_and_keeps_its_own_k():
    line = probed(0, "q_proj", 0.4) | {"d_in": 4096, "read_curve": [0.1] * 4096, "k": 777}
    (curve,) = curves_of(line)
    assert len(curve.k) < 45 and {1, 2, 4, 777, 2048, 4096} <= {*curve.k}


def test_bars_show_shares_and_numbers_of_heads():
    lines = [str(line) for line in head_bars([0.3, 0.1, 0.1, 0.1], 40, 8, Style())]
    assert lines[0].endswith("head 0: 75.0%") and lines[-1].split() == ["0", "1", "2", "3"]
    assert lines[1].rstrip() == "█████" and all(len(line) <= 40 for line in lines)
    many = [str(line) for line in head_bars([1.0] * 64, 40, 8, Style())]
    assert all(len(line) <= 40 for line in many) and len(many) == 8
    assert shares_of([0.0, 0.0]) == [] and len(head_bars([], 10, 2, Style())) == 1
