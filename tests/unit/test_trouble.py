"""Failures of the machine, told apart from mistakes of the program; provoked for real wherever that can be done."""

from __future__ import annotations

import errno
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from readwrite_edit.align.trouble import as_run_error, drop_unfinished
from readwrite_edit.errors import DataError, ModelError
from tests.tiny_models import tiny_tokenizer

RUN = Path("runs/one")
NUMBERS = torch.zeros(4000)


def _write_twice(path: Path) -> None:
    """Fails in the second handler: the system's error is only in the context."""
    try:
        path.write_bytes(bytes(9000))
    except OSError:
        raise ValueError("could not be written") from None


def _raise(error: Exception) -> None:
    raise error


WRITERS: dict[str, Callable[[Path], object]] = {
    "plain": lambda folder: (folder / "a").write_bytes(bytes(9000)),
    "safetensors": lambda folder: save_file({"a": NUMBERS}, folder / "a"),
    "torch": lambda folder: torch.save({"a": NUMBERS}, folder / "a"),
    "torch, to a file": lambda folder: torch.save({"a": NUMBERS}, (folder / "a").open("wb")),
    "torch, old format": lambda folder: torch.save(NUMBERS, folder / "a", _use_new_zipfile_serialization=False),
    "tokenizers": lambda folder: tiny_tokenizer().backend_tokenizer.save(str(folder / "a")),
    "through another error": lambda folder: _write_twice(folder / "a"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_disk_that_takes_no_more(name: str, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(Exception) as caught:  # each library has a kind of its own
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
            WRITERS[name](tmp_path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    told = str(as_run_error(caught.value, RUN))
    reason = "a file could not be written whole" if name in ("torch", "torch, old format") else "File too large"
    assert told == f"{RUN} takes no more data ({reason}): free space on its disk and go on with {_resume()}"


@pytest.mark.parametrize(
    "fail",
    [
        lambda: torch.zeros(10**14),
        lambda: bytes(10**15),
        lambda: _raise(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee")),
        lambda: _raise(RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be")),
        lambda: _raise(OSError(errno.ENOMEM, "Cannot allocate memory")),
    ],
    ids=["torch", "python", "CUDA's allocator", "CUDA itself", "system"],
)
def test_memory_that_runs_out(fail: Callable[[], object]) -> None:
    with pytest.raises(Exception) as caught:
        fail()
    told = str(as_run_error(caught.value, RUN))
    assert told.startswith("out of memory (") and told.isprintable()
    assert "train.per_device_train_batch_size or train.max_length" in told and told.endswith(_resume())


def test_other_errors_of_the_system_name_their_file() -> None:
    error = PermissionError(errno.EACCES, "Permission denied", "runs/one/state.json")
    assert str(as_run_error(error, RUN)) == (
        f"runs/one/state.json: Permission denied: put it right and go on with {_resume()}"
    )
    assert str(as_run_error(OSError("odd"), RUN)).startswith(f"{RUN}: odd: ")


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), RuntimeError("shapes differ"), KeyError(28), DataError("bad"), ModelError("out of memory")],
)
def test_what_is_no_failure_of_the_machine_is_left_as_it_is(error: Exception) -> None:
    assert as_run_error(error, RUN) is None


def test_only_unsealed_checkpoints_are_dropped(tmp_path: Path) -> None:
    drop_unfinished(tmp_path / "missing")
    for name in ("checkpoint-1", "checkpoint-2", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "optimizer.pt").write_bytes(b"x")
    (tmp_path / "checkpoint-1" / "complete.json").write_text("{}")
    (tmp_path / "checkpoint-note").write_text("a file")
    drop_unfinished(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-1", "other", "checkpoint-note"}


def _resume() -> str:
    return f"readwrite-edit align --resume {RUN}"
