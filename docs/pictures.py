"""Draws the picture of the TUI in the README from a made-up run, so that anyone gets the same one.

Run: python docs/pictures.py [metrics|geometry]
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from textual.pilot import Pilot  # noqa: E402

from readwrite_edit.tui.app import RunsApp  # noqa: E402
from tests.finished_run import write_finished_run  # noqa: E402

PICTURE = REPOSITORY / "docs" / "images" / "tui.svg"
SIZE = (120, 34)
LAYERS = 22
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj")


def main() -> None:
    """Draw the picture."""
    pane = sys.argv[1] if len(sys.argv) > 1 else "geometry"
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # so that the screen shows a short path
        make_run(Path("runs") / "20260105-093000-dpo_lora")
        asyncio.run(draw(Path("runs"), pane))
        os.chdir(REPOSITORY)


def make_run(path: Path) -> None:
    """A finished run of plain LoRA, whose read fractions are not 1 by construction; it ended minutes ago."""
    write_finished_run(path, layers=LAYERS, modules=MODULES, resumed_at=None)
    state = json.loads((path / "state.json").read_text())
    state |= {"recipe": "dpo_lora", "heartbeat_s": time.time() - 330, "pid": 4711, "hostname": "workstation"}
    (path / "state.json").write_text(json.dumps(state))
    lines = [json.loads(line) for line in (path / "geometry.jsonl").read_text().splitlines()]
    made_up = [line | _fractions(line["layer"], line["module"]) for line in lines]
    (path / "geometry.jsonl").write_text("".join(json.dumps(line) + "\n" for line in made_up))


def _fractions(layer: int, module: str) -> dict[str, float | None]:
    """Nothing measured: numbers that show every colour."""
    read = 0.95 - 0.03 * layer - 0.12 * MODULES.index(module) + 0.1 * math.sin(layer)
    return {"read_fraction": max(0.02, read), "write_fraction": 0.04 if module == "o_proj" else None}


async def draw(root: Path, pane: str) -> None:
    """Open the run by its keys and save what the screen shows."""
    app = RunsApp(root)
    async with app.run_test(size=SIZE) as pilot:
        await _settle(app, pilot)
        await pilot.press("enter")
        await _settle(app, pilot)
        await pilot.press(pane[0])
        await _settle(app, pilot)
        app.save_screenshot(PICTURE.name, str(PICTURE.parent))


async def _settle(app: RunsApp, pilot: Pilot[None]) -> None:
    for _ in range(3):
        await app.workers.wait_for_complete()
        await pilot.pause()


if __name__ == "__main__":
    main()
