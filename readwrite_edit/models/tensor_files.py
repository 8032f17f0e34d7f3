"""Tensors in safetensors files, read in blocks of rows without building a model.

The files are read through plain descriptors into buffers of our own, from as
many threads as one likes: memory never holds more than the blocks under way,
whatever the size of the checkpoint.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import TracebackType

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from readwrite_edit.errors import ModelError

DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}


@dataclass(frozen=True)
class StoredTensor:
    """Where one tensor lies.

    Attributes:
        name: As in the file.
        file: Path of the file.
        dtype: Of the stored numbers, as safetensors calls it (``BF16``, …).
        shape: Of the tensor.
        start: First byte in the file.
        stop: Byte after the last.
    """

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """Length of the first dimension; 1 for a scalar."""
        return self.shape[0] if self.shape else 1

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return (self.stop - self.start) // max(1, self.rows)

    def as_tensor(self, data: bytearray) -> Tensor:
        """The numbers of whole rows, shape (rows, …); shares memory with ``data``."""
        dtype = DTYPES.get(self.dtype)
        if dtype is None:
            raise ModelError(
                f"{self.file}: {self.name} is stored as {self.dtype}; expected plain floating-point weights "
                f"({', '.join(DTYPES)}): restore the quantised checkpoint's full weights first"
            )
        return torch.frombuffer(data, dtype=dtype).reshape(-1, *self.shape[1:])


class TensorFiles:
    """The tensors of a checkpoint's safetensors files, by name.

    Args:
        files: Paths of the files.

    Raises:
        ModelError: A file is missing, cut short, not safetensors, has a header that lies, or repeats a name.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.tensors: dict[str, StoredTensor] = {}
        for file in files:
            for tensor in _stored_tensors(file):
                if tensor.name in self.tensors:
                    raise ModelError(f"{file}: {tensor.name} is also in {self.tensors[tensor.name].file.name}")
                self.tensors[tensor.name] = tensor
        self._open: dict[Path, int] = {}
        self._opening = Lock()

    def will_need(self, tensor: StoredTensor) -> None:
        """Let the system read a tensor ahead; returns at once."""
        os.posix_fadvise(self._handle(tensor.file), tensor.start, tensor.stop - tensor.start, os.POSIX_FADV_WILLNEED)

    def read(self, tensor: StoredTensor, start: int, stop: int) -> bytearray:
        """Bytes of the rows start to stop of a tensor.

        Raises:
            ModelError: The file became shorter since it was opened, or can not be read.
        """
        data = bytearray((stop - start) * tensor.row_bytes)
        view, place = memoryview(data), tensor.start + start * tensor.row_bytes
        try:
            handle = self._handle(tensor.file)
            while view:
                count = os.preadv(handle, [view], place)
                if count == 0:
                    raise ModelError(f"{tensor.file} became shorter while it was read; copy it again")
                view, place = view[count:], place + count
        except OSError as error:
            raise ModelError(f"{tensor.file}: can not be read ({error.strerror})") from error
        return data

    def blocks(self, tensor: StoredTensor, numbers: int) -> Iterator[Tensor]:
        """A whole tensor as blocks of rows with about a number of entries each."""
        for start, stop in row_blocks(tensor, numbers):
            yield tensor.as_tensor(self.read(tensor, start, stop))

    def close(self) -> None:
        """Close the files."""
        for handle in self._open.values():
            os.close(handle)
        self._open.clear()

    def __enter__(self) -> TensorFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _handle(self, file: Path) -> int:
        with self._opening:
            if file not in self._open:
                self._open[file] = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
            return self._open[file]


def row_blocks(tensor: StoredTensor, numbers: int) -> Iterator[tuple[int, int]]:
    """Half-open ranges of rows that hold about a number of entries each."""
    width = 1
    for size in tensor.shape[1:]:
        width *= size
    step = max(1, numbers // max(1, width))
    for start in range(0, tensor.rows, step):
        yield start, min(start + step, tensor.rows)


def _stored_tensors(file: Path) -> list[StoredTensor]:
    """Entries of one file's header, which safetensors has checked against the file."""
    try:
        with safe_open(file, framework="pt"):
            pass
        with file.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(size))
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{file}: not a whole safetensors file ({error}); copy or download it again") from error
    first = 8 + size
    return [
        StoredTensor(
            name,
            file,
            entry["dtype"],
            tuple(entry["shape"]),
            first + entry["data_offsets"][0],
            first + entry["data_offsets"][1],
        )
        for name, entry in header.items()
        if name != "__metadata__"
    ]
