"""Sweeps whose runs are made up but for their recipes and evaluations: quick enough to be killed again and again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from tests.compared_runs import evaluations_of

# As an alignment by its command line: works until its gate is opened, then writes evaluations and ends.
_RUN = """
import os, sys, time
from pathlib import Path
from readwrite_edit.evaluate.records import as_line
from readwrite_edit.recipe import dump_recipe, load_recipe
from readwrite_edit.runs.writer import RunWriter
from tests.fake_sweeps import evaluations_for

words = sys.argv[2:]
options = dict(zip(words[::2], words[1::2]))
resumed = "--resume" in options
path, folder = Path(options.get("--resume") or options["--run-dir"]), Path(os.environ["FAKE_SWEEP"])
settings = [value for word, value in zip(words, words[1:]) if word == "--set"]

def note(word):
    with open(folder / "journal", "a") as journal:
        journal.write(f"{word} {path.name} {os.getpid()}\\n")

note("resume" if resumed else "start")
if (folder / f"refuse-{path.name}").exists():
    sys.exit("readwrite-edit: refused")
recipe = load_recipe(str(path / "recipe.yaml") if resumed else options["--recipe"], settings)
begun = RunWriter.resume(path) if resumed else RunWriter.start(
    path, recipe_text=dump_recipe(recipe), recipe_name="fake", max_steps=15)
with begun as run:
    while not ((folder / "gate").exists() or (folder / f"gate-{path.name}").exists()):
        time.sleep(0.02)
        run.heartbeat(0)
    for one in evaluations_for(recipe):
        run.log_evaluation(one.step, as_line(one))
    run.mark("finished")
note("end")
"""
_SWEEP = """
import sys
from readwrite_edit.cli import main
from readwrite_edit.queue import runner
from readwrite_edit.sweep import checking

checking.check_material = lambda *_: None  # it loads torch
runner.EVERY_S = 0.05
runner.program = lambda argv: [sys.executable, "-c", sys.argv[1], *argv]
sys.exit(main(sys.argv[2:]))
"""


def evaluations_for(recipe):
    """What a run of this recipe measures: the larger its learning rate, the more it gains at its cost."""
    return evaluations_of(gain=100 * recipe.train.learning_rate, seed=recipe.train.seed)


def fake_recipe(folder: Path) -> Path:
    """A recipe that needs no model, since nothing loads one."""
    sections = {
        "model": {"path": "bundled:smollm2-135m-instruct"},
        "data": {"path": "builtin:concise"},
        "train": {"max_steps": 15, "learning_rate": 0.01},
    }
    path = folder / "r.yaml"
    path.write_text(yaml.safe_dump(sections))
    return path


def start_sweep(folder: Path, *options: str) -> subprocess.Popen[str]:
    """``readwrite-edit sweep`` in a session of its own; its folder is ``sweep`` in the folder given."""
    words = ["sweep", "--recipe", str(folder / "r.yaml"), "--dir", str(folder / "sweep"), *options]
    environment = os.environ | {
        "FAKE_SWEEP": str(folder),
        "READWRITE_EDIT_CACHE": str(folder / "cache"),
        "PYTHONPATH": str(Path(__file__).parent.parent),
    }
    command = [sys.executable, "-c", _SWEEP, _RUN, *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, env=environment, cwd=folder, start_new_session=True
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, output and complaints of a process that ends by itself."""
    said, complaints = process.communicate(timeout=120)
    return process.returncode, said, complaints


def runs_of(lines: Sequence[Sequence[str]], word: str) -> list[str]:
    """Names of the runs that a journal has this word of, sorted."""
    return sorted(line[1] for line in lines if line[0] == word)
