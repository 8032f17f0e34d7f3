"""Driving the TUI in tests: made-up runs, keys, and what stands on the screen.

A test of behaviour gives ``drive`` a coroutine of steps::

    async def steps(app, pilot):
        await pilot.press("down", "enter")
        await settle(app, pilot)
        assert says(app, "step 12/24")

    drive(tmp_path, steps)                                       # from the list of runs
    drive(tmp_path, steps, (120, 34), screen=lambda: RunScreen(path))  # from a screen of one's own

A picture is compared with the one that lies in ``__snapshots__``; the fixture
``snap_compare`` is pytest-textual-snapshot's::

    def test_it_looks_so(tmp_path, snap_compare):
        still_run(tmp_path / "runs", "a", status="failed", age_s=90)
        assert pictured(snap_compare, tmp_path, steps, (120, 34))

``pytest --snapshot-update`` writes the pictures anew: look at each before it is
committed. So that they are the same on every machine, ``pictured`` goes into the
folder, shows the root as ``runs`` and stops the application's clock at ``NOW``;
runs of a picture come from ``still_run``, whose times, host and pid are fixed.
Code that shows an age must therefore take the time from ``app.clock()``.
"""

import asyncio
import contextlib
import json
from pathlib import Path

from readwrite_edit.runs.writer import RunWriter
from readwrite_edit.tui.app import RunsApp

MODULES = ("q_proj", "k_proj")
NOW = 1_750_000_000.0
SMALL, LARGE = (80, 24), (120, 34)


def geometry_rows(layers, fraction):
    return [
        {"layer": layer, "module": module, "read_fraction": fraction, "norm": 0.25, "read_isotropic_null": 0.028}
        for layer in range(layers)
        for module in MODULES
    ]


def make_run(root, name="20250101-000000-dpo", *, recipe="dpo_readonly", status="finished", layers=30):
    """A run by this process's own writer, locked while it has no end; its times are real."""
    run = RunWriter.start(root / name, recipe_text="", recipe_name=recipe, max_steps=24)
    run.log_metrics(11, {"loss": 0.69, "rewards/margins": 0.1})
    run.log_metrics(12, {"loss": 0.625, "rewards/margins": float("nan")})
    run.log_geometry(12, geometry_rows(layers, 0.57))
    run.heartbeat(12)
    if status:
        run.mark(status)
        run.close()
    return run


def still_run(root, name, *, losses=(), age_s=60.0, **state):
    """The files of a run whose times are fixed, so that a picture of it never changes; gives its folder back.

    A run of ``hostname`` "elsewhere" (the default) is taken at its word: running while its age is small, then silent.
    """
    path = root / name
    path.mkdir(parents=True)
    known = {
        "schema": 1, "status": "finished", "kind": "align", "recipe": "dpo_readonly", "step": len(losses),
        "max_steps": len(losses) or 24, "segment": 0, "segment_starts": [0], "started_s": NOW - 3600 - age_s,
        "heartbeat_s": NOW - age_s, "pid": 4242, "hostname": "elsewhere", "error": None,
    }  # fmt: skip
    (path / "state.json").write_text(json.dumps(known | state))
    (path / "recipe.yaml").write_text("kind: dpo_readonly\n")
    write_metrics(path, [{"loss": loss} for loss in losses])
    return path


def write_metrics(path, rows, kind="train"):
    """One line a row of values, by step from 1."""
    lines = [
        {"step": step, "segment": 0, "time": NOW, "kind": kind, "values": values} for step, values in enumerate(rows, 1)
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


async def settle(app, pilot):
    """Let the workers read, their messages arrive and the screen be drawn."""
    for _ in range(2):
        await app.workers.wait_for_complete()
        await pilot.pause()


def drive(root, steps, size=SMALL, *, screen=None, **options):
    """Open the application, run ``steps(app, pilot)`` on it, give back what they return.

    ``screen`` makes a screen to open over the list of runs; ``options`` go to the application.
    """

    async def session():
        app = RunsApp(root, **options)
        async with app.run_test(size=size) as pilot:
            await settle(app, pilot)
            if screen is not None:
                app.push_screen(screen())
                await settle(app, pilot)
            return await steps(app, pilot)

    return asyncio.run(session())


def pictured(snap_compare, folder, steps=None, size=SMALL, *, screen=None, **options):
    """Whether the application over ``folder``/runs looks as in the kept picture; see the module."""

    async def before(pilot):
        await settle(app, pilot)
        if screen is not None:
            app.push_screen(screen())
            await settle(app, pilot)
        if steps is not None:
            await steps(app, pilot)
            await settle(app, pilot)

    with contextlib.chdir(folder):
        app = RunsApp(Path("runs"), clock=lambda: NOW, **options)
        return snap_compare(app, terminal_size=size, run_before=before)


def shown(app):
    """What stands on the screen, line by line."""
    width = app.size.width
    return ["".join(segment.text for segment in strip)[:width] for strip in app.screen._compositor.render_strips()]


def says(app, text):
    return any(text in line for line in shown(app))


def notes(app):
    """The messages that popped up."""
    return [note.message for note in app._notifications]
