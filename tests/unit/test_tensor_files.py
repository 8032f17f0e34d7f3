"""Stored tensors come back row by row as safetensors reads them whole; what ends early says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from readwrite_edit.errors import ModelError
from readwrite_edit.models.tensor_files import StoredTensor, TensorFiles, row_blocks

TENSORS = {
    "matrix": torch.randn(7, 5),
    "half": torch.randn(6, 3).half(),
    "brain": torch.randn(4, 2, 3).bfloat16(),
    "double": torch.randn(3, 2).double(),
    "vector": torch.arange(11.0),
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 4),
    "bytes": torch.arange(6, dtype=torch.int8).reshape(2, 3),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_file(TENSORS, tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("numbers", [1, 4, 6, 1000])
def test_blocks_put_together_are_the_tensor(path: Path, numbers: int) -> None:
    with TensorFiles([path]) as files:
        assert files.tensors.keys() == TENSORS.keys()
        for name, whole in load_file(path).items():
            if name == "bytes":
                continue
            stored = files.tensors[name]
            blocks = list(files.blocks(stored, numbers))
            assert stored.shape == tuple(whole.shape) and all(block.dtype == whole.dtype for block in blocks)
            assert torch.equal(torch.cat(blocks).reshape(whole.shape) if blocks else torch.zeros(0, 4), whole)


def test_ranges_cover_every_row_once_and_hold_about_the_numbers_asked_for() -> None:
    tensor = StoredTensor("t", Path("f"), "F32", (10, 4), 0, 160)
    assert list(row_blocks(tensor, 12)) == [(0, 3), (3, 6), (6, 9), (9, 10)]
    assert list(row_blocks(tensor, 1)) == [(row, row + 1) for row in range(10)]
    assert list(row_blocks(tensor, 40)) == [(0, 10)]


def test_a_type_that_is_no_plain_number_is_refused_with_its_name(path: Path) -> None:
    with TensorFiles([path]) as files:
        stored = files.tensors["bytes"]
        with pytest.raises(ModelError, match=r"bytes is stored as I8; expected plain floating-point weights"):
            stored.as_tensor(files.read(stored, 0, 2))


def test_a_name_in_two_files_is_refused(path: Path, tmp_path: Path) -> None:
    save_file({"vector": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=r"other.safetensors: vector is also in model.safetensors"):
        TensorFiles([path, tmp_path / "other.safetensors"])


def test_what_is_no_whole_file_is_refused(path: Path, tmp_path: Path) -> None:
    whole = path.read_bytes()
    lie = whole.replace(b'"shape":[7,5]', b'"shape":[9,5]')
    assert lie != whole
    for content in (whole[:-1], whole[:5], b"", lie, b"\xff" * 100):
        path.write_bytes(content)
        with pytest.raises(ModelError, match="not a whole safetensors file"):
            TensorFiles([path])
    with pytest.raises(ModelError, match="not a whole safetensors file"):
        TensorFiles([tmp_path / "missing.safetensors"])


def test_a_file_that_becomes_shorter_is_noticed(path: Path) -> None:
    with TensorFiles([path]) as files:
        last = max(files.tensors.values(), key=lambda tensor: tensor.stop)
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(ModelError, match="became shorter while it was read"):
            files.read(last, 0, last.rows)
