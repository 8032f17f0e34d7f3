"""``readwrite-edit runs tail``: the last lines of a run's metrics or of its console, and those that come."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from readwrite_edit.terminal import printable

Added = TypeVar("Added")
_FOLLOW_EVERY_S = 0.5
_LONGEST_CONSOLE_BYTES = 1 << 20


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say what to print and how long; ``run`` carries it out."""
    parser.add_argument("-n", type=_count, default=10, metavar="N", help="how many lines (default: %(default)s)")
    parser.add_argument("--console", action="store_true", help="its console.log instead of its logged steps")
    parser.add_argument("--follow", action="store_true", help="go on until the run ends")


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number}: expected 0 or more lines")
    return number


def run(args: argparse.Namespace) -> int:
    """Print the end of the metrics; of an edit, and where asked for, of the console.

    Raises:
        FolderError: No run is meant, or its file can not be read.
    """
    from readwrite_edit.queue.finding import find_run
    from readwrite_edit.runs.reader import read_run

    path = find_run(args.which, args.root)
    if args.console or read_run(path).kind == "edit":
        return _tail_console(path, args)
    return _tail_metrics(path, args)


def _tail_metrics(path: Path, args: argparse.Namespace) -> int:
    from readwrite_edit.runs.absence import METRICS, absence, why_no_records
    from readwrite_edit.runs.folder import FolderError
    from readwrite_edit.runs.reader import read_run
    from readwrite_edit.runs.records import is_metric, read_metrics

    found, view = read_metrics(path), read_run(path)
    if problem := why_no_records(found.cursor, len(found.records), live=view.live):
        raise FolderError(f"{path}: {absence(METRICS, view, problem)}")
    for record in found.records[max(0, len(found.records) - args.n) :]:
        _print_record(record, args.json)
    if not found.records and not args.follow:
        print(f"{printable(path.name)}: {absence(METRICS, view, '')}", file=sys.stderr)
    if args.follow:
        for record in filter(is_metric, _following(path, found.cursor.read)):
            _print_record(record, args.json)
    return 0


def _tail_console(path: Path, args: argparse.Namespace) -> int:
    """The end of what a run said, and how it stands."""
    from readwrite_edit.cli.runs import as_json, facts
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
        print(json.dumps({**as_json(view), "kind": "state"}))
    else:
        print("  ".join(text for name, text in facts(view) if name in ("run", "status", "step")))
    return 0


class _Console:
    """``console.log`` from its last MiB on, as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset: int | None = None

    def read(self) -> list[str]:
        """The lines that were completed since the last call; none where there is no file.

        Raises:
            FolderError: It can not be read.
        """
        from readwrite_edit.runs.absence import unread_text
        from readwrite_edit.runs.folder import FolderError
        from readwrite_edit.runs.regular import open_regular, reason_of

        try:
            with open_regular(self._path) as stream:
                if self._offset is None:
                    self._offset = max(0, stream.seek(0, os.SEEK_END) - _LONGEST_CONSOLE_BYTES)
                stream.seek(self._offset)
                data = stream.read(_LONGEST_CONSOLE_BYTES)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise FolderError(f"{self._path.parent}: {unread_text(self._path.name, reason_of(error))}") from error
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
