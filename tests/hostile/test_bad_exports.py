"""Runs that must not be exported, targets that must not be touched, Hubs that refuse: one line, nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from readwrite_edit.errors import AdapterError, DataError, ExportError, ReadWriteEditError
from readwrite_edit.export import check_upload, export_run, planned_files, push
from tests.finished_run import write_finished_run, write_summary, write_tiny_adapter, write_tiny_base
from tests.integration.hub_server import OWNER, TOKEN, Hub, running_hub

REPO = f"{OWNER}/concise"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("original")
    base = write_tiny_base(root / "base")
    write_tiny_adapter(write_finished_run(root / "run", base=str(base), layers=2), base)
    return root / "run"


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original, tmp_path / "runs" / "run")
    return tmp_path / "runs" / "run"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def refused(action: Callable[[], object], kind: type[ReadWriteEditError] = ExportError) -> str:
    with pytest.raises(kind) as caught:
        action()
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def assert_refused(
    run: Path, expected: str, *, merge: bool = False, kind: type[ReadWriteEditError] = ExportError
) -> None:
    root = run.parent.parent
    before = listing(root)
    assert expected in refused(lambda: export_run(run, root / "out", merge=merge), kind)
    assert listing(root) == before


def change_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_not_a_run(tmp_path: Path) -> None:
    (tmp_path / "runs" / "empty").mkdir(parents=True)
    assert_refused(tmp_path / "runs" / "empty", "not a run folder", kind=DataError)


def test_run_without_an_adapter(run: Path) -> None:
    shutil.rmtree(run / "adapter")
    change_json(run / "state.json", status="stopped")
    assert_refused(run, "has no finished adapter (the run is stopped): readwrite-edit align --resume")


def test_run_that_still_runs(run: Path) -> None:
    change_json(run / "state.json", status="running", heartbeat_s=4e9)
    assert_refused(run, "is still running")


def test_run_without_an_end_table(run: Path) -> None:
    (run / "summary.json").unlink()
    assert_refused(run, "has no certificate")


def test_run_that_failed_its_certificate(run: Path) -> None:
    checks = [{"name": "reload", "passed": False, "detail": ""}, {"name": "finite", "passed": True, "detail": ""}]
    write_summary(run, certificate={"passed": False, "checks": checks})
    assert_refused(run, "did not pass its certificate (reload)")


@pytest.mark.parametrize("kept", [0, 4, 100, 2000, -1])
def test_weights_cut_short(run: Path, kept: int) -> None:
    weights = run / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    assert_refused(run, "damaged or cut short")


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "readwrite_edit.json"])
def test_adapter_with_a_file_missing(run: Path, name: str) -> None:
    (run / "adapter" / name).unlink()
    assert_refused(run, name)


@pytest.mark.parametrize("name", ["adapter_config.json", "readwrite_edit.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1, "base": []}', '{"schema": 1, "base": {}}'])
def test_adapter_with_a_damaged_file(run: Path, name: str, text: str) -> None:
    (run / "adapter" / name).write_text(text)
    assert_refused(run, str(run / "adapter"), kind=ReadWriteEditError)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_adapter_that_is_not_finite(run: Path, value: float) -> None:
    weights = run / "adapter" / "adapter_model.safetensors"
    tensors = load_file(weights)
    next(iter(tensors.values()))[0, 0] = value
    save_file(tensors, weights)
    assert_refused(run, "holds NaN or infinity")


def test_adapter_of_another_base(run: Path, tmp_path: Path) -> None:
    shutil.rmtree(run / "adapter")
    other = write_finished_run(tmp_path / "other" / "run", layers=2)
    write_tiny_adapter(other, write_tiny_base(tmp_path / "other" / "base", seed=1))
    shutil.copytree(other / "adapter", run / "adapter")
    assert_refused(run, "was made for another base than the run's")


def test_merge_into_another_base_of_the_same_shape(run: Path, tmp_path: Path) -> None:
    other = write_tiny_base(tmp_path / "other", seed=1)
    point_at(run, other)
    assert_refused(run, "is another base than the run's", merge=True)


def test_merge_of_an_adapter_that_does_not_fit(run: Path) -> None:
    weights = run / "adapter" / "adapter_model.safetensors"
    wider = {
        name: torch.cat([value, value], dim=1) if "lora_A" in name else value
        for name, value in load_file(weights).items()
    }
    save_file(wider, weights)
    assert_refused(run, "can not be merged", merge=True, kind=AdapterError)


def test_merge_after_the_base_is_gone(run: Path, tmp_path: Path) -> None:
    point_at(run, tmp_path / "gone")
    assert_refused(run, "gone", merge=True, kind=ReadWriteEditError)


def point_at(run: Path, base: Path) -> None:
    """Let the adapter's own record name another place for its base."""
    path = run / "adapter" / "readwrite_edit.json"
    metadata = json.loads(path.read_text())
    metadata["base"]["source"] = str(base)
    path.write_text(json.dumps(metadata))


def test_target_that_is_not_empty(run: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    assert_refused(run, "is not empty")
    assert "not an earlier export" in refused(lambda: export_run(run, tmp_path / "out", force=True))
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years of work"


def test_target_that_is_empty_is_taken(run: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert len(export_run(run, tmp_path / "out")) == 4


def test_target_that_is_a_file(run: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    assert_refused(run, "is a file")


@pytest.mark.parametrize("place", [".", "adapter", "new", "..", "../..", "adapter/../../run"])
@pytest.mark.parametrize("force", [False, True])
def test_target_that_would_swallow_the_run(run: Path, place: str, force: bool) -> None:
    before = listing(run.parent.parent)
    for action in (export_run, planned_files):
        assert "around it or inside it" in refused(lambda action=action: action(run, run / place, force=force))
    assert listing(run.parent.parent) == before


def test_target_through_a_link_to_the_run(run: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(run, target_is_directory=True)
    assert "around it or inside it" in refused(lambda: export_run(run, tmp_path / "link", force=True))


def test_target_below_a_file(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "can not be written" in refused(lambda: export_run(run, tmp_path / "file" / "out"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_target_that_may_not_be_written(run: Path, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    assert "can not be written" in refused(lambda: export_run(run, tmp_path / "closed" / "out"))


def test_full_disk(run: Path, tmp_path: Path) -> None:
    """A limit on file size stands for the full disk: the same writes fail, at the same places."""
    script = """
import resource, sys
from pathlib import Path
from readwrite_edit.errors import ExportError
from readwrite_edit.export import export_run
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for merge in (False, True):
    try:
        export_run(Path(sys.argv[1]), Path(sys.argv[2]), merge=merge)
    except ExportError as error:
        if "can not be written" in str(error) and "free some space" in str(error):
            continue
    sys.exit(1)
"""
    before = listing(tmp_path)
    arguments = [sys.executable, "-c", script, str(run), str(tmp_path / "out")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert listing(tmp_path) == before


@pytest.mark.parametrize("name", ["", "concise", "a/b/c", "../x", "user/na me", "user/x--y", "user/x.git", "-a/b"])
def test_name_that_is_no_repository(hub: Hub, name: str) -> None:
    assert "is no repository name" in refused(lambda: check_upload(name))
    assert hub.requests == []


def test_no_token(hub: Hub, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    export_run(run, tmp_path / "out")
    assert "no Hub token found" in refused(lambda: push(tmp_path / "out", REPO))
    assert hub.requests == []


def test_hub_switched_off(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refused(lambda: check_upload(REPO))


def test_folder_that_is_no_export(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "secrets.txt").write_text("")
    assert "is not an export" in refused(lambda: push(tmp_path, REPO))
    assert hub.requests == []


@pytest.mark.parametrize(
    ("route", "status", "expected"),
    [
        ("_create", 401, "the token was refused"),
        ("_create", 403, "the token may not write there"),
        ("_create", 500, "answered 500"),
        ("_preupload", 404, "no such repository"),
        ("_batch", 403, "the token may not write there"),
        ("_commit", 412, "answered 412"),
        ("_validate", 400, "was not uploaded"),
    ],
)
def test_hub_that_refuses(hub: Hub, run: Path, tmp_path: Path, route: str, status: int, expected: str) -> None:
    export_run(run, tmp_path / "out")
    hub.refuse[route] = status
    message = refused(lambda: push(tmp_path / "out", REPO))
    assert expected in message and f"{tmp_path / 'out'} is whole and stays" in message
    assert len(listing(tmp_path / "out")) == 4


def test_owner_that_is_someone_else(hub: Hub, run: Path, tmp_path: Path) -> None:
    export_run(run, tmp_path / "out")
    assert "the token may not write there" in refused(lambda: push(tmp_path / "out", "someone/concise"))


def test_no_network(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: a connection is refused
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        export_run(run, tmp_path / "out")
        assert "check the network" in refused(lambda: push(tmp_path / "out", REPO))
