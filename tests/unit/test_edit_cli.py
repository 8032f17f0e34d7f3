"""``readwrite-edit edit`` as a command: options on either side of the action."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from readwrite_edit.cli import edit, main

FACT = ["m", "--prompt", "a", "--subject", "a", "--target", "b"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[Any, argparse.Namespace]]:
    """The recipes that would be carried out, each with the arguments; nothing is."""
    found: list[tuple[Any, argparse.Namespace]] = []

    def note(recipe: Any, _name: str, args: argparse.Namespace) -> int:
        found.append((recipe, args))
        return 0

    monkeypatch.setattr(edit, "_edit", note)
    monkeypatch.chdir(tmp_path)
    return found


def test_options_before_the_action_hold_as_behind_it(asked: list[tuple[Any, argparse.Namespace]]) -> None:
    early = ["--dry-run", "--json", "--run-dir", "there", "--set", "controls.count=3", "--set", "measure.tokens=5"]
    assert main(["edit", *early, "associate", *FACT]) == 0
    assert main(["edit", "associate", *FACT, *early]) == 0
    for recipe, args in asked:
        assert (args.dry_run, args.json, args.run_dir) == (True, True, Path("there"))
        assert (recipe.controls.count, recipe.measure.tokens) == (3, 5)
    assert asked[0][0] == asked[1][0]


def test_what_stands_behind_the_action_wins(asked: list[tuple[Any, argparse.Namespace]]) -> None:
    early = ["--run-dir", "there", "--set", "controls.count=3", "--set", "measure.tokens=5"]
    assert main(["edit", *early, "associate", *FACT, "--run-dir", "here", "--set", "controls.count=4"]) == 0
    ((recipe, args),) = asked
    assert (args.run_dir, args.dry_run, args.json) == (Path("here"), False, False)
    assert (recipe.controls.count, recipe.measure.tokens) == (4, 5)


def test_a_recipe_takes_the_same_options(asked: list[tuple[Any, argparse.Namespace]]) -> None:
    Path("mine.yaml").write_text("model: {path: m}\nassociate: {prompt: a, subject: a, target: b}\n", encoding="utf-8")
    assert main(["edit", "--dry-run", "--recipe", "mine.yaml", "--set", "controls.count=0"]) == 0
    ((recipe, args),) = asked
    assert (recipe.controls.count, args.dry_run, args.json, args.run_dir) == (0, True, False, None)


@pytest.mark.parametrize(
    ("arguments", "refused"),
    [
        (["--recipe", "edit_associate", "associate", *FACT], "--recipe before associate: edit associate does not take"),
        (["--dry-run", "ls"], "--dry-run before ls"),
        (["--json", "undo", "tower"], "--json before undo"),
        (["--set", "a=b", "show", "tower"], "--set before show"),
        (["--run-dir", "x", "stack", "--to", "y"], "--run-dir before stack"),
        (["--dry-run", "locate", "m", "--prompt", "a", "--subject", "a"], "--dry-run before locate"),
    ],
)
def test_an_action_refuses_what_it_does_not_take(
    arguments: list[str],
    refused: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["edit", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"readwrite-edit: {refused}") and line.endswith("leave it out")
    assert list(tmp_path.iterdir()) == []


def test_an_action_takes_what_it_knows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["edit", "--json", "ls"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main(["edit", "ls"]) == 0
    assert capsys.readouterr().out == "no edits under edits\n"
