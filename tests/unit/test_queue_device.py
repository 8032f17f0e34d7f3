"""Which device a queued command occupies, and whether this machine can have it."""

import pytest

from readwrite_edit import queue
from readwrite_edit.queue.device import device_of, environment_for
from readwrite_edit.queue.runner import run_queue
from readwrite_edit.runs.folder import FolderError


@pytest.fixture
def devices(tmp_path, monkeypatch):
    """Stands in for /dev."""
    (tmp_path / "dev").mkdir()
    monkeypatch.setattr("readwrite_edit.queue.device._DEVICES", tmp_path / "dev")
    return tmp_path / "dev"


def test_the_device_is_the_user_s_the_command_s_or_what_is_there(monkeypatch, devices):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert device_of(["align"]) == "cpu"
    assert device_of(["edit", "--device", "cuda:1"]) == "cuda:1"
    assert device_of(["edit", "--device=cuda"], None) == "cuda:0"
    assert device_of(["align", "--set", "model.device=cuda"], "cpu") == "cpu"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert device_of(["align"]) == device_of(["align", "--set", "model.device=cuda"]) == "cuda:3"
    assert device_of(["align", "--set=model.device=cpu"]) == "cpu"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert device_of(["align"]) == "cpu"
    assert environment_for("cuda:3")["CUDA_VISIBLE_DEVICES"] == "3"
    assert environment_for("cpu")["CUDA_VISIBLE_DEVICES"] == ""
    assert device_of(["align"], "cuda:007") == "cuda:7"  # a lock each would let two items share one GPU
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    (devices / "nvidia3").touch()
    assert device_of(["align"]) == "cuda:0"


NONE = "this machine has no GPU; expected cpu"
PLACES = [
    ([], "cpu", None), ([], "cuda:0", NONE), ([], "cuda:99", NONE), ([], "mps", "only a Mac has one"),
    (["nvidia0", "nvidiactl"], "cuda:0", None), (["nvidia0", "nvidia-uvm"], "cuda:1", "expected cuda:0, as this"),
    (["nvidia0", "nvidia1"], "cuda:99", "expected cuda:0 to cuda:1, as this machine has 2"),
    (["nvidia0"], "cuda:GPU-5e3", None), (["kfd"], "cuda:5", None),
]  # fmt: skip


@pytest.mark.parametrize(("files", "device", "why"), PLACES)
def test_a_device_that_this_machine_can_not_have_is_refused_when_added_and_when_its_turn_comes(
    tmp_path, monkeypatch, devices, files, device, why
):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("READWRITE_EDIT_CACHE", str(tmp_path / "cache"))
    for name in files:
        (devices / name).touch()
    if why is None:
        assert queue.add(tmp_path, ["align"], device=device).device == device
        return
    with pytest.raises(FolderError, match=f"device {device}: {why}"):
        queue.add(tmp_path, ["align"], device=device)
    assert queue.items(tmp_path) == []
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("readwrite_edit.queue.adding.why_absent", lambda device: None)
        queue.add(tmp_path, ["align"], device=device)
    run_queue(tmp_path, lambda text: None)
    (item,) = queue.items(tmp_path)
    assert (item.state, item.pid) == ("failed", None) and item.reason.startswith(f"device {device}: {why}")
