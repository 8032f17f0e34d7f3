"""``runs tail --follow`` and the TUI beside a run that is being written, in processes of their own."""

import os
import pty
import select
import signal
import subprocess
import sys

from readwrite_edit.runs.reader import read_run
from readwrite_edit.runs.writer import RunWriter

MAIN = "import sys; from readwrite_edit.cli import main; sys.exit(main())"


def test_follow_prints_new_lines_and_ends_with_the_run(tmp_path):
    with RunWriter.start(tmp_path / "run", recipe_text="", recipe_name="dpo") as run:
        run.log_metrics(1, {"loss": 0.5})
        run.log_metrics(2, {"loss": 0.25})
        command = [sys.executable, "-c", MAIN, "runs", "tail", "last", "-n", "1", "--follow", "--root", str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline().split() == ["2", "train", "loss=0.25"]
        run.log_metrics(3, {"loss": 0.125})
        assert process.stdout.readline().split() == ["3", "train", "loss=0.125"]
        run.log_metrics(4, {"loss": 0.0625})
        run.mark("finished")
    rest, _ = process.communicate(timeout=60)
    assert rest.split() == ["4", "train", "loss=0.0625"]
    assert process.returncode == 0


def read_until(terminal, text):
    """Read a pseudo terminal until a text has come."""
    seen = b""
    while text not in seen:
        ready, _, _ = select.select([terminal], [], [], 60)
        assert ready, f"{text!r} never came; seen: {seen[-2000:]!r}"
        seen += os.read(terminal, 1 << 16)


def open_tui(root):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, "tui", "--root", str(root)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"},
        start_new_session=True,
    )
    os.close(theirs)
    return process, ours


def test_the_tui_runs_on_a_terminal_and_killing_it_touches_no_run(tmp_path):
    with RunWriter.start(tmp_path / "run", recipe_text="", recipe_name="dpo") as run:
        run.log_metrics(1, {"loss": 0.5})
        before = sorted(path.name for path in (tmp_path / "run").iterdir())
        process, terminal = open_tui(tmp_path)
        read_until(terminal, b"running")
        process.send_signal(signal.SIGKILL)
        process.wait()
        os.close(terminal)
        assert read_run(tmp_path / "run").status == "running"
        assert sorted(path.name for path in (tmp_path / "run").iterdir()) == before
        process, terminal = open_tui(tmp_path)
        read_until(terminal, b"running")
        os.write(terminal, b"q")
        read_until(terminal, b"\x1b[?1049l")  # the screen as it was before
        assert process.wait(timeout=60) == 0
        os.close(terminal)
