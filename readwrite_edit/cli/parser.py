"""The parser of the whole command line, and what it says of arguments that it does not know."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from difflib import get_close_matches
from importlib.metadata import version
from typing import Any, NoReturn

from readwrite_edit.cli import (
    align,
    compare,
    edit,
    evaluate,
    export,
    geometry,
    probe,
    queue,
    recipes,
    runs,
    sweep,
    tui,
    verify,
)
from readwrite_edit.terminal import printable

COMMANDS = (align, sweep, evaluate, compare, edit, probe, verify, export, recipes, runs, geometry, queue, tui)


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
        """As argparse's, after the arguments that were left for later are in place; a misspelt option is named."""
        fill, self.fill = self.fill, None
        if fill is not None:
            fill(self)
        found, unknown = super().parse_known_args(args, namespace)
        for argument in unknown:
            near = get_close_matches(argument.partition("=")[0], self._option_string_actions, n=1)
            if argument.startswith("--") and near:
                self.error(f"unknown option {argument}; did you mean {near[0]}?")
        return found, unknown

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
