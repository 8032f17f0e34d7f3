"""The verdict's sentence and figures on tables whose answer is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from readwrite_edit.probe.delta.verdict import Verdict, verdict_of

READ, WRITE = ("q_proj", "k_proj"), ("o_proj", "down_proj")


def row(layer: int, module: str, relative: float, p: float, **more: Any) -> dict[str, Any]:
    side = "read" if module in READ else "write"
    return {
        "layer": layer,
        "module": module,
        "norm": 0.5,
        f"{side}_relative_isotropic": relative,
        f"{side}_isotropic_p": p,
        **more,
    }


def table(
    layers: int = 6,
    read: float = 2.0,
    write: float = 1.1,
    read_p: float = 1e-6,
    modules: tuple[str, ...] = READ + WRITE,
) -> pd.DataFrame:
    """Relative fractions that grow by a hundredth a layer, so that no two layers are alike."""
    return pd.DataFrame(
        [
            row(n, name, (read if name in READ else write) * 1.01**n, read_p if name in READ else 0.4)
            for n in range(layers)
            for name in modules
        ]
    )


def with_energy(frame: pd.DataFrame, relative: float, p: float) -> pd.DataFrame:
    reads = frame["module"].isin(READ)
    return frame.assign(
        read_relative_energy=np.where(reads, relative * (1 + 0.01 * frame["layer"]), None),
        read_energy_p=np.where(reads, p, None),
    )


def one_line(verdict: Verdict) -> str:
    assert "\n" not in verdict.sentence and verdict.sentence.endswith(".")
    assert verdict.sentence.startswith("Shown: " if verdict.shown else "Not shown: ")
    assert "nan" not in verdict.sentence
    return verdict.sentence


def test_an_asymmetry_is_shown_with_its_evidence() -> None:
    sentence = one_line(verdict_of(with_energy(table(), 0.07, 1.0)))
    for words in (
        "Shown: the change lies more in what the model reads than in what it predicts",
        "read side (q_proj, k_proj) 2.05 times its isotropic null (q < 0.05 in 12 of 12)",
        "0.0717 times its energy null (q < 0.05 in 0 of 12, not beaten)",
        "write side (o_proj, down_proj) 1.13 times its isotropic null (q < 0.05 in 0 of 12), energy null not measured",
        "read over write 1.82 (95% interval 1.82 to 1.82, one-sided Wilcoxon over 6 layers p = 0.016)",
    ):
        assert words in sentence


def test_figures_are_the_evidence_as_plain_numbers() -> None:
    figures = verdict_of(with_energy(table(), 1.3, 1e-4)).figures
    assert figures["shown"] == 1 and figures["read_layers"] == figures["asymmetry_layers"] == 6
    assert (figures["read_matrices"], figures["read_above_energy"], figures["write_above_isotropic"]) == (12, 12, 0)
    assert figures["read_relative_isotropic"] == pytest.approx(2 * np.mean(1.01 ** np.arange(6)))
    assert figures["asymmetry_ratio"] == pytest.approx(2 / 1.1) and figures["asymmetry_p"] == pytest.approx(1 / 64)
    assert figures["write_relative_energy"] is None and figures["write_tested_energy"] == 0
    assert all(value is None or math.isfinite(value) for value in figures.values())


def test_the_ratio_and_its_interval_are_those_of_the_layers() -> None:
    """Layer 0 to 4: quotients 1.2 to 2; t interval of their logarithms."""
    quotients = np.array([1.2, 1.4, 1.6, 1.8, 2.0])
    rows = [row(n, "q_proj", 1.5 * quotient, 1e-9) for n, quotient in enumerate(quotients)]
    rows += [row(n, "o_proj", 1.5, 0.5) for n in range(5)]
    figures = verdict_of(pd.DataFrame(rows)).figures
    logs = np.log(quotients)
    low, high = stats.t(4, logs.mean(), stats.sem(logs)).interval(0.95)
    found = [figures[f"asymmetry_{key}"] for key in ("ratio", "low", "high")]
    assert found == pytest.approx(np.exp([logs.mean(), low, high]))


def test_a_read_side_within_its_null_is_not_shown_even_where_it_exceeds_the_write_side() -> None:
    sentence = one_line(verdict_of(table(read=1.02, write=0.5, read_p=0.2)))
    assert "Not shown: the read side does not beat its isotropic null; " in sentence
    assert "q < 0.05 in 0 of 12, not beaten" in sentence and "p = 0.016" in sentence


def test_small_p_values_of_matrices_do_not_make_up_for_layers_that_disagree() -> None:
    """Correlated rows give such p-values without any effect: the layers decide."""
    frame = table(read=1.0, write=0.5)
    frame.loc[frame["module"].isin(READ), "read_relative_isotropic"] = 1.3 - 0.1 * frame["layer"]
    sentence = one_line(verdict_of(frame))
    assert "Not shown: the read side does not beat its isotropic null; " in sentence
    assert "q < 0.05 in 12 of 12, not beaten" in sentence


def test_equal_concentration_of_both_sides_is_not_shown() -> None:
    assert "Not shown: read is not above write beyond chance; " in one_line(verdict_of(table(read=2.0, write=2.0)))
    assert "Not shown: read is not above write beyond chance; " in one_line(verdict_of(table(read=2.0, write=4.0)))


def test_an_excess_that_a_few_layers_make_is_not_shown() -> None:
    """Read over write is 1.2 in the mean, but above 1 in three layers of six."""
    frame = table(read=2.0, write=2.0)
    writes = frame["module"].isin(WRITE)
    frame.loc[writes, "write_relative_isotropic"] = 2.0 / frame["layer"].map(
        dict(enumerate([1.8, 1.7, 1.5, 0.9, 0.8, 0.85]))
    )
    verdict = verdict_of(frame)
    assert float(verdict.figures["asymmetry_ratio"] or 0) > 1.1
    assert "Not shown: read is not above write beyond chance; " in one_line(verdict)


def test_q_values_are_of_one_side_and_one_null() -> None:
    """p = 0.04 in one of 12: alone q = 0.48, in a family with 12 write matrices of p = 1e-9 it would be 0.04."""
    frame = table(read=2.0, read_p=1.0)
    frame.loc[frame.index[0], "read_isotropic_p"] = 0.04
    frame.loc[frame["module"].isin(WRITE), "write_isotropic_p"] = 1e-9
    figures = verdict_of(frame).figures
    assert (figures["read_above_isotropic"], figures["write_above_isotropic"]) == (0, 12)


def test_many_experts_do_not_outvote_one_matrix() -> None:
    """Layer by layer o_proj 1 and eight experts 4: the write side is √4 = 2, not 4^(8/9)."""
    rows = [row(n, "q_proj", 4.0, 1e-9) for n in range(5)] + [row(n, "o_proj", 1.0, 0.5) for n in range(5)]
    rows += [row(n, "down_proj", 4.0, 0.5) for n in range(5) for _ in range(8)]
    assert verdict_of(pd.DataFrame(rows)).figures["asymmetry_ratio"] == pytest.approx(2.0)


def test_other_matrices_and_the_other_side_of_a_matrix_do_not_count() -> None:
    strange = [
        {**row(n, "v_proj", 90.0, 0.0), "read_relative_isotropic": 90.0, "read_isotropic_p": 0.0} for n in range(6)
    ]
    frame = table().assign(**{"read_relative_energy": None})
    frame.loc[frame["module"].isin(WRITE), "read_relative_isotropic"] = 90.0
    mixed = pd.concat([frame, pd.DataFrame(strange)], ignore_index=True)
    assert verdict_of(mixed).figures == verdict_of(table()).figures


def test_an_adapter_on_the_read_side_alone_is_not_shown() -> None:
    verdict = verdict_of(table(modules=READ))
    assert one_line(verdict).startswith("Not shown: no write matrix changed; read side (q_proj, k_proj) 2.05 times")
    assert verdict.figures["asymmetry_layers"] == 0 and verdict.figures["asymmetry_p"] is None


def test_only_the_roles_that_changed_are_named() -> None:
    assert "read side (k_proj) 2" in one_line(verdict_of(table(modules=("k_proj", "down_proj"))))


def test_identical_matrices_are_counted_and_left_out() -> None:
    frame = table(layers=7)
    same = frame["layer"] == 3
    frame.loc[same, [name for name in frame if name not in ("layer", "module", "norm")]] = math.nan
    frame.loc[same, "norm"] = 0.0
    verdict = verdict_of(frame)
    assert verdict.shown and one_line(verdict).endswith("; 4 identical matrices left out.")
    assert (verdict.figures["read_unchanged"], verdict.figures["asymmetry_layers"]) == (2, 6)


def test_a_delta_of_zeros_changed_nothing() -> None:
    frame = table(layers=5).assign(norm=0.0, read_relative_isotropic=None, write_relative_isotropic=None)
    expected = "Not shown: no read matrix changed, no write matrix changed; 20 identical matrices left out."
    assert verdict_of(frame).sentence == expected


def test_changed_matrices_without_a_fraction_are_not_called_identical() -> None:
    frame = table(layers=5)
    frame["write_relative_isotropic"] = None
    sentence = one_line(verdict_of(frame))
    assert sentence.startswith("Not shown: the write side was not measured; ")
    assert sentence.endswith("10 changed matrices without a fraction left out.") and "identical" not in sentence


@pytest.mark.parametrize(("layers", "words"), [(1, "1 layer, a test takes 5"), (4, "4 layers, a test takes 5")])
def test_few_layers_can_not_show_anything(layers: int, words: str) -> None:
    assert f"Not shown: both sides changed in {words} at least; " in one_line(verdict_of(table(layers)))
    assert verdict_of(table(5)).shown


@pytest.mark.parametrize("frame", [pd.DataFrame(), pd.DataFrame(columns=["layer", "module"]), table().iloc[:0]])
def test_an_empty_table_shows_nothing(frame: pd.DataFrame) -> None:
    expected = "Not shown: no read matrix changed, no write matrix changed; no such matrix in the table."
    assert verdict_of(frame).sentence == expected


def test_a_fraction_of_zero_is_far_below_and_not_infinitely() -> None:
    figures = verdict_of(table(write=0.0)).figures
    assert figures["shown"] == 1 and figures["asymmetry_ratio"] == pytest.approx(2e6, rel=0.1)
