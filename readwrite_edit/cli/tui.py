"""``readwrite-edit tui``: manage runs and look into their geometry on a full screen."""

from __future__ import annotations

import argparse
import io
import os
import sys
from pathlib import Path

from readwrite_edit.errors import RecipeError

_SWITCH_S = 0.001  # threads that read files give way to keys five times sooner than Python would have it
_LEAST_PORT, _MOST_PORT = 1024, 65535


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``tui``."""
    parser = commands.add_parser("tui", help="manage runs and look into their geometry on a full screen")
    parser.add_argument("--root", type=Path, default=Path("runs"), help="folder of runs (default: %(default)s)")
    parser.add_argument("--readonly", action="store_true", help="look only: nothing is started, stopped or changed")
    parser.add_argument("--settings", type=Path, metavar="FILE", help="theme and keys, TOML (default: the user's own)")
    parser.add_argument("--web", action="store_true", help="in a browser on this machine; needs the extra 'web'")
    parser.add_argument("--port", type=_port, default=8000, metavar="N", help="for --web (default: %(default)s)")
    parser.set_defaults(run=_run)


def _port(text: str) -> int:
    if not text.isdecimal() or not _LEAST_PORT <= int(text) <= _MOST_PORT:
        raise argparse.ArgumentTypeError(f"{text}: expected a port from {_LEAST_PORT} to {_MOST_PORT}")
    return int(text)


def _run(args: argparse.Namespace) -> int:
    from readwrite_edit.tui.settings import read_settings
    from readwrite_edit.tui.themes import theme_names

    settings = read_settings(args.settings, themes=theme_names())
    if args.web:
        return _serve(args)
    if "TEXTUAL_DRIVER" not in os.environ:
        _take_terminal()
    from readwrite_edit.tui.app import RunsApp

    sys.setswitchinterval(_SWITCH_S)
    app = RunsApp(args.root, readonly=args.readonly, settings=settings)
    app.run()
    return app.return_code or 0


def _take_terminal() -> None:
    """Make sure that keys can come in and that the screen, which Textual draws on standard error, can be seen.

    Raises:
        RecipeError: There is no terminal, or one that prints line by line.
    """
    screen = sys.__stderr__
    if not all(stream is not None and stream.isatty() for stream in (sys.__stdin__, screen)):
        raise RecipeError("the TUI needs a terminal (standard input and error); for pipes: readwrite-edit runs ls")
    if os.environ.get("TERM") == "dumb":
        raise RecipeError("TERM=dumb: the TUI needs a terminal that moves its cursor; without: readwrite-edit runs ls")
    if isinstance(screen, io.TextIOWrapper):
        # Textual reads keys as UTF-8 whatever the locale says; in another encoding most signs would become numbers.
        screen.reconfigure(encoding="utf-8")


def _serve(args: argparse.Namespace) -> int:
    from importlib.util import find_spec

    if find_spec("textual_serve") is None:
        raise RecipeError("--web needs textual-serve: pip install 'readwrite-edit[web]'")
    from readwrite_edit.tui.web import serve, tui_command

    serve(tui_command(args.root, readonly=args.readonly, settings=args.settings), args.port)
    return 0
