"""The runs and the figures of docs/evidence.md.

    python benchmarks/evidence_data.py HARMLESS DEMO WIKITEXT --to ROOT/data
    python benchmarks/evidence.py run --root ROOT        # hours; goes on where it was left
    python benchmarks/evidence.py figures --root ROOT --to docs/evidence   # CSV, pictures, and the page's tables

``run --only STAGE`` does one stage, ``--dry-run`` prints the grids and the time to go.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evidence_plot import plot
from evidence_tables import filled

from readwrite_edit.compare.selection import choose_values
from readwrite_edit.durable import write_text
from readwrite_edit.sweep.record import read_record

RECIPES = Path(__file__).resolve().parent / "evidence"
RATE = "train.learning_rate"
RATES = {
    "lora": "1e-3|3e-3",
    "contrastive": "3e-3|1e-2",
    "contrastive-wide": "1e-3|3e-3",
    "principal": "3e-4|1e-3",
    "gradient": "3e-4|1e-3",
    "random": "1e-3|3e-3",
    "minor": "1e-2|3e-2",
    "lora-all": "3e-4|1e-3",
}
ALL_LINEAR = "[q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj]"

ARMS = {
    "lora": "adapter.basis=lora",
    "contrastive": "adapter.basis=contrastive,adapter.contrastive.epsilon=1e-3",
    "contrastive-wide": "adapter.basis=contrastive,adapter.contrastive.epsilon=1e-1",
    "principal": "adapter.basis=principal",
    "gradient": "adapter.basis=gradient",
    "random": "adapter.basis=random",
    "minor": "adapter.basis=minor",
    "lora-all": f"adapter.basis=lora,adapter.modules={ALL_LINEAR}",
}
RIVALS = {
    "lora-kl1": ("lora", "penalty.kl=1"),
    "lora-kl10": ("lora", "penalty.kl=10"),
    "lora-fast": ("lora", f"{RATE}=1e-2"),  # the chosen rates of both are the highest that were tried
    "lora-all-fast": ("lora-all", f"{RATE}=3e-3"),
}
RANKED = {
    f"{arm}-r{rank}": (arm, f"adapter.rank={rank}")
    for arm in ("lora", "contrastive", "contrastive-wide")
    for rank in (4, 64)
}
PROSE_ALONE = "calibration.protect=[{path: data/prose_protect.txt, name: prose}]"
ENERGY = "adapter.rank=null,adapter.energy=0.82"  # about what rank 16 captures, mean over the layers: ranks of 1 to 43
OTHERWISE = {
    "contrastive-kl10": ("contrastive", "penalty.kl=10"),
    "lora-all-kl10": ("lora-all", "penalty.kl=10"),
    "contrastive-prose": ("contrastive", PROSE_ALONE),
    "contrastive-all": ("contrastive", f"adapter.modules={ALL_LINEAR},{RATE}=1e-3"),
    "contrastive-all-kl10": ("contrastive", f"penalty.kl=10,adapter.modules={ALL_LINEAR},{RATE}=1e-3"),
    "contrastive-v": ("contrastive", "adapter.modules=[q_proj,k_proj,v_proj]"),
    "contrastive-energy": ("contrastive", ENERGY),
    "principal-energy": ("principal", ENERGY),
    "contrastive-white": ("contrastive", "adapter.whiten=true"),
    "principal-white": ("principal", "adapter.whiten=true"),
    "contrastive-prose-all": ("contrastive", f"{PROSE_ALONE},adapter.modules={ALL_LINEAR},{RATE}=1e-3"),
}


@dataclass(frozen=True)
class Stage:
    """One sweep.

    Attributes:
        recipe: In benchmarks/evidence.
        arms: Name to overrides.
        chosen: Whether learning rates are given, those that stage ``concise`` chose, and not to be chosen here.
        settings: The same for all runs.
    """

    recipe: str
    arms: dict[str, tuple[str, str]]
    chosen: bool = True
    settings: tuple[str, ...] = ()


THEMSELVES = {arm: (arm, "") for arm in ARMS}
LONG = {arm: THEMSELVES[arm] for arm in ("lora", "contrastive")}
PENALISED = {arm: OTHERWISE[arm] for arm in ("lora-all-kl10", "contrastive-all-kl10")}
LONGER = ("train.max_steps=48", "train.eval_steps=16")
STAGES = {
    "concise": Stage("concise", THEMSELVES, chosen=False),
    "hh": Stage("hh", THEMSELVES),
    "demo": Stage("demo", THEMSELVES),
    "concise-rivals": Stage("concise", RIVALS),
    "concise-otherwise": Stage("concise", OTHERWISE),
    "hh-ranks": Stage("hh", RANKED),
    "demo-ranks": Stage("demo", RANKED),
    "hh-long": Stage("hh", LONG, settings=LONGER),
    "demo-long": Stage("demo", {**LONG, **PENALISED}, settings=LONGER),
}
COMPARISONS = {
    "concise": ("concise", "concise-rivals", "concise-otherwise"),
    "hh": ("hh", "hh-ranks"),
    "hh-long": ("hh-long",),
    "demo": ("demo", "demo-ranks"),
    "demo-long": ("demo-long",),
}


def main() -> int:
    """Run or draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    running, drawing = actions.add_parser("run"), actions.add_parser("figures")
    for action in (running, drawing):
        action.add_argument("--root", type=Path, required=True, help="folder of data/ and of the sweeps")
    running.add_argument("--only", choices=STAGES, action="append", help="a stage; again for more (default: all)")
    running.add_argument("--seeds", type=int, default=3)
    running.add_argument("--dry-run", action="store_true")
    drawing.add_argument("--to", type=Path, required=True, help="folder of the figures, beside FOLDER.md")
    args = parser.parse_args()
    if args.action == "run":
        return max(sweep(name, args.root, args.seeds, args.dry_run) for name in args.only or STAGES)
    failed = max(compare(name, args.root, args.to.resolve()) for name in COMPARISONS)
    if not failed:
        fill(args.to.with_suffix(".md"), args.to)
    return failed


def sweep(name: str, root: Path, seeds: int, dry_run: bool) -> int:
    """One stage: the command that users have for it."""
    stage = STAGES[name]
    options = [
        *(word for setting in stage.settings for word in ("--set", setting)),
        *("--seeds", str(seeds), "--dir", f"sweeps/{name}"),
        *(["--dry-run"] if dry_run else []),
    ]
    if stage.chosen:
        rates = chosen_rates(root / "sweeps" / "concise")
    else:
        rates = RATES
        options += ["--over", f"{RATE}={RATES['lora'].replace('|', ',')}", "--choose", RATE]
    for arm, (like, more) in stage.arms.items():
        rate = "" if RATE in more else f"{RATE}={rates[like]}"
        options += ["--arm", f"{arm}:{','.join(filter(None, (ARMS[like], more, rate)))}"]
    recipe = f"{stage.recipe}.yaml"
    shutil.copyfile(RECIPES / recipe, root / recipe)  # beside the data that it names
    return command(["sweep", "--recipe", recipe, *options], root)


def chosen_rates(folder: Path) -> dict[str, str]:
    """Arm to the learning rate that the sweep in a folder chose for it."""
    record = read_record(folder)
    labels = choose_values(folder, record) if record else {}
    if record is None or not labels:
        raise SystemExit(f"{folder}: the first seed's runs are not finished; run --only {folder.name} first")
    settings = {(run.arm, run.chosen): run.settings for run in record.runs.values()}
    return {
        arm: next(word.partition("=")[2] for word in settings[arm, label] if word.startswith(f"{RATE}="))
        for arm, label in labels.items()
    }


def compare(name: str, root: Path, folder: Path) -> int:
    """One comparison, of the stages that have been run."""
    there = [f"sweeps/{stage}" for stage in COMPARISONS[name] if (root / "sweeps" / stage / "sweep.json").exists()]
    if not there:
        return 0
    print(f"\n== {name}")
    failed = command(["compare", *there, "--baseline", "lora", "--full", "--out", str(folder / name)], root)
    if not failed:
        plot(folder / name, folder / f"{name}.svg")
    return failed


def fill(page: Path, folder: Path) -> None:
    """Write the page's tables anew."""
    write_text(page, filled(page.read_text(encoding="utf-8"), folder))


def command(argv: Sequence[str], root: Path) -> int:
    """Run the command line in the folder of the data."""
    return subprocess.run([sys.executable, "-P", "-m", "readwrite_edit.cli", *argv], cwd=root, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
