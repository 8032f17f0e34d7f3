"""``readwrite-edit tui``: watch and stop runs on a full screen."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``tui``."""
    parser = commands.add_parser("tui", help="watch and stop runs on a full screen")
    parser.add_argument("--root", type=Path, default=Path("runs"), help="folder of runs (default: %(default)s)")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from readwrite_edit.tui.app import RunsApp

    app = RunsApp(args.root)
    app.run()
    return app.return_code or 0
