"""Real runs of a tiny model as a sweep, killed in the middle, finished by the same call, and compared.

Two of them, for the time they take; tests/process/test_sweep.py kills sweeps of more, and of runs that do nothing.
"""

import json
import os
import signal
import subprocess
import sys

from readwrite_edit.cli import main
from readwrite_edit.runs.reader import read_run
from tests.fake_runs import wait_until
from tests.small_runs import WORDS, small_recipe, write_recipe, write_rows

NAMES = ["lora_s0", "principal_s0"]


def recipe(folder):
    text = folder / "protected.txt"
    text.write_text("\n".join(" ".join(WORDS[(at * 7 + n) % len(WORDS)] for n in range(40)) for at in range(30)))
    sections = small_recipe(
        folder,
        train={"max_steps": 2, "eval_steps": 1, "save_strategy": "no"},
        data={"path": str(write_rows(folder / "rows.jsonl", 24)), "eval_rows": 6},
        calibration={"protect": [str(text)]},
        evaluation={"texts": [{"path": str(text), "name": "seen"}], "generations": []},
    )
    return write_recipe(folder / "r.yaml", sections)


def test_a_sweep_of_real_runs_is_killed_finished_and_compared(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("READWRITE_EDIT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "sweep"
    words = ["sweep", "--recipe", str(recipe(tmp_path)), "--dir", str(folder), "--over", "adapter.basis=principal,lora"]
    first = subprocess.Popen([sys.executable, "-m", "readwrite_edit.cli", *words], start_new_session=True)
    wait_until(lambda: read_run(folder / "principal_s0").status == "finished", "the first run", 300)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    started = read_run(folder / "principal_s0").started_s
    assert main([*words, "--dry-run"]) == 0 and "time to go: about" in capsys.readouterr().out
    assert main(words) == 0 and "2 of 2 runs are finished" in capsys.readouterr().out
    views = {name: read_run(folder / name) for name in NAMES}
    assert {view.status for view in views.values()} == {"finished"} and views["principal_s0"].started_s == started
    assert main(["compare", str(folder), "--draws", "100", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["baseline"] == "lora" and found["seeds"] == [0] and found["left_out"] == []
    assert {point["step"] for point in found["points"]} == {1, 2}
    failed = {check["name"] for check in found["checks"] if check["passed"] is False}
    assert failed == {"kept apart"}, "the text that is evaluated was protected too, and is found out"
