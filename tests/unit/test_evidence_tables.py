"""The tables that evidence.py fills in say what its CSV files say."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
POINTS = """arm,seed,step,gain,margin,loss,accuracy,price,kl_prose,kl_chat
other,0,8,0.05,0.05,0.01,0.5,0.1,0.001,0.002
other,0,16,0.2,0.2,0.02,0.6,0.1,0.002,0.004
other,1,16,0.4,0.4,0.04,0.8,0.1,0.004,0.008
lora,0,16,0.1,0.1,0.01,0.5,0.1,0.1,0.2
"""
MATCHED = """kind,text,at,arm,value,low,high,reached,against,against_low,against_high,p,p_holm,assumed
kl_at_margin,prose,0.05,lora,0.03,0.02,0.04,1,,,,,,0
kl_at_margin,prose,0.05,other,0.001,0.001,0.002,1,0.03,0.01,0.05,0.001,0.002,0
kl_at_margin,prose,0.1,other,0.0015,0.001,0.002,1,0.05,0.04,0.06,0.03,0.06,0.5
kl_at_margin,prose,0.1,lora,0.03,0.02,0.04,1,,,,,,0
kl_at_margin,prose,0.1,weak,inf,inf,inf,0,,,,,,0
kl_at_margin,prose,0.2,lora,0.09,0.02,0.1,1,,,,,,0
margin_at_kl,prose,0.01,lora,0.06,0.02,0.1,1,,,,,,0
margin_at_kl,prose,0.01,other,0.3,0.2,0.4,1,0.24,0.1,0.3,0.001,0.002,0
margin_at_kl,prose,0.01,weak,0.02,0.01,0.03,0.5,,,,,,0
"""


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import evidence_tables

    return evidence_tables


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "hh").mkdir()
    (tmp_path / "hh" / "points.csv").write_text(POINTS)
    (tmp_path / "hh" / "matched.csv").write_text(MATCHED)
    return tmp_path


def test_the_ends_are_means_over_the_seeds_of_the_last_step(tables: ModuleType, folder: Path) -> None:
    heading, lora, other = tables.ends_table(folder / "hh")
    assert heading == ("arm", "seeds", "margin", "accuracy", "KL prose", "KL chat")
    assert lora == ("lora", "1", "0.100", "50%", "0.1", "0.2")
    assert other == ("other", "2", "0.300", "70%", "0.003", "0.006")


def test_arms_are_matched_at_the_middle_gain_and_cost(tables: ModuleType, folder: Path) -> None:
    """With a star only where Holm's p is below 0.05, and words where nothing is matched."""
    assert tables.kl_table(folder / "hh") == [
        ("arm", "prose, at margin 0.1"),
        ("lora", "0.03"),
        ("other", "~0.0015 (~×0.05, ×0.04 to ×0.06)"),
        ("weak", "never"),
    ]
    assert tables.margin_table(folder / "hh")[1:] == [
        ("lora", "0.060"),
        ("other", "0.300 (+0.240, +0.100 to +0.300)\\*"),
        ("weak", "≥ 0.020, spent less"),
    ]


def test_a_page_is_filled_between_its_markers(tables: ModuleType, folder: Path) -> None:
    page = "before\n\n<!-- table hh kl -->\n\n| old |\n| --- |\n\nafter\n\n<!-- table hh ends -->\n\nend\n"
    found = tables.filled(page, folder)
    before = "before\n\n<!-- table hh kl -->\n\n"
    assert found.startswith(f"{before}| arm | prose, at margin 0.1 |\n| --- | ---: |\n| lora |")
    assert "| old |" not in found and "\n\nafter\n\n<!-- table hh ends -->\n\n| arm |" in found
    assert found.endswith("|\n\nend\n")
    assert tables.filled(found, folder) == found


def test_the_page_says_what_the_files_say(tables: ModuleType) -> None:
    page = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
    assert page.count("<!-- table") >= 5
    assert tables.filled(page, ROOT / "docs" / "evidence") == page
