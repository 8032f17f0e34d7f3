"""The command line of the probes: made from their settings, without torch until something is measured."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from readwrite_edit.cli import build_parser, main, options
from readwrite_edit.job.result import Result
from readwrite_edit.probe import job
from readwrite_edit.probe.settings import PROBES, dump_settings, load_settings, settings_class
from readwrite_edit.runs.folder import FolderError, RunFolder

ALL_HELP = """
import contextlib, io, sys
from readwrite_edit.cli import main
for arguments in [["--help"], ["probe", "--help"], *[["probe", kind, "--help"] for kind in sys.argv[1:]]]:
    with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
        main(arguments)
    assert text.getvalue().startswith("usage: "), arguments
heavy = sorted({"torch", "transformers", "pandas", "scipy", "matplotlib"} & set(sys.modules))
sys.exit(f"loaded: {heavy}" if heavy else 0)
"""


def test_no_help_loads_torch() -> None:
    process = subprocess.run(
        [sys.executable, "-c", ALL_HELP, *PROBES, "resume"], capture_output=True, text=True, check=False
    )
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")


@pytest.mark.parametrize("kind", PROBES)
def test_the_help_of_a_probe_shows_every_setting_with_its_default(
    kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as end:
        main(["probe", kind, "--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0
    for name, field in settings_class(kind).model_fields.items():
        positional = isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("positional")
        assert (f"  {name.upper()}" if positional else f"--{name.replace('_', '-')}") in text, name
        assert field.description and " ".join(field.description.split()) in " ".join(text.split()), name
        if isinstance(field.default, bool | int | float | str):
            assert f"(default: {field.default})" in text, name


@pytest.mark.parametrize(
    "arguments",
    [
        ["delta"],
        ["delta", "a", "b", "c"],
        ["delta", "a", "b", "--k", "many"],
        ["delta", "a", "b", "--k", "1.5"],
        ["delta", "a", "b", "--layers", "0,x"],
        ["delta", "a", "b", "--layers", "0;1"],
        ["delta", "a", "b", "--spectra", "svd"],
        ["delta", "a", "b", "--format", "yaml"],
        ["delta", "a", "b", "--nothing"],
        ["delta", "a", "b", "--gain", "yes", "no"],
        ["delta", "a", "b", "--k", "0"],
        ["delta", "a", "b", "--seed", "-1"],
        ["delta", "a", "b", "--modules", ""],
        ["delta", "", "b"],
        ["dleta", "a", "b"],
        [],
        ["resume"],
    ],
)
def test_bad_values_exit_with_2_and_no_traceback(
    arguments: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code: Any = main(["probe", *arguments])
    except SystemExit as end:
        code = end.code
    captured = capsys.readouterr()
    assert code == 2 and captured.out == "" and "Traceback" not in captured.err and captured.err.strip()
    assert captured.err.strip().splitlines()[-1].startswith("readwrite-edit")
    assert list(tmp_path.iterdir()) == []


def parsed(*arguments: str) -> argparse.Namespace:
    return build_parser().parse_args(["probe", *arguments])


def test_options_become_settings_and_what_is_left_out_takes_its_default() -> None:
    args = parsed("delta", "a", "b", "--layers", "0,3", "--modules", "q_proj,o_proj", "--no-gain", "--k", "8")
    chosen = settings_class("delta")
    settings = chosen.checked({name: getattr(args, name) for name in chosen.model_fields})
    expected = {"base": "a", "tuned": "b", "layers": (0, 3), "modules": ("q_proj", "o_proj"), "gain": False, "k": 8}
    assert settings == chosen.model_validate(expected)
    assert settings.model_dump(exclude_unset=True) == expected
    alone = parsed("delta", "a")
    assert alone.tuned is None and alone.gain is None and alone.layers is None


def test_the_folder_has_a_name_of_its_own_and_the_command_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def start(settings: Any, path: Path, command_line: str) -> job.ProbeOutcome:
        calls.append((settings, path, command_line))
        return job.ProbeOutcome(RunFolder(path), finding())

    monkeypatch.setattr(job, "start_probe", start)
    monkeypatch.setattr(sys, "argv", ["readwrite-edit", "probe", "delta", "a b", "c", "--verdict"])
    assert main(["probe", "delta", "a b", "c", "--verdict"]) == 0
    (settings, path, line), *_ = calls
    assert settings.base == "a b" and path.parent == Path("runs") and path.name.endswith("-probe-delta")
    assert line == "readwrite-edit probe delta 'a b' c --verdict"
    assert capsys.readouterr().out == "Shown: it is.\n"
    assert main(["probe", "delta", "a", "b", "--run-dir", str(tmp_path / "x")]) == 0
    assert calls[-1][1] == tmp_path / "x"


def finding() -> Result:
    table = pd.DataFrame({"name": ["a\x1b[31m", "b"], "value": [1.5, float("nan")]})
    return Result("things", {"things": table}, "Shown:\nit is.", {"share": 0.5}, ("a note\x07",))


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_every_format_is_safe_to_print_and_json_and_csv_are_read_back(
    form: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(job, "start_probe", lambda *_: job.ProbeOutcome(RunFolder(Path("r")), finding()))
    assert main(["probe", "delta", "a", "b", "--format", form]) == 0
    text = capsys.readouterr().out
    assert all(char.isprintable() or char == "\n" for char in text)
    if form == "json":
        found = json.loads(text)
        assert found["verdict"] == "Shown:\nit is." and found["figures"] == {"share": 0.5}
        assert found["tables"]["things"] == [{"name": "a\x1b[31m", "value": 1.5}, {"name": "b", "value": None}]
    elif form == "csv":
        assert text.splitlines() == ["name,value", "a\\x1b[31m,1.5", "b,"]
    else:
        assert "verdict: Shown: it is." in text and "note: a note\\x07" in text


@pytest.mark.parametrize(("interrupted", "code"), [(True, 130), (False, 0)])
def test_a_stopped_probe_prints_no_table(
    interrupted: bool, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = job.ProbeOutcome(RunFolder(Path("r")), None, interrupted)
    monkeypatch.setattr(job, "start_probe", lambda *_: stopped)
    assert main(["probe", "delta", "a", "b", "--format", "json"]) == code and capsys.readouterr().out == ""


def test_resume_finds_a_run_by_its_name_and_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    outcome = job.ProbeOutcome(RunFolder(Path("r")), finding())
    monkeypatch.setattr(job, "resume_probe", lambda path: asked.append(path) or outcome)
    (tmp_path / "20260101-probe-delta").mkdir()
    assert main(["probe", "resume", "20260101", "--root", str(tmp_path)]) == 0
    assert asked == [tmp_path / "20260101-probe-delta"]


def test_settings_survive_their_recipe_and_what_is_none_is_refused(tmp_path: Path) -> None:
    chosen = settings_class("delta")
    settings = chosen.checked({"base": "a", "tuned": "ü:#", "layers": [0, 2], "step_dtype": "bfloat16"})
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_settings(settings, "readwrite-edit probe delta a 'ü:#'"), encoding="utf-8")
    assert load_settings(path) == settings
    for text in ("", "[]", "probe: delta", "probe: nothing\nsettings: {}", "probe: delta\nsettings: {bse: a}", ": : :"):
        path.write_text(text)
        with pytest.raises(FolderError, match=r"recipe.yaml"):
            load_settings(path)


def test_plain_types() -> None:
    fields = settings_class("delta").model_fields
    plain = {name: options._plain_type(fields[name].annotation) for name in ("k", "layers", "modules", "tuned", "gain")}
    assert plain == {
        "k": (int, False),
        "layers": (int, True),
        "modules": (str, True),
        "tuned": (str, False),
        "gain": (bool, False),
    }
