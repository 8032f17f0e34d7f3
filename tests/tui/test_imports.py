"""What the TUI, and what the core without it, loads."""

import subprocess
import sys

from tests.tui.screens import make_run

LOADED = """
import asyncio, sys
from pathlib import Path
from readwrite_edit.tui.app import RunsApp

async def session():
    app = RunsApp(Path(sys.argv[1]))
    async with app.run_test() as pilot:
        await app.workers.wait_for_complete()
        for key in ("enter", "g", "enter"):  # a run, its geometry, one matrix
            await pilot.press(key)
            await app.workers.wait_for_complete()
            await pilot.pause()
        assert app.screen.NAME == "matrix"

asyncio.run(session())
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def python(code, *arguments):
    outcome = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    return set(outcome.stdout.split())


def test_the_tui_loads_no_torch(tmp_path):
    make_run(tmp_path)
    loaded = python(LOADED, str(tmp_path))
    assert "textual" in loaded
    assert not loaded & {"torch", "transformers", "peft", "trl", "numpy"}


LISTED = LOADED.replace('await pilot.press("enter")', 'await pilot.press("slash", "a", "enter", "o", "f1", "escape")')
HEAVY = {"numpy", "pydantic", "yaml", "scipy", "matplotlib", "textual_plot", "textual_serve", "aiohttp", "pandas"}


def test_the_list_of_runs_loads_nothing_but_textual(tmp_path):
    make_run(tmp_path)
    assert not python(LISTED, str(tmp_path)) & (HEAVY | {"torch"})


def test_the_core_loads_no_textual_and_runs_only_the_standard_library():
    code = "import sys; before = set(sys.modules); import readwrite_edit.runs.writer, readwrite_edit.runs.console, "
    code += "readwrite_edit.runs.reader, readwrite_edit.runs.requests; "
    code += "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    foreign = python(code) - set(sys.stdlib_module_names) - {"readwrite_edit"}
    assert foreign == set()
