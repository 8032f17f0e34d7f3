"""The memory of a delta probe is that of the blocks under way, whatever the size of the checkpoints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Measures a sparse pair of Llama files with one large tensor a side and prints the peak of its resident memory.
DRIVER = """
import json, resource, struct, sys
from pathlib import Path
from readwrite_edit.models.tensor_files import TensorFiles
from readwrite_edit.probe.delta.dense import DenseOptions, measure_pairs
from readwrite_edit.probe.delta.pairing import Pair
from readwrite_edit.models.pathways import Projection
from readwrite_edit.probe.delta.subspaces import Side, Subspaces
import torch

torch.set_num_threads(1)
place, rows, width = Path(sys.argv[1]), int(sys.argv[2]), 1024
files = []
for index, name in enumerate(("base", "tuned")):
    path = place / f"{name}-{rows}.safetensors"
    size = rows * width * 2
    header = json.dumps({"w": {"dtype": "BF16", "shape": [rows, width], "data_offsets": [0, size]}}).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + size)  # zeros that take no room on the disk
        if index:
            for row in range(0, rows, 64):  # a difference in every block
                file.seek(8 + len(header) + row * width * 2)
                file.write(struct.pack("<H", 0x3F80) * width)
    files.append(TensorFiles([path]))

class Sides(Subspaces):
    def __init__(self): self.side = Side(torch.eye(width)[:, :16].contiguous())
    def read(self, projection): return self.side
    def write(self, projection): return None

projection = Projection(0, "up_proj", "m", None, "s", width, rows)
pair = Pair("w", files[0].tensors["w"], files[1].tensors["w"], (projection,))
(found,) = measure_pairs(*files, [pair], Sides(), DenseOptions(16, None, "none", 64))
assert abs(found.geometry[0]["norm"] ** 2 - rows // 64 * width) < 1
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
BLOCKS_MIB = 120  # what the blocks under way and the allocator may differ by from one run to the next


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
def test_a_checkpoint_four_times_as_large_takes_no_more_memory(tmp_path: Path) -> None:
    small, large = (_peak_mib(tmp_path, rows) for rows in (1 << 15, 1 << 17))  # 64 and 256 MiB a side
    assert large < small + BLOCKS_MIB, (small, large)


def _peak_mib(place: Path, rows: int) -> int:
    process = subprocess.run(
        [sys.executable, "-c", DRIVER, str(place), str(rows)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return int(process.stdout)
