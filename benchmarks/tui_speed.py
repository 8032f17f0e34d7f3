"""First paint, memory and answers to keys of the TUI over many long runs, beside a bare Textual application.

Run: python benchmarks/tui_speed.py [--runs 500] [--lines 100000] [--keys 200] [--rounds 5]

Every run has a state file of its own; their metrics are hard links to one file of that many lines, so that the folder
stays small. They are opened and read as separate files, but the pages behind them are shared and stay in the system's
cache: a disk's own speed is not in these times. Four more runs have files of their own, which four processes go on
writing, ten lines a second each, through the very writer that trains.

Everything is measured from outside, on a pseudo-terminal of 120×34. First paint: from the start of the process to the
first bytes that show a row; cpu is what it had of a core by then, at best. Memory: resident, two seconds later. Keys:
from the byte that is sent to the bytes that show the run it leads to as the chosen one. (Textual's Pilot can not tell:
it sleeps thrice for 20 ms at each key.)
"""

from __future__ import annotations

import argparse
import fcntl
import json
import math
import os
import pty
import re
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

SHOWN = b"shown-recipe"
WRITERS = 4
BARE = """
from textual.app import App
from textual.widgets import DataTable, Static

class Rows(DataTable):
    BINDINGS = [("home", "scroll_top"), ("end", "scroll_bottom")]

class Bare(App):
    def compose(self):
        yield Rows(cursor_type="row")
        yield Static()

    def on_mount(self):
        table = self.query_one(Rows)
        table.styles.height = 27
        table.add_columns(*"abcdefg", "run")
        table.add_rows([["shown-recipe"] * 7 + [name(row)] for row in range(ROWS)])

    def on_data_table_row_highlighted(self, message):
        self.query_one(Static).update(f"[bold]{name(message.cursor_row)}[/bold]")

def name(row):
    return f"20250101-{ROWS - 1 - row:06}-run"

Bare().run()
"""
WRITER = """
import sys, time
from pathlib import Path
from readwrite_edit.runs.writer import RunWriter

path, pattern, step = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
with RunWriter.start(path, recipe_text="", recipe_name="shown-recipe", max_steps=10**6) as run:
    with open(run.folder.metrics, "ab") as stream:
        stream.write(pattern.read_bytes())
    print("ready", flush=True)
    while True:
        step += 1
        run.log_metrics(step, {"loss": 1 / step, "rewards/margins": step * 0.5, "learning_rate": 1e-5})
        run.heartbeat(step)
        time.sleep(0.1)
"""
KEYS = {"down": b"\x1b[B", "up": b"\x1b[A", "end": b"\x1b[F", "home": b"\x1b[H"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--keys", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the runs are made (default: a temporary folder)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        root = Path(folder) / "runs"
        pattern = make_runs(root, args.runs, args.lines)
        size = os.stat(pattern).st_size / 2**20
        print(f"{args.runs} runs of {args.lines} lines ({size:.0f} MiB each, hard links to one file)")
        first_paint(root, args.rounds)
        with writing(root, pattern, args.lines):
            answers(root, args.runs, args.keys)


def make_runs(root: Path, runs: int, lines: int) -> Path:
    """Run folders that ended, their metrics linked to one file; gives that file."""
    root.mkdir()
    pattern = root.parent / "metrics.jsonl"
    with open(pattern, "w", encoding="utf-8") as stream:
        for step in range(1, lines + 1):
            values = {"loss": 1 / step, "rewards/margins": 0.5 * step, "rewards/accuracies": 0.75, "grad_norm": 1.25,
                      "logps/chosen": -120.5, "logps/rejected": -130.25, "learning_rate": 1e-5}  # fmt: skip
            line = {"step": step, "segment": 0, "time": 1e9 + step, "kind": "train", "values": values}
            stream.write(json.dumps(line) + "\n")
    for number in range(runs):
        path = root / f"20250101-{number:06}-run"
        path.mkdir()
        os.link(pattern, path / "metrics.jsonl")
        state = {"schema": 1, "status": "finished", "kind": "align", "recipe": SHOWN.decode(), "step": lines,
                 "max_steps": lines, "started_s": 1e9 + number, "heartbeat_s": 1e9 + number,
                 "hostname": "here"}  # fmt: skip
        (path / "state.json").write_text(json.dumps(state))
    return pattern


def first_paint(root: Path, rounds: int) -> None:
    """Print the times and the memory of starts, the TUI's and those it is measured against in turn."""
    commands = {
        "python -c 'import textual.app'": [sys.executable, "-c", f"import textual.app; print({SHOWN.decode()!r})"],
        "bare Textual application": bare(30),
        "readwrite-edit tui": tui(root),
    }
    starts: dict[str, list[tuple[float, float, float]]] = {name: [] for name in commands}
    for _ in range(rounds + 1):
        for name, command in commands.items():
            starts[name].append(start(command))
    base = statistics.median(seconds for seconds, _, _ in starts["bare Textual application"][1:])
    print(f"\n{'first paint':34}{'first':>8}{'median':>8}{'best':>8}{'ratio':>7}{'cpu':>8}{'memory':>9}")
    for name, found in starts.items():
        seconds = [one for one, _, _ in found[1:]]
        median, cpu = statistics.median(seconds), min(used for _, used, _ in found)
        print(
            f"{name:34}{found[0][0]:7.2f}s{median:7.2f}s{min(seconds):7.2f}s{median / base:7.2f}"
            f"{cpu:7.2f}s{found[-1][2]:6.0f} MB"
        )


def bare(rows: int) -> list[str]:
    """A table of rows and a line below it, and nothing else: what Textual itself needs."""
    return [sys.executable, "-c", f"ROWS = {rows}\n{BARE}"]


def tui(root: Path) -> list[str]:
    """The TUI over a folder of runs."""
    return [sys.executable, "-m", "readwrite_edit.cli", "tui", f"--root={root}"]


def start(command: Sequence[str]) -> tuple[float, float, float]:
    """Seconds to the first row, seconds of a core by then, resident megabytes two seconds later."""
    began = time.perf_counter()
    with terminal(command) as (ours, pid):
        wait_for(ours, re.compile(SHOWN))
        seconds, cpu = time.perf_counter() - began, core_seconds(pid)
        drain(ours, 2.0)
        return seconds, cpu, resident_mb(pid)


@contextmanager
def terminal(command: Sequence[str]) -> Iterator[tuple[int, int]]:
    """A process on a terminal of its own: our end of it, and the pid."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 34, 120, 0, 0))
    environment = os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    )
    os.close(theirs)
    try:
        yield ours, process.pid
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        os.close(ours)


def wait_for(ours: int, words: re.Pattern[bytes]) -> None:
    """Read what a terminal gets until it holds some words."""
    seen = b""
    while not words.search(seen):
        if not select.select([ours], [], [], 60)[0]:
            sys.exit(f"nothing like {words.pattern!r} within a minute: {seen[-300:]!r}")
        seen += os.read(ours, 1 << 16)


def drain(ours: int, seconds: float) -> None:
    """Take what a terminal gets for a while; a full one would hold its writer up."""
    until = time.perf_counter() + seconds
    while (left := until - time.perf_counter()) > 0:
        if select.select([ours], [], [], left)[0]:
            try:
                os.read(ours, 1 << 16)
            except OSError:
                return  # the process has ended


def core_seconds(pid: int) -> float:
    """Seconds that a process has had of a core, which a busy machine does not lengthen; NaN where /proc is missing."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return math.nan
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """Resident memory of a process; 0 where it has ended."""
    answer = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return int(answer.split()[0]) / 1024 if answer.split() else 0.0


@contextmanager
def writing(root: Path, pattern: Path, lines: int) -> Iterator[None]:
    """Processes that go on with runs of their own."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(root / f"20260101-00000{number}-live"), str(pattern), str(lines)],
            stdout=subprocess.PIPE,
        )
        for number in range(WRITERS)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def answers(root: Path, runs: int, keys: int) -> None:
    """Print how long keys take, while the runs are written, in the TUI and in a bare application."""
    found = {
        "bare Textual application": pressed(bare(runs), runs, keys),
        "readwrite-edit tui": pressed(tui(root), runs, keys),
    }
    base = statistics.median(found["bare Textual application"])
    print(f"\n{f'{keys} keys while {WRITERS} runs are written':34}{'median':>8}{'95th':>8}{'worst':>8}{'ratio':>7}")
    for name, times in found.items():
        times.sort()
        median, high, worst = statistics.median(times), times[int(len(times) * 0.95)], times[-1]
        print(f"{name:34}{median * 1e3:6.1f}ms{high * 1e3:6.1f}ms{worst * 1e3:6.1f}ms{median / base:7.2f}")


def pressed(command: Sequence[str], linked: int, keys: int) -> list[float]:
    """Seconds that each key takes that leads to another of the linked runs, which are the last rows of the list."""
    times: list[float] = []
    with terminal(command) as (ours, _):
        wait_for(ours, re.compile(SHOWN))
        drain(ours, 3.0)
        while len(times) < keys:
            for key, place in moves(linked):
                began = time.perf_counter()
                os.write(ours, KEYS[key])
                if place is None:
                    drain(ours, 0.3)
                else:
                    # In bold: the row of the cursor, or the line below the list; other rows are not.
                    wait_for(ours, re.compile(rb"\x1b\[1;[0-9;]*m20250101-%06d-run" % place))
                    times.append(time.perf_counter() - began)
                    drain(ours, 0.02)  # a hand takes longer; the list is read again every two seconds meanwhile
    return times[:keys]


def moves(linked: int) -> Iterator[tuple[str, int | None]]:
    """Keys with the number of the run that each leads to; None where that is not looked at."""
    yield "end", 0
    for place in range(1, 40):
        yield "up", place
    for place in range(38, 18, -1):
        yield "down", place
    yield "home", None


if __name__ == "__main__":
    main()
