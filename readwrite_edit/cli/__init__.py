"""The command line: arguments, lazy imports and exit codes, no logic.

Each command is a module of this package with ``add_parser(commands)``; it sets
``run`` on its parser to a function of the parsed arguments that returns an exit
code and imports what it needs itself, so that ``--help`` never loads torch.
"""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import version

from readwrite_edit.cli import align, export, recipes, runs, tui, verify
from readwrite_edit.errors import ReadWriteEditError
from readwrite_edit.terminal import printable

COMMANDS = (align, verify, export, recipes, runs, tui)
INTERRUPTED = 130


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="readwrite-edit",
        description="Align and edit language models with knowledge of where they read and where they write.",
    )
    parser.add_argument("--version", action="version", version=version("readwrite-edit"))
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code (2 wrong input, 3 the run failed, 130 interrupted)."""
    args = build_parser().parse_args(argv)
    try:
        return args.run(args)
    except ReadWriteEditError as error:
        if args.debug:
            raise
        return _complain(str(error), error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except OSError as error:
        if args.debug:
            raise
        return _complain(_describe(error), 2)


def _describe(error: OSError) -> str:
    """An operating system's error in one line: what and where."""
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{where}"


def _complain(message: str, code: int) -> int:
    print(f"readwrite-edit: {printable(message, keep_newlines=True)}", file=sys.stderr)
    return code
