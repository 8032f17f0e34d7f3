"""``readwrite-edit runs``: list, show, stop and follow runs; the plain twin of the TUI.

``run_actions`` has the rest: compare, resume, rm and note.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from readwrite_edit.cli.run_actions import add_actions, add_signals, find_run, send_signal
from readwrite_edit.cli.table import print_table
from readwrite_edit.terminal import printable

if TYPE_CHECKING:
    from readwrite_edit.runs.reader import RunView

Added = TypeVar("Added")
_FOLLOW_EVERY_S = 0.5
_LONGEST_CONSOLE_BYTES = 1 << 20
_ON_STOP = {"edit": "an edit has nothing to save: it ends at its next check, without an adapter"}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``runs`` with its actions."""
    parser = commands.add_parser("runs", help="list, show, compare, stop, resume, follow and delete runs")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add(actions, "ls", _list, "list the runs of a folder", names_run=False)
    _add(actions, "show", _show, "show one run's state and last figures")
    text = "ask a run to save and end at its next step (an edit: to end)"
    add_signals(_add(actions, "stop", _stop, text, machine_form=False))
    tail = _add(actions, "tail", _tail, "print the last logged steps of a run; of an edit its console.log and state")
    tail.add_argument("-n", type=_count, default=10, metavar="N", help="how many lines (default: %(default)s)")
    tail.add_argument("--follow", action="store_true", help="go on until the run ends")
    add_actions(actions)


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
    from readwrite_edit.queue import list_all

    views = list_all(args.root)
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
    from readwrite_edit.runs.reader import geometry, last_snapshot, metrics, read_run, summary
    from readwrite_edit.runs.wording import number_text

    path = find_run(args.which, args.root)
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
    from readwrite_edit.runs.reader import read_run
    from readwrite_edit.runs.requests import request_stop

    path = find_run(args.which, args.root)
    view = read_run(path)
    if not view.live:
        raise FolderError(f"{path} is {view.status}: there is nothing to stop")
    request_stop(path)
    what_follows = _ON_STOP.get(view.kind, "it saves and ends at its next step")
    print(f"asked {printable(view.name)} to stop: {what_follows}")
    send_signal(path, args)
    return 0


def _tail(args: argparse.Namespace) -> int:
    from readwrite_edit.runs.folder import RunFolder
    from readwrite_edit.runs.reader import Cursor, read_run
    from readwrite_edit.runs.records import current, is_metric, metric_key, segment_starts

    path = find_run(args.which, args.root)
    if read_run(path).kind == "edit":
        return _tail_edit(path, args)
    cursor = Cursor(RunFolder(path).metrics)
    records = current(filter(is_metric, cursor.read()), segment_starts(path), metric_key)
    for record in records[max(0, len(records) - args.n) :]:
        _print_record(record, args.json)
    if not records and not args.follow:
        print(f"{printable(path.name)} has logged no steps", file=sys.stderr)
    if args.follow:
        for record in filter(is_metric, _following(path, cursor.read)):
            _print_record(record, args.json)
    return 0


def _tail_edit(path: Path, args: argparse.Namespace) -> int:
    """An edit logs no steps: the end of what it said, and how it stands."""
    from readwrite_edit.runs.folder import RunFolder
    from readwrite_edit.runs.reader import read_run

    console = _Console(RunFolder(path).console)
    lines = console.read()
    for line in lines[max(0, len(lines) - args.n) :]:
        _print_line(line, args.json)
    if args.follow:
        for line in _following(path, console.read):
            _print_line(line, args.json)
    view = read_run(path)
    if args.json:
        print(json.dumps({**_as_json(view), "kind": "state"}))
    else:
        print("  ".join(text for name, text in _facts(view) if name in ("run", "status", "step")))
    return 0


class _Console:
    """``console.log`` from its last MiB on, as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset: int | None = None

    def read(self) -> list[str]:
        """The lines that were completed since the last call; none where the file can not be read."""
        from readwrite_edit.runs.regular import open_regular

        try:
            stream = open_regular(self._path)
        except OSError:
            return []
        with stream:
            if self._offset is None:
                self._offset = max(0, stream.seek(0, os.SEEK_END) - _LONGEST_CONSOLE_BYTES)
            stream.seek(self._offset)
            data = stream.read(_LONGEST_CONSOLE_BYTES)
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return whole.decode("utf-8", "replace").splitlines()


def _print_line(line: str, as_json: bool) -> None:
    print(json.dumps({"kind": "console", "text": line}) if as_json else printable(line), flush=True)


def _following(path: Path, read: Callable[[], list[Added]]) -> Iterator[Added]:
    """What a file of the run gets, until the run has ended.

    Args:
        path: The run folder.
        read: Gives what was added since the last call.
    """
    from readwrite_edit.runs.reader import read_run

    live = True
    while live:
        live = read_run(path).live  # asked before the read: what an ending run wrote last is read after it
        yield from read()
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
