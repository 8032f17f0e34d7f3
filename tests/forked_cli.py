"""The command line in processes of their own, forked from one that has imported everything once.

A cold start spends some ten seconds on imports. Tests that start, kill and
resume runs a dozen times leave that out; what a process does is the same, and
so are its signals and exit codes. Tests of starting itself start cold.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_SERVER = """
import json, os, sys
import readwrite_edit.align.finish, readwrite_edit.align.job, readwrite_edit.probe.contrast.probe
from readwrite_edit.cli import main

for line in sys.stdin:
    order = json.loads(line)
    if "wait" in order:
        pid, status = os.waitpid(order["wait"], os.WNOHANG)
        print(os.waitstatus_to_exitcode(status) if pid else "alive", flush=True)
        continue
    child = os.fork()
    if child == 0:
        code = 99
        try:
            output = os.open(order["output"], os.O_WRONLY | os.O_CREAT)
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0), os.dup2(output, 1), os.dup2(output, 2)
            os.chdir(order["folder"])
            os.environ |= order["environment"]
            code = main(order["arguments"])
            sys.stdout.flush()
        finally:
            os._exit(code)
    print(child, flush=True)
"""
_EVERY_S = 0.02


class Forked:
    """One command, with what the tests need of ``subprocess.Popen``."""

    def __init__(self, server: ForkedCli, pid: int, output: Path) -> None:
        self.pid, self._server, self._output = pid, server, output
        self._code: int | None = None

    def poll(self) -> int | None:
        """Its exit code, or −n for the end by signal n; None while it runs."""
        if self._code is None and (answer := self._server.ask(wait=self.pid)) != "alive":
            self._code = int(answer)
        return self._code

    def wait(self, timeout: float) -> int:
        """The exit code, once it has ended."""
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.console(), timeout)
            time.sleep(_EVERY_S)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def console(self) -> str:
        """What it printed until now, on stdout and stderr."""
        return self._output.read_text(encoding="utf-8")


class ForkedCli:
    """The process that forks; it starts with the first command."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._commands = 0

    def start(self, folder: Path, *arguments: str, **environment: str) -> Forked:
        """Run ``readwrite-edit ARGUMENTS`` in a folder."""
        self._commands += 1
        output = folder / f"output-{self._commands}.txt"
        order = {"folder": str(folder), "output": str(output), "arguments": arguments, "environment": environment}
        return Forked(self, int(self.ask(**order)), output)

    def ask(self, **order: Any) -> str:
        process = self._process = self._process or _started()
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        return process.stdout.readline().strip()


def _started() -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    atexit.register(process.kill)
    return process


FORKED_CLI = ForkedCli()
