"""The certificate's fresh process, from a process that has the stock libraries imported and forks for each order.

A cold start spends seconds on imports alone, and the tests certify some sixty
adapters. What runs is the same script in a process of its own, which never saw
this package's modules; tests of the certificate itself and every command that a
test runs as a command still start cold.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_SERVER = """
import io, json, os, runpy, sys, traceback
import peft, safetensors.torch, torch, transformers
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        code = 0
        sys.stdin = io.StringIO(order["input"])
        sys.stderr = open(order["stderr"], "w", encoding="utf-8")
        try:
            runpy.run_path(order["script"], run_name="__main__")
        except BaseException:
            code = 1
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(code)
    status = os.waitpid(child, 0)[1]
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


class WarmProcess:
    """Stands in for the module ``subprocess`` where the certificate asks for a fresh process."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[str] | None = None

    def run(self, command: list[str], *, input: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run ``[python, -I, script]`` with a text on its stdin; the other options are those of the only caller."""
        assert command[1] == "-I" and len(command) == 3, command
        assert options == {"capture_output": True, "text": True, "check": False}, options
        server = self._server = self._server or self._started()
        with tempfile.TemporaryDirectory() as scratch:
            stderr = Path(scratch) / "stderr"
            server.stdin.write(json.dumps({"script": command[2], "input": input, "stderr": str(stderr)}) + "\n")
            server.stdin.flush()
            code = int(server.stdout.readline())
            return subprocess.CompletedProcess(command, code, "", stderr.read_text(encoding="utf-8"))

    def _started(self) -> subprocess.Popen[str]:
        environment = {**os.environ, "TRANSFORMERS_VERBOSITY": "error"}
        server = subprocess.Popen(
            [sys.executable, "-I", "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        atexit.register(server.kill)
        return server


WARM = WarmProcess()
