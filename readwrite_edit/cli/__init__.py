"""The command line: arguments, lazy imports and exit codes, no logic.

Each command is a module of this package with ``add_parser(commands)``; it sets
``run`` on its parser to a function of the parsed arguments that returns an exit
code and imports what it needs itself, so that ``--help`` never loads torch.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from typing import Any, NoReturn

from readwrite_edit.cli import align, edit, export, probe, recipes, runs, tui, verify
from readwrite_edit.errors import ReadWriteEditError, RecipeError
from readwrite_edit.terminal import printable

COMMANDS = (align, edit, probe, verify, export, recipes, runs, tui)
WRONG_INPUT, FAILED, INTERRUPTED, PIPE_CLOSED = 2, 3, 130, 141
_LONGEST_MESSAGE = 300


class Parser(argparse.ArgumentParser):
    """A parser that takes ``--debug`` at every level and shows no raw control characters.

    Attributes:
        fill: Adds the rest of the arguments when the parser is first used; None where nothing is left out.
    """

    fill: Callable[[argparse.ArgumentParser], None] | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
        )

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, after the arguments that were left for later are in place."""
        fill, self.fill = self.fill, None
        if fill is not None:
            fill(self)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments: usage and one line on stderr, exit code 2."""
        super().error(printable(message))


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = Parser(
        prog="readwrite-edit",
        description="Align and edit language models with knowledge of where they read and where they write.",
    )
    parser.add_argument("--version", action="version", version=version("readwrite-edit"))
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments; those of the process by default.

    Returns:
        The exit code: 2 wrong input, 3 the run failed or the program has a mistake, 130 interrupted,
        141 nobody reads the output any more.
    """
    args = build_parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without a sign shows its number
    try:
        code: int = args.run(args)
        sys.stdout.flush()  # what a pipe or a disk refuses must show here, not while Python shuts down
    except BrokenPipeError:
        _settle_output()
        return PIPE_CLOSED
    except KeyboardInterrupt:
        return _complain(["interrupted"], INTERRUPTED)
    except Exception as error:
        _settle_output()
        if getattr(args, "debug", False):
            print(printable(traceback.format_exc(), keep_newlines=True), file=sys.stderr)
        return _complain(*_account_of(error))
    return code


def _account_of(error: Exception) -> tuple[list[str], int]:
    """What to say about an error, and the exit code that goes with it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, RecipeError):
        return lines, error.exit_code  # one line a problem
    if isinstance(error, ReadWriteEditError):
        return [" ".join(lines)], error.exit_code
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        return [f"{error.strerror or ' '.join(lines)}{where}"], WRONG_INPUT
    what = ": ".join([type(error).__name__, *lines[:1]])[:_LONGEST_MESSAGE]
    return [f"unexpected {what}; run again with --debug for the traceback"], FAILED


def _complain(lines: list[str], code: int) -> int:
    for line in lines:
        print(f"readwrite-edit: {printable(line)}", file=sys.stderr)
    return code


def _settle_output() -> None:
    """Flush stdout; one that takes no more is pointed at the null device, or Python's last flush would complain."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stdout.fileno())
            os.close(null)
