"""An edit on the terminal: its price before anything is written, its result at the end; in words or as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from readwrite_edit.report.edit_record import EditRecord, read_edit
from readwrite_edit.report.figures_table import MISSING
from readwrite_edit.report.probe_grid import aligned
from readwrite_edit.report.probe_text import WIDTH, cell, figure_lines, finite, fitting, records, strict_json
from readwrite_edit.terminal import printable

if TYPE_CHECKING:
    from readwrite_edit.edit.job import Prepared

_MOST_ROWS = 12
_SIDES = (("prompt  ", "prompt"), ("  before", "before"), ("  after ", "after"))
_MATRIX = ("matrix", "matrix")
_PREFLIGHT = (
    _MATRIX, ("rank", "rank"), ("norm", "‖ΔW‖"), ("relative_norm", "÷‖W‖"), ("predicted_damage", "damage"),
    ("relative_damage", "÷output"), ("condition", "condition"), ("under_step_fraction", "<step"),
)  # fmt: skip
_OVERLAPS = (
    ("entry", "earlier edit"), _MATRIX, ("cosine", "cosine"), ("output_cosine", "outputs"),
    ("read_overlap", "inputs"), ("changes_earlier", "adds there"),
)  # fmt: skip
_RESULT = {
    "metrics": (
        ("metric", "metric"), ("n", "n"), ("before", "before"), ("after", "after"), ("low", "low"), ("high", "high"),
    ),
    "effects": (
        ("family", "controls"), ("matching", "matching"), ("n_controls", "n"), ("effect", "effect"),
        ("control_mean", "theirs"), ("control_sd", "sd"), ("low", "diff low"), ("high", "high"), ("p_value", "p"),
    ),
    "matrices": (
        _MATRIX, ("rank", "rank"), ("norm", "‖ΔW‖"), ("subspace_energy_fraction", "in subspace"),
        ("retained_fraction", "retained"),
    ),
    "texts": (
        ("text", "text"), ("tokens", "tokens"), ("kl", "KL to base"), ("perplexity_before", "perplexity"),
        ("perplexity_after", "after"),
    ),
}  # fmt: skip
_LEGEND = "damage: tr(ΔW C ΔWᵀ); <step: share of entries that a merged copy would lose"


def preflight_text(prepared: Prepared, *, form: str = "table") -> str:
    """The price of an edit as text that is safe to print.

    Args:
        prepared: The edit, computed and not yet applied.
        form: ``table`` to read, ``json`` for programs.
    """
    plan, price = prepared.plan, prepared.price
    kind = prepared.context.recipe.kind.replace("_", " ")
    notes = [*plan.notes, *price.notes]
    if form == "json":
        return strict_json(
            {
                "edit": prepared.context.recipe.kind,
                "title": plan.title or kind,
                "why": plan.why,
                "notes": notes,
                "figures": finite({**plan.figures, **price.figures}),
                "tables": {name: records(table) for name, table in {**plan.tables, **price.tables}.items()},
            }
        )
    overlaps = price.tables.get("overlaps")
    parts = [
        [*_wrapped(f"edit {kind}: {plan.title or kind}"), *_wrapped(f"why: {plan.why}" if plan.why else "")],
        [*_grid(price.table, _PREFLIGHT), _LEGEND],
        [] if overlaps is None or not len(overlaps) else _grid(overlaps, _OVERLAPS),
        _said(notes),
        figure_lines({**plan.figures, **price.figures}),
    ]
    return _joined(parts)


def result_text(path: Path, *, entry: str | None, form: str = "table") -> str:
    """What a finished edit, or a causal trace, found, as text that is safe to print.

    Args:
        path: Its run folder.
        entry: Name of its entry in the ledger; None where it was not entered.
        form: ``table`` to read, ``json`` for programs.

    Raises:
        DataError: The recipe or the summary is missing or damaged.
    """
    record = read_edit(path)
    return _json(record, entry) if form == "json" else _table(record, entry)


def _json(record: EditRecord, entry: str | None) -> str:
    shown = [name for name in dict.fromkeys([record.summary.get("main"), *_RESULT]) if name in record.tables]
    return strict_json(
        {
            "edit": record.kind,
            "folder": str(record.path),
            "entry": entry,
            "title": record.title,
            "why": record.summary.get("why"),
            "verdict": record.summary.get("verdict"),
            "notes": record.notes,
            "figures": finite(record.figures),
            "generations": record.generations,
            "certificate": record.certificate,
            "controls": record.has_controls,
            "tables": {name: records(record.tables[name]) for name in shown},
        }
    )


def _table(record: EditRecord, entry: str | None) -> str:
    traced = [_trace(record.tables["layers"])] if not record.aims and "layers" in record.tables else []
    grids = [_grid(record.tables[name], columns) for name, columns in _RESULT.items() if name in record.tables]
    parts = [
        *traced,
        *grids,
        [line for one in record.generations for line in _side_by_side(one)],
        _said([*record.notes, *record.problems]),
        figure_lines(record.figures),
        [*_wrapped(record.no_controls), *_verdicts(record)],
        _files(record, entry),
    ]
    return _joined(parts)


def _trace(layers: pd.DataFrame) -> list[str]:
    """KL restored at the subject's last token, a line a layer, a column a kind."""
    if not {"kind", "layer", "place", "kl_effect"} <= set(layers.columns):
        return ["layers: not what this version writes"]
    rows = layers[layers["place"] == "last_subject"]
    table = rows.pivot_table(index="layer", columns="kind", values="kl_effect", sort=False).sort_index().reset_index()
    columns = [("layer", "layer"), *((kind, printable(str(kind))) for kind in table.columns[1:])]
    return ["nats of KL restored at the subject's last token, by what was put back", *_grid(table, columns, most=200)]


def _grid(frame: pd.DataFrame, columns: Sequence[tuple[str, str]], *, most: int = _MOST_ROWS) -> list[str]:
    """The named columns that the table has, as far as the width reaches, and the first rows."""
    named = _with_matrix(frame)
    texts = [(heading, *map(cell, named[column].head(most))) for column, heading in columns if column in named.columns]
    known = [column for column in texts if set(column[1:]) - {MISSING}]
    if not known:
        return []
    lines = aligned(list(zip(*fitting(known), strict=True)))
    return [*lines, *([f"({len(frame) - most:,} more rows)"] if len(frame) > most else [])]


def _with_matrix(frame: pd.DataFrame) -> pd.DataFrame:
    if not {"layer", "module"} <= set(frame.columns):
        return frame
    return frame.assign(
        matrix=[f"layer {layer} {module}" for layer, module in zip(frame.layer, frame.module, strict=True)]
    )


def _side_by_side(one: Mapping[str, str]) -> list[str]:
    """A text before and after, each within a line."""
    lines = [f"{label} {one[side]!r}" for label, side in _SIDES]
    return [line if len(line) <= WIDTH else line[: WIDTH - 1] + "…" for line in map(printable, lines)]


def _verdicts(record: EditRecord) -> list[str]:
    certificate = record.certificate
    failed = [] if certificate is None else [one["name"] for one in certificate["checks"] if not one["passed"]]
    passed = "passed" if certificate and certificate["passed"] else f"NOT passed: {', '.join(failed)}"
    return [
        *(_wrapped(f"certificate: {passed}") if certificate else []),
        *_wrapped(f"verdict: {record.verdict}" if record.verdict else ""),
    ]


def _files(record: EditRecord, entry: str | None) -> list[str]:
    adapter = record.path / "adapter"
    lines = [f"adapter  {adapter}"] if adapter.is_dir() else []
    lines.append(f"report   {record.path / 'report.html'}")
    if entry is not None:
        lines.append(f"ledger   {entry}; take it back with readwrite-edit edit undo {entry}")
    return [printable(line) for line in lines]


def _said(notes: Iterable[str]) -> list[str]:
    return [line for note in notes for line in _wrapped(f"note: {note}")]


def _wrapped(sentence: str) -> list[str]:
    """A sentence in lines of the terminal's width, safe to print; nothing of an empty one."""
    safe = printable(" ".join(sentence.split()))
    return textwrap.wrap(safe, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _joined(parts: Sequence[Sequence[Any]]) -> str:
    return "\n\n".join("\n".join(part) for part in parts if part)
