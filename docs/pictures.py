"""Draws pictures of the TUI: one run, its geometry, one of its matrices, two runs side by side.

Run: python docs/pictures.py [ROOT] [--run NAME] [--other NAME] [--out docs/images] [--png]

Without ROOT the runs are made up, so that anyone gets the same pictures.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from textual.pilot import Pilot  # noqa: E402
from textual.screen import Screen  # noqa: E402

from readwrite_edit.runs.reader import RunView, list_runs  # noqa: E402
from readwrite_edit.tui.app import RunsApp  # noqa: E402
from readwrite_edit.tui.compare.screen import CompareScreen  # noqa: E402
from readwrite_edit.tui.run.run_screen import RunScreen  # noqa: E402

SIZE = (120, 34)
AGE_S = 330.0
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LAYERS = 30
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj")
MADE_UP = {"20260105-093000-dpo_lora": 0.6, "20260105-101500-dpo_readonly": 1.0}


def main() -> None:
    """Draw all pictures."""
    args = _parser().parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with _root(args.root) as root:
        run = _chosen(root, args.run)
        other = _chosen(root, args.other, besides=run.name)
        # From within its parent, so that the screens show a short path.
        with contextlib.chdir(root.parent):
            pictures = asyncio.run(draw(Path(root.name), run, other))
    for name, picture in pictures.items():
        path = args.out / f"{name}.svg"
        path.write_text(picture, encoding="utf-8")
        print(path)
        if args.png:
            print(as_png(path))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", type=Path, metavar="ROOT", help="folder of runs; made-up ones by default")
    parser.add_argument("--run", help="run to open (default: the newest finished one with a geometry)")
    parser.add_argument("--other", help="run to compare it with (default: the next such one)")
    parser.add_argument("--out", type=lambda text: Path(text).resolve(), default=REPOSITORY / "docs" / "images")
    parser.add_argument("--png", action="store_true", help="write PNG files too; needs chromium")
    return parser


async def draw(root: Path, run: RunView, other: RunView) -> dict[str, str]:
    """Open the screens by their keys; SVG by name.

    Args:
        root: Folder of the runs.
        run: To be opened.
        other: To be compared with it.
    """
    # Ages are counted to a moment soon after the run, so that a picture of an old run looks as of today.
    app = RunsApp(root, clock=lambda: _ended_s(run) + AGE_S)
    paths = [root / view.name for view in (other, run)]
    pictures = {}
    async with app.run_test(size=SIZE) as pilot:
        await _open(app, pilot, RunScreen(paths[1]))
        pictures["run"] = app.export_screenshot()
        await _press(app, pilot, "g", *["right"] * 9)
        pictures["geometry"] = app.export_screenshot()
        await _press(app, pilot, "enter")
        pictures["matrix"] = app.export_screenshot()
        await _open(app, pilot, CompareScreen(paths))
        pictures["compare"] = app.export_screenshot()
        await _press(app, pilot, "g")
        pictures["compare-geometry"] = app.export_screenshot()
    return pictures


async def _open(app: RunsApp, pilot: Pilot[None], screen: Screen[None]) -> None:
    app.push_screen(screen)
    await _press(app, pilot)


async def _press(app: RunsApp, pilot: Pilot[None], *keys: str) -> None:
    """Press keys, then wait until nothing is being read or drawn."""
    for key in keys:
        await pilot.press(key)
    for _ in range(5):
        await app.workers.wait_for_complete()
        await pilot.pause()


def as_png(picture: Path) -> Path:
    """The same picture in pixels, twice as dense.

    Raises:
        SystemExit: There is no browser to draw it.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit(f"--png: none of {', '.join(BROWSERS)} is installed")
    _, _, width, height = ElementTree.parse(picture).getroot().attrib["viewBox"].split()
    target = picture.with_suffix(".png")
    with tempfile.TemporaryDirectory() as profile:
        # A page around the picture: alone it would be drawn at the size of the window.
        page = Path(profile) / "page.html"
        page.write_text(f'<body style="margin:0"><img src="{picture.as_uri()}" width="{width}" height="{height}">')
        options = [
            "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--allow-file-access-from-files",
            "--force-device-scale-factor=2", "--default-background-color=00000000", f"--user-data-dir={profile}",
            f"--window-size={math.ceil(float(width))},{math.ceil(float(height))}", f"--screenshot={target}",
        ]  # fmt: skip
        subprocess.run([browser, *options, page.as_uri()], check=True, capture_output=True)
    return target


# ---- the runs


@contextlib.contextmanager
def _root(given: Path | None) -> Iterator[Path]:
    """The folder that was given, or one with made-up runs."""
    if given is not None:
        yield given.resolve()
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "runs"
        for name, level in MADE_UP.items():
            make_run(root / name, level)
        yield root


def _chosen(root: Path, name: str | None, *, besides: str | None = None) -> RunView:
    """A run by its name; else the newest finished alignment, or of the second one the next, that has a geometry."""
    views = [view for view in list_runs(root) if _has_geometry(view)]
    named = [view for view in views if view.name == name]
    finished = [view for view in views if view.kind == "align" and view.status == "finished"]
    rest = [view for view in finished if view.name != besides]
    found = named if name else rest[:1] if besides else finished[:1]
    if not found:
        raise SystemExit(f"{root}: no {'run ' + name if name else 'finished alignment'} with a geometry")
    return found[0]


def _has_geometry(view: RunView) -> bool:
    path = view.path / "geometry.jsonl"
    return path.is_file() and path.stat().st_size > 0


def _ended_s(run: RunView) -> float:
    return float(json.loads((run.path / "state.json").read_text())["heartbeat_s"])


def make_run(path: Path, level: float) -> None:
    """A finished run whose fractions show every colour."""
    from tests.finished_run import write_finished_run

    write_finished_run(path, layers=LAYERS, modules=MODULES, resumed_at=None)
    state = json.loads((path / "state.json").read_text())
    state |= {"recipe": path.name.rpartition("-")[2], "pid": 4711, "hostname": "workstation"}
    (path / "state.json").write_text(json.dumps(state))
    lines = [json.loads(line) for line in (path / "geometry.jsonl").read_text().splitlines()]
    made_up = [line | _fractions(line["layer"], line["module"], level) for line in lines]
    (path / "geometry.jsonl").write_text("".join(json.dumps(line) + "\n" for line in made_up))


def _fractions(layer: int, module: str, level: float) -> dict[str, object]:
    """Nothing measured: numbers that look like those of an update."""
    peak = 0.92 - 0.12 * MODULES.index(module) - 0.5 * abs(layer / LAYERS - 0.3) + 0.06 * math.sin(1.7 * layer)
    read = max(0.03, level * peak)
    ks = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 576]
    return {
        "read_fraction": read,
        "write_fraction": 0.04 if module == "o_proj" else None,
        "read_curve_k": ks,
        "read_curve": [read * (k / 16) ** 0.55 if k <= 16 else 1 - (1 - read) * (576 - k) / 560 for k in ks],
        "read_energy_curve": [1 - 0.62 * math.exp(-0.5 * math.log2(k)) * (576 - k) / 575 for k in ks],
        "singular_values": [0.08 * math.exp(-0.35 * place) for place in range(16)],
        "head_norms": [0.03 * (1 + 0.5 * math.sin(2.3 * head + layer)) for head in range(9)],
    }


if __name__ == "__main__":
    main()
