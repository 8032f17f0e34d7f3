"""``readwrite-edit geometry``: a run's geometry, layers × matrices, as text; the plain twin of the TUI's pane."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from readwrite_edit.cli.table import print_table
from readwrite_edit.runs.geometry_grid import MEASURE_BY_NAME
from readwrite_edit.terminal import printable

if TYPE_CHECKING:
    from readwrite_edit.runs.geometry_grid import GeometryGrid, Measure

_PLACE = ("step", "layer", "module", "path")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``geometry``."""
    names = "; ".join(f"{one.name}: {one.title}, {one.meaning}" for one in MEASURE_BY_NAME.values())
    parser = commands.add_parser(
        "geometry",
        help="print where a run's update reads and writes, layers × matrices",
        description="Print the geometry of a run's update, layer by layer.",
        epilog=f"Quantities: {names}.",
    )
    parser.add_argument("which", metavar="RUN", help="a run's folder, its name, the beginning of it, or 'last'")
    parser.add_argument("--root", type=Path, default=Path("runs"), help="folder of runs (default: %(default)s)")
    parser.add_argument("--step", type=int, metavar="N", help="the snapshot of step N (default: the last one)")
    parser.add_argument(
        "--quantity", choices=MEASURE_BY_NAME, metavar="NAME", help="one quantity (table: default the first measured)"
    )
    parser.add_argument(
        "--format", choices=("table", "json", "csv"), default="table", help="of the output (default: %(default)s)"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from readwrite_edit.queue.finding import find_run

    path = find_run(args.which, args.root)
    shown = _snapshot(path, args.step)
    measure = MEASURE_BY_NAME.get(args.quantity)
    if args.format == "table":
        _print_table(path, shown, measure or _first_measured(path, shown))
        return 0
    measures = [measure] if measure else list(shown.measured())
    rows = list(_rows(shown, measures))
    if args.format == "json":
        print(json.dumps({"run": str(path), "step": shown.step, "matrices": rows}, indent=2))
    else:
        writer = csv.DictWriter(sys.stdout, [*_PLACE, *(one.name for one in measures)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {name: printable(cell) if isinstance(cell, str) else cell for name, cell in row.items()} for row in rows
        )
    return 0


def _snapshot(path: Path, step: int | None) -> GeometryGrid:
    """One snapshot of a run.

    Raises:
        FolderError: The run has none, or none that can be read, or none of that step.
    """
    from readwrite_edit.runs.absence import GEOMETRY, absence, why_no_records
    from readwrite_edit.runs.folder import FolderError
    from readwrite_edit.runs.geometry_grid import grid
    from readwrite_edit.runs.reader import read_run
    from readwrite_edit.runs.records import last_snapshot, read_geometry

    found, view = read_geometry(path), read_run(path)
    records = found.records
    if not records:
        problem = why_no_records(found.cursor, 0, live=view.live)
        raise FolderError(f"{path}: {absence(GEOMETRY, view, problem)}")
    if step is None:
        return grid(last_snapshot(records))
    chosen = [record for record in records if record["step"] == step]
    if not chosen:
        steps = sorted({record["step"] for record in records})
        near = min(steps, key=lambda other: abs(other - step))
        raise FolderError(f"{path} has no snapshot of step {step}: it has {len(steps)}, the nearest of step {near}")
    return grid(chosen)


def _first_measured(path: Path, shown: GeometryGrid) -> Measure:
    from readwrite_edit.runs.folder import FolderError

    for measure in shown.measured():
        return measure
    raise FolderError(f"{path}: its geometry has none of these quantities; runs show --json gives what it has")


def _print_table(path: Path, shown: GeometryGrid, measure: Measure) -> None:
    """One row a layer; each cell has its digit, as in the TUI, and the figure."""
    from readwrite_edit.runs.geometry_scale import scale_of
    from readwrite_edit.runs.wording import number_text

    scale = scale_of(shown, measure)

    def cell(value: float | None) -> str:
        return scale.text(value) if value is None else f"{scale.text(value)} {number_text(value)}"

    rows = [
        (str(layer), *(cell(shown.value(layer, module, measure)) for module in shown.modules),
         number_text(shown.layer_mean(layer, measure)))
        for layer in shown.layers
    ]  # fmt: skip
    means = (number_text(shown.module_mean(module, measure)) for module in shown.modules)
    print(f"{printable(path.name)}, step {shown.step}: {measure.title}, {measure.meaning}")
    print(f"digits are {scale.caption}")
    print_table([("layer", *shown.modules, "mean"), *rows, ("mean", *means, number_text(shown.mean(measure)))])


def _rows(shown: GeometryGrid, measures: list[Measure]) -> Iterator[dict[str, Any]]:
    """One object a matrix: where it is, and its figures; null where it has none."""
    for layer in shown.layers:
        for module in shown.modules:
            record = shown.records.get((layer, module))
            if record is not None:
                place = {"step": shown.step, "layer": layer, "module": module, "path": record.get("path")}
                yield {**place, **{one.name: shown.value(layer, module, one) for one in measures}}
