"""``readwrite-edit runs``: list, show, stop and follow runs; the plain twin of the TUI."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from readwrite_edit.cli.table import print_table
from readwrite_edit.terminal import printable

if TYPE_CHECKING:
    from readwrite_edit.runs.reader import Cursor, RunView

_FOLLOW_EVERY_S = 0.5


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``runs`` with its actions."""
    parser = commands.add_parser("runs", help="list, show, stop and follow runs")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add(actions, "ls", _list, "list the runs of a folder", names_run=False)
    _add(actions, "show", _show, "show one run's state and last figures")
    _add(actions, "stop", _stop, "ask a run to save and end at its next step", machine_form=False)
    tail = _add(actions, "tail", _tail, "print the last logged steps of a run")
    tail.add_argument("-n", type=_count, default=10, metavar="N", help="how many lines (default: %(default)s)")
    tail.add_argument("--follow", action="store_true", help="go on until the run ends")


def _add(
    actions: Any, name: str, run: Any, help_text: str, *, names_run: bool = True, machine_form: bool = True
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=help_text)
    if names_run:
        parser.add_argument("which", metavar="RUN", help="a run's folder, its name, the beginning of it, or 'last'")
    parser.add_argument("--root", type=Path, default=Path("runs"), help="folder of runs (default: %(default)s)")
    if machine_form:
        parser.add_argument("--json", action="store_true", help="for programs: JSON instead of text")
    parser.set_defaults(run=run)
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number}: expected 0 or more lines")
    return number


def _list(args: argparse.Namespace) -> int:
    from readwrite_edit.runs.reader import list_runs

    views = list_runs(args.root)
    if args.json:
        print(json.dumps([_as_json(view) for view in views], indent=2))
    elif not views:
        print(f"no runs under {printable(str(args.root))}")
    else:
        print_table([("run", "status", "kind", "recipe", "step", "loss", "age", ""), *map(_row, views)])
    return 0


def _row(view: RunView) -> tuple[str, ...]:
    from readwrite_edit.runs.reader import last_value
    from readwrite_edit.runs.wording import GLYPHS, age_text, number_text, step_text

    status = f"{GLYPHS[view.status]} {view.status}"
    if view.status == "broken":
        return view.name, status, "", "", "", "", "", view.reason
    loss = number_text(last_value(view.path, "loss"))
    step = step_text(view.step, view.max_steps)
    return view.name, status, view.kind, view.recipe, step, loss, age_text(view.age_s), view.reason


def _as_json(view: RunView) -> dict[str, Any]:
    return {**asdict(view), "name": view.name, "path": str(view.path)}


def _show(args: argparse.Namespace) -> int:
    from readwrite_edit.runs.reader import geometry, last_snapshot, metrics, read_run, resolve_run, summary
    from readwrite_edit.runs.wording import number_text

    path = resolve_run(args.which, args.root)
    view, records, snapshot = read_run(path), metrics(path), last_snapshot(geometry(path))
    if args.json:
        last = {kind: record for record in records for kind in [record["kind"]]}
        print(json.dumps({**_as_json(view), "last": last, "geometry": snapshot, "summary": summary(path)}, indent=2))
        return 0
    for name, text in [*_facts(view), *_findings(summary(path))]:
        print(f"{name:<10} {printable(text)}")
    for kind in ("train", "eval"):
        for name, value in _latest(records, kind).items():
            print(f"{kind:<10} {printable(name)} {number_text(value)}")
    return 0


def _facts(view: RunView) -> Iterator[tuple[str, str]]:
    from readwrite_edit.runs.wording import GLYPHS, age_text, step_text

    yield "run", str(view.path)
    yield "status", f"{GLYPHS[view.status]} {view.status}" + (f": {view.reason}" if view.reason else "")
    if view.status != "broken":
        yield "kind", view.kind
        yield "recipe", view.recipe
        yield "step", step_text(view.step, view.max_steps)
        yield "segment", str(view.segment)
        yield "heartbeat", f"{age_text(view.age_s)} ago, pid {view.pid} on {view.hostname}"


def _findings(summary: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What a finished probe or edit says of itself."""
    from readwrite_edit.runs.wording import number_text

    for name in ("title", "why", "verdict"):
        if isinstance(summary.get(name), str) and summary[name]:
            yield name, " ".join(summary[name].split())
    figures = summary.get("figures")
    for name, value in figures.items() if isinstance(figures, dict) else ():
        yield "figure", f"{name} {number_text(value)}"


def _latest(records: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The last value of each name among the lines of a kind."""
    latest: dict[str, Any] = {}
    for record in records:
        if record["kind"] == kind:
            latest.update(record["values"])
    return latest


def _stop(args: argparse.Namespace) -> int:
    from readwrite_edit.runs.folder import FolderError
    from readwrite_edit.runs.reader import read_run, resolve_run
    from readwrite_edit.runs.requests import request_stop

    path = resolve_run(args.which, args.root)
    view = read_run(path)
    if not view.live:
        raise FolderError(f"{path} is {view.status}: there is nothing to stop")
    request_stop(path)
    print(f"asked {printable(view.name)} to stop: it saves and ends at its next step")
    return 0


def _tail(args: argparse.Namespace) -> int:
    from readwrite_edit.runs.folder import RunFolder
    from readwrite_edit.runs.reader import Cursor, resolve_run
    from readwrite_edit.runs.records import current, is_metric, metric_key, segment_starts

    path = resolve_run(args.which, args.root)
    cursor = Cursor(RunFolder(path).metrics)
    records = current(filter(is_metric, cursor.read()), segment_starts(path), metric_key)
    for record in records[max(0, len(records) - args.n) :]:
        _print_record(record, args.json)
    if args.follow:
        for record in filter(is_metric, _following(path, cursor)):
            _print_record(record, args.json)
    return 0


def _following(path: Path, cursor: Cursor) -> Iterator[dict[str, Any]]:
    """What is added from the cursor on, until the run has ended."""
    from readwrite_edit.runs.reader import read_run

    live = True
    while live:
        live = read_run(path).live  # asked before the read: what an ending run wrote last is read after it
        yield from cursor.read()
        if live:
            time.sleep(_FOLLOW_EVERY_S)


def _print_record(record: dict[str, Any], as_json: bool) -> None:
    from readwrite_edit.runs.wording import number_text

    if as_json:
        print(json.dumps(record), flush=True)
        return
    values = "  ".join(f"{name}={number_text(value)}" for name, value in record["values"].items())
    message = record.get("message")
    text = f"{record['step']:>6}  {record['kind']:<5}  {values}" + (f"  {message}" if isinstance(message, str) else "")
    print(printable(text), flush=True)
