"""A run started, watched, lost, found again, stopped, resumed and finished from the TUI, all by real processes.

The TUI runs in a process of its own (headless, a full screen all the same) that is killed with signal 9.
"""

import signal
import subprocess
import sys

from readwrite_edit.runs.reader import list_runs, read_run, summary
from tests.fake_runs import wait_until
from tests.small_runs import small_recipe, write_recipe
from tests.tui.screens import drive, settle

STEPS, LONG_S = 150, 240.0
TUI = """
import asyncio, sys
from pathlib import Path
from readwrite_edit.tui.app import RunsApp
from readwrite_edit.tui.forms.new_screen import NewScreen

async def main():
    app = RunsApp(Path(sys.argv[1]))
    async with app.run_test(size=(120, 34)) as pilot:
        app.push_screen(NewScreen(sys.argv[2]))
        for _ in range(4):
            await pilot.pause()
            await app.workers.wait_for_complete()
        await pilot.press("f5")
        await asyncio.sleep(600)

asyncio.run(main())
"""


def test_a_run_outlives_the_tui_and_is_taken_up_by_the_next(tmp_path):
    root = tmp_path / "runs"
    recipe = write_recipe(tmp_path / "small.yaml", small_recipe(tmp_path, train={"max_steps": STEPS}))
    tui = subprocess.Popen([sys.executable, "-c", TUI, str(root), str(recipe)], start_new_session=True)
    try:
        wait_until(lambda: any(view.step >= 2 for view in list_runs(root)), "two steps of a run", LONG_S)
    finally:
        tui.send_signal(signal.SIGKILL)
        tui.wait()
    run = list_runs(root)[0].path
    seen = read_run(run).step
    wait_until(lambda: read_run(run).step > seen, "a step without the TUI")

    async def stop(app, pilot):
        await pilot.press("s", "y")
        await settle(app, pilot)

    drive(root, stop)
    wait_until(lambda: read_run(run).status == "stopped", "the end of the run", LONG_S)
    stopped = read_run(run).step
    assert 0 < stopped < STEPS

    async def resume(app, pilot):
        await pilot.press("u")
        await settle(app, pilot)
        if read_run(run).status == "stopped":
            await pilot.press("y")
            await settle(app, pilot)

    drive(root, resume)
    wait_until(
        lambda: read_run(run).segment == 1 and read_run(run).step > stopped, "a step of the second segment", LONG_S
    )
    wait_until(lambda: read_run(run).status == "finished", "the end of the run", LONG_S)
    assert read_run(run).step == STEPS
    assert summary(run)["certificate"]["passed"]
