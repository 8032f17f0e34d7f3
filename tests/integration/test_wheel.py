"""The built wheel: what is in it, and that its commands work where the checkout is not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("readwrite_edit", "tui", "recipes", "tests", "pyproject.toml", "README.md", "LICENSE")
# Isolated mode: neither the current folder nor the user's environment adds to the path, only the wheel is put first.
START = "import sys; sys.path.insert(0, sys.argv.pop(1)); "
COMMAND = START + "from readwrite_edit.cli import main; sys.exit(main())"
WHERE = START + "import json, importlib; print(json.dumps([importlib.import_module(n).__file__ for n in sys.argv[1:]]))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources, so that the checkout gets no build folder."""
    copy = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy)
    _pip("wheel", ".", "--no-deps", "--no-build-isolation", "--no-index", "-w", "built", at=copy)
    (built,) = (copy / "built").iterdir()
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed in it, and nothing of the checkout."""
    target = tmp_path_factory.mktemp("site")
    _pip("install", "--no-deps", "--no-index", "--no-compile", "--target", str(target), str(wheel), at=target)
    return target


def test_every_module_and_data_file_is_in_the_wheel_and_nothing_else(names: set[str]) -> None:
    """A package that pyproject.toml does not list would be missing here."""
    expected = set()
    for source, package in (("readwrite_edit", ""), ("tui", "tui"), ("recipes", "recipes")):
        for path in (ROOT / source).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                expected.add(str(Path("readwrite_edit", package, path.relative_to(ROOT / source))))
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert {
        "readwrite_edit/tui/app.py",
        "readwrite_edit/tui/app.tcss",
        "readwrite_edit/recipes/dpo_readonly.yaml",
    } <= names
    assert {"readwrite_edit/data/concise.jsonl", "readwrite_edit/data/prose.txt", "readwrite_edit/py.typed"} <= names


def test_licence_entry_point_and_description(wheel: Path, names: set[str]) -> None:
    (info,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
    with zipfile.ZipFile(wheel) as archive:
        licence = archive.read(f"{info}/licenses/LICENSE")
        entries = archive.read(f"{info}/entry_points.txt").decode()
        metadata = archive.read(f"{info}/METADATA").decode()
    assert licence == (ROOT / "LICENSE").read_bytes()
    assert "readwrite-edit = readwrite_edit.cli:main" in entries
    assert "License-Expression: Apache-2.0" in metadata and "Requires-Python: <3.14,>=3.11" in metadata
    assert (ROOT / "README.md").read_text().strip() in metadata


def test_recipes_are_listed_shown_copied_and_checked(site: Path, tmp_path: Path) -> None:
    shipped = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))
    listed = _run(site, tmp_path, "recipes", "ls")
    assert [line.split()[0] for line in listed.splitlines() if not line.startswith(" ")] == shipped
    text = (ROOT / "recipes" / "dpo_readonly.yaml").read_text()
    assert _run(site, tmp_path, "recipes", "show", "dpo_readonly") == text
    assert _run(site, tmp_path, "recipes", "cp", "dpo_readonly", "mine.yaml") == "mine.yaml\n"
    assert (tmp_path / "mine.yaml").read_text() == text
    checked = _run(site, tmp_path, "recipes", "validate", *shipped, "mine.yaml")
    assert checked.splitlines() == [f"{name}: valid" for name in [*shipped, "mine.yaml"]]
    assert "train" in json.loads(_run(site, tmp_path, "recipes", "schema"))["properties"]


def test_packages_come_from_the_wheel(site: Path, tmp_path: Path) -> None:
    modules = ("readwrite_edit", "readwrite_edit.tui.app", "readwrite_edit.recipes", "readwrite_edit.data")
    found = json.loads(_python(WHERE, site, tmp_path, *modules))
    assert all(Path(file).is_relative_to(site) for file in found), found


def test_the_command_is_installed(site: Path) -> None:
    script = site / "bin" / "readwrite-edit"
    assert os.access(script, os.X_OK) and "readwrite_edit.cli" in script.read_text()


def _run(site: Path, place: Path, *arguments: str) -> str:
    return _python(COMMAND, site, place, *arguments)


def _python(program: str, site: Path, place: Path, *arguments: str) -> str:
    command = [sys.executable, "-I", "-c", program, str(site), *arguments]
    result = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def _pip(*arguments: str, at: Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    result = subprocess.run(command, cwd=at, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
