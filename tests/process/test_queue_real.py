"""A real alignment run through the queue, from the command line on."""

import signal
import subprocess
import sys

from readwrite_edit import queue
from readwrite_edit.runs.reader import read_run
from readwrite_edit.runs.requests import request_stop
from tests.fake_runs import wait_until
from tests.small_runs import small_recipe, write_recipe


def test_a_real_run_goes_through_the_queue_after_its_starter_was_killed(tmp_path, monkeypatch):
    monkeypatch.setenv("READWRITE_EDIT_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "runs"
    recipe = write_recipe(tmp_path / "small.yaml", small_recipe(tmp_path, train={"max_steps": 5000}))
    add = ["queue", "add", "--root", str(root), "--start", "align", "--recipe", str(recipe)]
    starter = f"import os, signal; from readwrite_edit.cli import main; assert main({add!r}) == 0\n"
    starter += "os.killpg(0, signal.SIGKILL)"
    process = subprocess.run([sys.executable, "-c", starter], start_new_session=True, cwd=tmp_path)
    assert process.returncode == -signal.SIGKILL
    (item,) = queue.items(root)
    wait_until(lambda: read_run(item.run).step >= 2 or queue.items(root)[0].ended, "the second step")
    request_stop(item.run)
    wait_until(lambda: queue.items(root)[0].ended, "the end of the run")
    (item,) = queue.items(root)
    said = item.log.read_text()
    assert (item.state, item.exit_code, item.reason) == ("done", 0, "its run is stopped"), said[-2000:]
    view = read_run(item.run)
    assert (view.status, view.pid) == ("stopped", item.pid) and "readwrite-edit align --resume" in said
    wait_until(lambda: not queue.runner_alive(root), "the end of the runner")
