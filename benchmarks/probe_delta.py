"""``probe delta`` against reading the same files once, and against loading both models to subtract them.

    python benchmarks/synthetic_pair.py --to /tmp/pair --layers 4
    python benchmarks/probe_delta.py /tmp/pair/base /tmp/pair/tuned --statistics /tmp/pair/statistics.safetensors

Each side runs in a process of its own, in turn, with the files' pages dropped
from the system's cache before it (where the system allows that). The first
probe of a pair also decomposes second moments and the unembedding's Gram
matrix, which are cached; that round is printed apart.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

_CHUNK = 1 << 23

READ = """
import sys
buffer = bytearray({chunk})
for path in sys.argv[1:]:
    with open(path, "rb", buffering=0) as stream:
        while stream.readinto(buffer):
            pass
"""

LOAD = """
import sys
import torch
from transformers import AutoModelForCausalLM
base, tuned = (AutoModelForCausalLM.from_pretrained(path, dtype="auto", local_files_only=True) for path in sys.argv[1:])
theirs = dict(tuned.named_parameters())
with torch.no_grad():
    deltas = (theirs[name].float() - ours.float() for name, ours in base.named_parameters())
    squared = sum(float(torch.linalg.vector_norm(delta)) ** 2 for delta in deltas)
print(f"norm of all deltas: {squared ** 0.5:.4g}")
"""


@dataclass(frozen=True)
class Cost:
    """Wall time and peak resident memory of a process."""

    seconds: float
    peak_bytes: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("tuned", type=Path)
    parser.add_argument("--statistics", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-load", action="store_true", help="leave out loading both: it takes twice their size")
    parser.add_argument("--spectra", default="none", help="as for probe delta; none compares with a plain read")
    parser.add_argument("--modules", help="as for probe delta")
    args = parser.parse_args()
    files = [str(path) for folder in (args.base, args.tuned) for path in sorted(folder.glob("*.safetensors"))]
    commands = {"plain read": [sys.executable, "-c", READ.format(chunk=_CHUNK), *files], "probe delta": probe(args)}
    if not args.no_load:
        commands["load both"] = [sys.executable, "-c", LOAD, str(args.base), str(args.tuned)]
    size = sum(os.path.getsize(file) for file in files)
    print(f"{size / 1e9:.1f} GB in {len(files)} files, {os.cpu_count()} cores")
    first = measured(commands["probe delta"], files)
    print(f"first probe (bases are cached from here on): {first.seconds:.1f} s, {first.peak_bytes / 2**20:.0f} MiB")
    rounds: dict[str, list[Cost]] = {name: [] for name in commands}
    for _ in range(args.rounds):
        for name, command in commands.items():
            rounds[name].append(measured(command, files))
    report(rounds)


def probe(args: argparse.Namespace) -> list[str]:
    """The probe's command, into a run folder that is made anew each time."""
    script = Path(sys.executable).with_name("readwrite-edit")
    options = ["--statistics", str(args.statistics), "--spectra", args.spectra, "--verdict"]
    options += ["--modules", args.modules] if args.modules else []
    return [str(script), "probe", "delta", str(args.base), str(args.tuned), *options, "--run-dir", "RUN"]


def measured(command: list[str], files: list[str]) -> Cost:
    """Run a command on cold files."""
    for file in files:
        drop(file)
    run = tempfile.mkdtemp(prefix="probe-benchmark-")
    command = [run if word == "RUN" else word for word in command]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    shutil.rmtree(run, ignore_errors=True)
    if status:
        raise SystemExit(f"{' '.join(command[:3])} … failed")
    return Cost(seconds, usage.ru_maxrss * 1024)


def drop(file: str) -> None:
    """Take a file's pages out of the system's cache."""
    handle = os.open(file, os.O_RDONLY)
    os.fsync(handle)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)


def report(rounds: dict[str, list[Cost]]) -> None:
    """Medians, and each side's ratio to the probe in the same round."""
    for name, costs in rounds.items():
        ratios = [mine.seconds / theirs.seconds for mine, theirs in zip(costs, rounds["probe delta"], strict=True)]
        seconds = statistics.median(cost.seconds for cost in costs)
        peak = statistics.median(cost.peak_bytes for cost in costs)
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(
            f"{name:<12} {seconds:8.1f} s  {statistics.median(ratios):6.2f} × probe ({spread})  {peak / 2**20:8.0f} MiB"
        )


if __name__ == "__main__":
    main()
