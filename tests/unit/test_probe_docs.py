"""docs/probe.md: every option of every probe and every column of every table that the probes really write."""

from __future__ import annotations

import re
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from readwrite_edit import probe
from readwrite_edit.job.result import Result
from readwrite_edit.probe.settings import PROBES, settings_class
from tests.small_runs import write_model, write_rows
from tests.tiny_models import TINY, tiny_tokenizer

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "probe.md").read_text(encoding="utf-8")
OPTIONS = runpy.run_path(str(ROOT / "docs" / "options.py"))
TEXT = {"tokens": 400, "max_length": 32, "batch_size": 4}
EXTENDED = {("trajectory", "geometry"), ("contrast", "geometry")}  # "the delta's columns, and …"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """One small result of every kind, really measured."""
    folder = tmp_path_factory.mktemp("docs")
    base, rows = str(write_model(folder / "base")), str(write_rows(folder / "rows.jsonl"))
    tuned = _write_tuned(folder / "tuned")
    calls: Mapping[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
        "delta": ((base, tuned), {"k": 4, **TEXT}),
        "activations": ((base,), TEXT),
        "gradients": ((base,), {"data": rows, "rows": 8, "k": 4, "max_length": 48, "batch_size": 4}),
        "trajectory": (([base, tuned],), {"k": 4, **TEXT}),
        "contrast": ((base,), {"data": rows, "grades": (0.0, 1.0), "seeds": (0,), "steps": 1, "batch_size": 2,
                               "eval_rows": 4, "max_length": 64, "k": 4, "tokens": 400}),
        "causal": ((base,), {"layers": (0,), "controls": 2, "others": 1, "sequences": 2, "length": 8,
                             "doses": (0.03,), "k": 4, **TEXT}),
        "sensitivity": ((base, tuned), {"k": 4, "ks": (4,), "texts": ("builtin:prose",), **TEXT}),
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("READWRITE_EDIT_CACHE", str(folder / "cache"))
        return {kind: getattr(probe, f"probe_{kind}")(*given, **named) for kind, (given, named) in calls.items()}


def _write_tuned(folder: Path) -> str:
    model, generator = TINY["llama"](), torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data.add_(1e-3 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def section(kind: str) -> str:
    found = re.search(rf"^## {kind}$.*?(?=^## |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert found, f"docs/probe.md has no section {kind}"
    return found[0]


def documented(kind: str, table: str) -> list[str]:
    """Columns that the section of a table describes, in their order."""
    found = re.search(rf"^### Table `{table}`.*?(?=^### |\Z)", section(kind), re.MULTILINE | re.DOTALL)
    assert found, f"docs/probe.md has no table {table} under {kind}"
    if (kind, table) in EXTENDED:
        return [*documented("delta", "geometry"), *re.findall(r"`(\w+)`", found[0])[1:]]
    first_cells = re.findall(r"^\| (`[^|]*) \|", found[0], re.MULTILINE)
    return [name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)]


@pytest.mark.parametrize("kind", PROBES)
def test_every_option_is_described_with_its_default(kind: str) -> None:
    lines = section(kind).splitlines()
    rows = [
        OPTIONS["row"](OPTIONS["_option"](name, field), field)
        for name, field in settings_class(kind).model_fields.items()
    ]
    assert [row for row in rows if row not in lines] == [], "run python docs/options.py"


def test_document_is_what_the_script_writes() -> None:
    assert OPTIONS["rewritten"]("probe.md", DOCUMENT) == DOCUMENT, "run python docs/options.py"


@pytest.mark.parametrize("kind", PROBES)
def test_every_column_is_described_and_no_other(results: dict[str, Result], kind: str) -> None:
    for name, table in results[kind].tables.items():
        described = documented(kind, name)
        assert sorted(table.columns) == sorted(described), f"{kind}: {name}"


@pytest.mark.parametrize("kind", PROBES)
def test_every_table_is_named(results: dict[str, Result], kind: str) -> None:
    described = re.findall(r"^### Table `(\w+)`", section(kind), re.MULTILINE)
    assert sorted(described) == sorted(results[kind].tables)
    assert f"`{results[kind].main}`" in section(kind)
