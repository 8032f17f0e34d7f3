"""``readwrite-edit runs``: list, show and stop runs; the plain twin of the TUI.

``run_tail`` follows them, ``run_actions`` has the rest: compare, resume, rm and note.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from readwrite_edit.cli import run_tail
from readwrite_edit.cli.run_actions import add_actions, add_signals, send_signal
from readwrite_edit.cli.table import print_table
from readwrite_edit.terminal import printable

if TYPE_CHECKING:
    from readwrite_edit.runs.reader import RunView
_ON_STOP = {"edit": "an edit has nothing to save: it ends at its next check, without an adapter"}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``runs`` with its actions."""
    parser = commands.add_parser("runs", help="list, show, compare, stop, resume, follow and delete runs")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add(actions, "ls", _list, "list the runs of a folder", names_run=False)
    _add(actions, "show", _show, "show one run's state and last figures")
    text = "ask a run to save and end at its next step (an edit: to end)"
    add_signals(_add(actions, "stop", _stop, text, machine_form=False))
    text = "print the last logged steps of a run; of an edit its console.log and state"
    run_tail.add_options(_add(actions, "tail", run_tail.run, text))
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


def _list(args: argparse.Namespace) -> int:
    from readwrite_edit.queue import list_all

    views = list_all(args.root)
    if args.json:
        print(json.dumps([as_json(view) for view in views], indent=2))
    elif not views:
        print(f"no runs under {printable(str(args.root))}")
    else:
        print_table([("run", "status", "kind", "recipe", "step", "loss", "age", ""), *map(_row, views)])
    return 0


def _row(view: RunView) -> tuple[str, ...]:
    from readwrite_edit.runs.absence import METRICS, unread_text
    from readwrite_edit.runs.records import read_last_value
    from readwrite_edit.runs.wording import GLYPHS, age_text, number_text, step_text

    status = f"{GLYPHS[view.status]} {view.status}"
    if view.status == "broken":
        return view.name, status, "", "", "", "", "", view.reason
    loss, problem = read_last_value(view.path, "loss")
    more = "; ".join(filter(None, (view.reason, problem and unread_text(METRICS, problem))))
    step = step_text(view.step, view.max_steps)
    age = f"{age_text(view.ahead_s)} ahead" if view.ahead_s else age_text(view.age_s)
    return view.name, status, view.kind, view.recipe, step, number_text(loss), age, more


def as_json(view: RunView) -> dict[str, Any]:
    """A run for programs."""
    return {**asdict(view), "name": view.name, "path": str(view.path)}


def _show(args: argparse.Namespace) -> int:
    from readwrite_edit.queue.finding import find_run
    from readwrite_edit.runs.absence import SUMMARY, damage, unread_text
    from readwrite_edit.runs.reader import read_run, read_summary
    from readwrite_edit.runs.records import last_snapshot, read_geometry, read_metrics
    from readwrite_edit.runs.wording import number_text

    path = find_run(args.which, args.root)
    view, logged, recorded, (end, no_end) = read_run(path), read_metrics(path), read_geometry(path), read_summary(path)
    unread = [damage(found.cursor, len(found.records), live=view.live) for found in (logged, recorded)]
    unread = [sentence for sentence in (*unread, no_end and unread_text(SUMMARY, no_end)) if sentence]
    if args.json:
        last, snapshot = {record["kind"]: record for record in logged.records}, last_snapshot(recorded.records)
        found = {**as_json(view), "last": last, "geometry": snapshot, "summary": end, "unread": unread}
        print(json.dumps(found, indent=2))
        return 0
    for name, text in [*facts(view), *(("unread", sentence) for sentence in unread), *_findings(end)]:
        print(f"{name:<10} {printable(text)}")
    for kind in ("train", "eval"):
        for name, value in _latest(logged.records, kind).items():
            print(f"{kind:<10} {printable(name)} {number_text(value)}")
    return 0


def facts(view: RunView) -> Iterator[tuple[str, str]]:
    """What a run says of itself, thing by thing."""
    from readwrite_edit.runs.wording import GLYPHS, sign_text, step_text

    yield "run", str(view.path)
    yield "status", f"{GLYPHS[view.status]} {view.status}" + (f": {view.reason}" if view.reason else "")
    if view.status != "broken":
        yield "kind", view.kind
        yield "recipe", view.recipe
        yield "step", step_text(view.step, view.max_steps)
        yield "segment", str(view.segment)
        yield "heartbeat", f"{sign_text(view.age_s, view.ahead_s)}, pid {view.pid} on {view.hostname}"


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
    from readwrite_edit.queue.finding import find_run
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
