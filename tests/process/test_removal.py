"""Deleting runs: never a living one, never anything else, and nothing half visible after kill -9."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from readwrite_edit.runs.folder import FolderError
from readwrite_edit.runs.notes import Note, read_notes, write_note
from readwrite_edit.runs.reader import list_runs, read_run
from readwrite_edit.runs.removal import remove
from readwrite_edit.runs.state import load_state, save_state
from readwrite_edit.runs.writer import RunWriter
from tests.fake_runs import start_fake, wait_until

DIE_IN_THE_MIDDLE = """
import os, shutil, signal, sys
from pathlib import Path
from readwrite_edit.runs.removal import remove

unlink, left = os.unlink, [2]
def die(*args, **options):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    unlink(*args, **options)
os.unlink = die
remove(Path(sys.argv[1]))
"""


def finished_run(path):
    with RunWriter.start(path, recipe_text="seed: 1\n", recipe_name="dpo") as run:
        run.log_metrics(1, {"loss": 0.5})
        run.mark("finished")
    return path


def everything(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_run_is_deleted_with_its_note_and_nothing_beside_it(tmp_path):
    run, other = finished_run(tmp_path / "run"), finished_run(tmp_path / "other")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    (run / "checkpoints").symlink_to(outside)
    write_note(tmp_path, "run", Note("gone with it"))
    write_note(tmp_path, "other", Note("stays"))
    remove(run)
    assert everything(tmp_path) == [".notes", "other", "outside"]
    assert (outside / "kept").read_text() == "kept"
    assert list(read_notes(tmp_path)) == ["other"]
    assert read_run(other).status == "finished"


def test_a_living_run_is_refused_and_stays_whole(tmp_path):
    path = tmp_path / "run"
    process = start_fake(path, tmp_path / "gate")
    try:
        wait_until(lambda: read_run(path).status == "running")
        with pytest.raises(FolderError, match="is running: stop it first"):
            remove(path)
        (path / "state.json").write_text('{"schema": 99}')  # however its state reads, its lock is held
        with pytest.raises(FolderError, match="is in use: stop it first"):
            remove(path)
        assert (path / "recipe.yaml").exists() and process.poll() is None
    finally:
        process.kill()
        process.wait()
    remove(path)
    assert not path.exists()


def test_a_run_on_another_host_that_fell_silent_is_refused(tmp_path):
    path = finished_run(tmp_path / "run")
    state = load_state(path / "state.json")
    far = replace(state, status="running", hostname="far", heartbeat_s=time.time() - 600)
    save_state(path / "state.json", far, flush=False)
    with pytest.raises(FolderError, match=r"may live on host far \(silent 10 min on far\)"):
        remove(path)
    assert path.exists()


def test_of_a_link_only_the_link_goes(tmp_path):
    real = finished_run(tmp_path / "elsewhere" / "run")
    (tmp_path / "runs").mkdir()
    link = tmp_path / "runs" / "link"
    link.symlink_to(real)
    remove(link)
    assert not os.path.lexists(link) and read_run(real).status == "finished"


@pytest.mark.parametrize("make", ["empty", "files", "file", "missing", "root", "dots"])
def test_what_is_no_run_is_refused(tmp_path, make, monkeypatch):
    path = tmp_path / "thing"
    if make in ("empty", "files", "dots"):
        path.mkdir()
    if make == "files":
        for name in ("recipe.yaml", "model.safetensors", "state.json"):
            (path / name).write_text("{}")
    if make == "file":
        path.write_text("")
    if make == "dots":
        finished_run(tmp_path / "thing" / "run")
        path = tmp_path / "thing" / "run" / ".."
    before = everything(tmp_path)
    with pytest.raises(FolderError):
        remove(path if make != "root" else type(path)("/"))
    assert everything(tmp_path) == before


def test_kill_9_in_the_middle_leaves_no_half_run_and_the_next_removal_sweeps(tmp_path):
    run, other = finished_run(tmp_path / "run"), finished_run(tmp_path / "other")
    killed = subprocess.run([sys.executable, "-c", DIE_IN_THE_MIDDLE, str(run)])
    assert killed.returncode == -signal.SIGKILL
    (hidden,) = [name for name in everything(tmp_path) if name.startswith(".removed-")]
    assert 0 < len(everything(tmp_path / hidden)) < 5, "it was to be killed in the middle"
    assert [view.name for view in list_runs(tmp_path)] == ["other"]
    remove(other)
    assert everything(tmp_path) == []
