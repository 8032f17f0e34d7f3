"""The command line: arguments, lazy imports and exit codes, no logic.

Each command is a module of this package with ``add_parser(commands)``; it sets
``run`` on its parser to a function of the parsed arguments that returns an exit
code and imports what it needs itself, so that ``--help`` never loads torch.
This module itself imports next to nothing: an interruption while everything
else is loaded must find :func:`main` ready for it.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from readwrite_edit.errors import ReadWriteEditError, RecipeError
from readwrite_edit.runs.signals import Interruption, heeding_signals
from readwrite_edit.terminal import printable

if TYPE_CHECKING:
    import argparse

WRONG_INPUT, FAILED, INTERRUPTED, PIPE_CLOSED = 2, 3, 130, 141
_ENDS = {signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}
_BY_SIGNAL = 128
_LONGEST_MESSAGE = 300


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    from readwrite_edit.cli import parser

    return parser.build_parser()


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments; those of the process by default.

    Returns:
        The exit code: 2 wrong input, 3 the run failed or the program has a mistake, 130 interrupted,
        143 terminated and 129 hung up where no run had begun, 141 nobody reads the output any more.
    """
    with heeding_signals() as interruption:
        debug = False
        try:
            args = build_parser().parse_args(argv)
            debug = getattr(args, "debug", False)
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without a sign shows its number
            code: int = args.run(args)
            sys.stdout.flush()  # what a pipe or a disk refuses must show here, not while Python shuts down
        except BrokenPipeError:
            _settle_output()
            return PIPE_CLOSED
        except KeyboardInterrupt:
            return _ended(interruption)
        except Exception as error:
            _settle_output()
            if debug:
                _print_traceback()
            if interruption.asked:  # a library took the interruption for a mistake of its own
                return _ended(interruption)
            return _complain(*_account_of(error))
    return code


def _ended(interruption: Interruption) -> int:
    """Say that a signal ended the command."""
    # Where KeyboardInterrupt left an exec() of text (a library's, while it is imported), Python remembers it as not
    # handled and would die of SIGINT in the end; the next exec() forgets that.
    exec("")
    number = interruption.number
    if number in _ENDS:
        return _complain([_ENDS[number]], _BY_SIGNAL + number)
    return _complain(["interrupted"], INTERRUPTED)


def _print_traceback() -> None:
    import traceback

    print(printable(traceback.format_exc(), keep_newlines=True), file=sys.stderr)


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
