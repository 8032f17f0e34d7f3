"""The command line itself: what it loads, its exit codes, and that errors are one safe line."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from readwrite_edit import cli
from readwrite_edit.cli import build_parser, main, recipes
from readwrite_edit.errors import DataError, RecipeError, RunError

HEAVY = ("torch", "transformers", "trl", "peft", "datasets", "textual", "matplotlib", "pydantic", "numpy", "yaml")
HELP = """
import json, sys
from readwrite_edit.cli import main
for arguments in json.loads(sys.argv[1]):
    try:
        main(arguments)
    except SystemExit as end:
        assert end.code == 0, (arguments, end.code)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def _commands() -> list[list[str]]:
    """The arguments that lead to every parser, the main one included."""
    found: list[list[str]] = []
    waiting: list[tuple[list[str], argparse.ArgumentParser]] = [([], build_parser())]
    while waiting:
        names, parser = waiting.pop()
        found.append(names)
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                waiting += [([*names, name], choice) for name, choice in action.choices.items()]
    return found


def test_help_of_every_command_and_the_version_load_nothing_heavy() -> None:
    commands = _commands()
    assert ["align"] in commands and ["recipes", "cp"] in commands and len(commands) >= 15
    made = [names for names in commands if names[:1] in (["probe"], ["edit"])]
    others = [names for names in commands if names not in made]
    assert _loaded([*([*names, "--help"] for names in others), ["--version"]], usages=len(others)).isdisjoint(HEAVY)
    # options of probes and edits are made from their settings classes, when the command is used
    for_settings = {"pydantic", "yaml"}
    assert _loaded([[*names, "--help"] for names in made], usages=len(made)).isdisjoint(set(HEAVY) - for_settings)


def _loaded(arguments: list[list[str]], *, usages: int) -> set[str]:
    """Modules that a process has loaded after it has shown these helps."""
    result = _python("-c", HELP, json.dumps(arguments))
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("usage: readwrite-edit") == usages
    assert (f"\n{version('readwrite-edit')}\n" in result.stdout) == (["--version"] in arguments)
    loaded = set(json.loads(result.stdout.splitlines()[-1]))
    assert "argparse" in loaded
    return loaded


def test_no_command_is_wrong_input(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "COMMAND" in capsys.readouterr().err


@pytest.fixture
def meet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Let a command meet an error; gives the exit code, stdout and the lines on stderr."""

    def run(error: BaseException, *options: str) -> tuple[int, str, list[str]]:
        def fail(_args: argparse.Namespace) -> int:
            print("so far")
            raise error

        monkeypatch.setattr(recipes, "_list", fail)
        code = main([*options, "recipes", "ls"])
        said = capsys.readouterr()
        return code, said.out, said.err.splitlines()

    return run


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (DataError("row 3\n\n is bad"), 2, ["row 3 is bad"]),
        (RecipeError("a.yaml:1: x\na.yaml:2: y"), 2, ["a.yaml:1: x", "a.yaml:2: y"]),
        (RunError("it stopped"), 3, ["it stopped"]),
        (KeyboardInterrupt(), 130, ["interrupted"]),
        (FileNotFoundError(2, "No such file or directory", "a\x1b[2J"), 2, [r"No such file or directory: a\x1b[2J"]),
        (OSError("odd\nand long"), 2, ["odd and long"]),
        (ValueError("one\ntwo"), 3, ["unexpected ValueError: one; run again with --debug for the traceback"]),
        (AssertionError(), 3, ["unexpected AssertionError; run again with --debug for the traceback"]),
        (DataError("\x1b]0;title\x07\u202e"), 2, [r"\x1b]0;title\x07\u202e"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_error_is_one_line_and_an_exit_code(meet, error: BaseException, code: int, lines: list[str]) -> None:
    assert meet(error) == (code, "so far\n", [f"readwrite-edit: {line}" for line in lines])


def test_a_very_long_message_of_a_mistake_is_cut(meet) -> None:
    _, _, (line,) = meet(ValueError("x" * 5000))
    assert len(line) < 500 and line.endswith("--debug for the traceback")


@pytest.mark.parametrize("error", [ValueError("a\x1b[2J"), DataError("bad")])
def test_debug_shows_the_traceback_and_keeps_the_exit_code(meet, error: Exception) -> None:
    plain = meet(error)[0]
    code, _, lines = meet(error, "--debug")
    assert code == plain and lines[0].startswith("Traceback") and "raise error" in "".join(lines)
    assert all(line.isprintable() for line in lines) and lines[-1].startswith("readwrite-edit: ")


@pytest.mark.parametrize(
    "arguments", [["--debug", "recipes", "ls"], ["recipes", "--debug", "ls"], ["recipes", "ls", "--debug"]]
)
def test_debug_is_understood_before_and_after_a_command(arguments: list[str]) -> None:
    assert build_parser().parse_args(arguments).debug is True


@pytest.mark.parametrize(
    "arguments",
    [
        ["recipes", "show", "\x1b[31mred"],
        ["align", "--recipe", "no\x1b]0;title\x07.yaml"],
        ["align", "--resume", "run\x1b[2J"],
        ["runs", "show", "\x1b[5m"],
        ["recipes", "ls", "extra\x1b[31m"],
        ["\x1b[31m"],
        ["align", "--recipe", "dpo_readonly", "--set", "train.max_steps=\x1b[31m"],
    ],
)
def test_escape_sequences_in_arguments_do_not_reach_the_terminal(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code
    said = capsys.readouterr()
    assert code == 2
    assert r"\x1b" in said.err and "\x1b" not in said.err + said.out


def test_a_reader_that_left_ends_the_command_silently() -> None:
    """As ``| true`` does; what Python holds back to the end must find the pipe closed as quietly as what it did not."""
    for command in (["recipes", "ls"], ["recipes", "schema"]):  # less, and more, than Python holds back
        reading, writing = os.pipe()
        os.close(reading)
        result = _python("-m", "readwrite_edit.cli", *command, stdout=writing)
        os.close(writing)
        assert (result.returncode, result.stderr) == (cli.PIPE_CLOSED, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_an_output_that_takes_no_more_is_one_line() -> None:
    with open("/dev/full", "wb") as full:
        result = _python("-m", "readwrite_edit.cli", "recipes", "ls", stdout=full.fileno())
    assert (result.returncode, result.stderr) == (2, "readwrite-edit: No space left on device\n")


def test_signs_that_the_output_can_not_show_are_numbers() -> None:
    result = _python("-m", "readwrite_edit.cli", "recipes", "show", "missing_é_recipe", encoding="ascii")
    assert result.returncode == 2 and r"\xe9" in result.stderr
    script = "from readwrite_edit.cli import main, recipes; recipes._list = lambda args: print('é✓') or 0; main()"
    assert _python("-c", script, "recipes", "ls", encoding="ascii").stdout == "\\xe9\\u2713\n"


def _python(
    *arguments: str, encoding: str = "utf-8", stdout: int = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    environment.pop("PYTHONUNBUFFERED", None)  # else nothing is held back to the end
    command = [sys.executable, *arguments]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=environment, check=False)
