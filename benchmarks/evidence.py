"""The runs and the figures of docs/evidence.md.

    python benchmarks/evidence_data.py HARMLESS DEMO WIKITEXT --to ROOT/data
    python benchmarks/evidence.py run --root ROOT        # hours; goes on where it was left
    python benchmarks/evidence.py figures --root ROOT --to docs/evidence

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

RECIPES = Path(__file__).resolve().parent / "evidence"
ALL_LINEAR = "adapter.modules=[q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj]"
RATES = "train.learning_rate=1e-3,3e-3"

ARMS = {
    "lora": "adapter.basis=lora",
    "contrastive": "adapter.basis=contrastive,adapter.contrastive.epsilon=1e-3",
    "contrastive-wide": "adapter.basis=contrastive,adapter.contrastive.epsilon=1e-1",
    "principal": "adapter.basis=principal",
    "gradient": "adapter.basis=gradient",
    "random": "adapter.basis=random",
    "minor": "adapter.basis=minor,train.learning_rate=3e-3|1e-2",
    "lora-all": f"adapter.basis=lora,{ALL_LINEAR},train.learning_rate=3e-4|1e-3",
}
HELD = {
    "lora-kl1": "adapter.basis=lora,penalty.kl=1",
    "lora-kl10": "adapter.basis=lora,penalty.kl=10",
    "lora-price": "adapter.basis=lora,penalty.price=100",
}
RANKED = {
    f"{arm}-r{rank}": f"{ARMS[arm]},adapter.rank={rank}"
    for arm in ("lora", "contrastive", "contrastive-wide")
    for rank in (4, 64)
}
WIDER = {
    "contrastive-qkv": f"{ARMS['contrastive']},adapter.modules=[q_proj,k_proj,v_proj]",
    "contrastive-mlp": f"{ARMS['contrastive']},adapter.modules=[q_proj,k_proj,gate_proj,up_proj]",
    "lora-qkv": f"{ARMS['lora']},adapter.modules=[q_proj,k_proj,v_proj]",
}


@dataclass(frozen=True)
class Stage:
    """One sweep.

    Attributes:
        recipe: In benchmarks/evidence.
        arms: Name to overrides.
        settings: The same for all runs.
    """

    recipe: str
    arms: dict[str, str]
    settings: tuple[str, ...] = ()


STAGES = {
    "hh": Stage("hh", ARMS),
    "demo": Stage("demo", ARMS),
    "hh-held": Stage("hh", HELD),
    "hh-ranks": Stage("hh", RANKED),
    "demo-ranks": Stage("demo", RANKED),
    "hh-wider": Stage("hh", WIDER),
    "hh-long": Stage(
        "hh", {arm: ARMS[arm] for arm in ("lora", "contrastive")}, ("train.max_steps=60", "train.eval_steps=15")
    ),
}
COMPARISONS = {
    "hh": ("hh", "hh-held", "hh-wider"),
    "demo": ("demo",),
    "hh-ranks": ("hh", "hh-ranks"),
    "demo-ranks": ("demo", "demo-ranks"),
    "hh-long": ("hh-long",),
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
    drawing.add_argument("--to", type=Path, required=True, help="folder for a CSV and a page a comparison")
    args = parser.parse_args()
    if args.action == "run":
        return max(sweep(name, args.root, args.seeds, args.dry_run) for name in args.only or STAGES)
    return max((compare(name, args.root, args.to.resolve()) for name in COMPARISONS), default=0)


def sweep(name: str, root: Path, seeds: int, dry_run: bool) -> int:
    """One stage: the command that users have for it."""
    stage = STAGES[name]
    options = [
        *(word for setting in stage.settings for word in ("--set", setting)),
        *(word for arm, overrides in stage.arms.items() for word in ("--arm", f"{arm}:{overrides}")),
        *("--over", RATES, "--choose", "train.learning_rate", "--seeds", str(seeds), "--dir", f"sweeps/{name}"),
        *(["--dry-run"] if dry_run else []),
    ]
    recipe = f"{stage.recipe}.yaml"
    shutil.copyfile(RECIPES / recipe, root / recipe)  # beside the data that it names
    return command(["sweep", "--recipe", recipe, *options], root)


def compare(name: str, root: Path, folder: Path) -> int:
    """One comparison, of the stages that have been run."""
    there = [f"sweeps/{stage}" for stage in COMPARISONS[name] if (root / "sweeps" / stage / "sweep.json").exists()]
    if not there:
        return 0
    print(f"\n== {name}")
    return command(["compare", *there, "--baseline", "lora", "--out", str(folder / name)], root)


def command(argv: Sequence[str], root: Path) -> int:
    """Run the command line in the folder of the data."""
    return subprocess.run([sys.executable, "-P", "-m", "readwrite_edit.cli", *argv], cwd=root, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
