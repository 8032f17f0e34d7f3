"""Time of an edit, of a thousand facts at once and of the controls, beside a plain ROME, all in one run.

Run: python benchmarks/edit_speed.py FACTS.json [--rounds 5] [--many 1000] [--layer 12]

FACTS is a list of prompt, subject, target_new, ground_truth, rephrase_prompt and locality_prompt. The model is loaded
and the statistics are there before anything is timed; the layer is given.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from edit_facts import PREFIXES
from plain_rome import Request, rome
from turns import print_ratios, time_in_turn

from readwrite_edit.cli.align import prepare_environment
from readwrite_edit.edit.associate import plan_associate
from readwrite_edit.edit.context import Context
from readwrite_edit.edit.controls import compare
from readwrite_edit.edit.files import attach, detach
from readwrite_edit.edit.measure.prompts import prompts_table
from readwrite_edit.edit.settings import EditRecipe
from readwrite_edit.job.session import Session


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", default="bundled:smollm2-135m-instruct")
    parser.add_argument("--layer", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--many", type=int, default=1000, help="facts in one batch; 0 leaves it out")
    args = parser.parse_args()
    prepare_environment()
    facts = json.loads(args.file.read_text(encoding="utf-8"))
    first = Context(recipe(args, facts[:1]), Session())
    one_edit(first, args, facts)
    controls(first, args, facts)
    if args.many:
        many_facts(first, args, facts[: args.many])


def recipe(args: argparse.Namespace, facts: list[dict[str, Any]]) -> EditRecipe:
    """An edit of these facts at the given layer."""
    given = [
        {
            "prompt": fact["prompt"],
            "subject": fact["subject"],
            "target": " " + fact["target_new"],
            "paraphrases": [fact["rephrase_prompt"]],
            "locality": [fact["locality_prompt"]],
        }
        for fact in facts
    ]
    return EditRecipe.model_validate(
        {
            "model": {"path": args.model},
            "associate": {"facts": given, "layers": [args.layer], "prefixes": len(PREFIXES) - 1},
            "controls": {"count": 99, "others": 1},
            "ledger": {"enter": False},
        }
    )


def one_edit(first: Context, args: argparse.Namespace, facts: list[dict[str, Any]]) -> None:
    """One fact: ours beside ROME's gradient steps and inverse, both from statistics that are there."""
    projection = first.pathways.select(["down_proj"], [args.layer])[0]
    second_moment = first.metric(projection).second_moment
    module = first.model.get_submodule(projection.module)
    turn = iter(range(len(facts)))

    def ours() -> None:
        plan_associate(first.again(recipe(args, [facts[next(turn)]])))

    def plain() -> None:
        fact = facts[next(turn)]
        request = Request(fact["prompt"], fact["subject"], " " + fact["target_new"])
        rome(first.model, first.tokenizer, module, request, PREFIXES, torch.linalg.inv(second_moment))

    print(f"one fact, layer {args.layer} given, statistics there, no controls and no metrics")
    print_ratios(time_in_turn({"edit associate": ours, "plain ROME": plain}, args.rounds), "edit associate")


def controls(first: Context, args: argparse.Namespace, facts: list[dict[str, Any]]) -> None:
    """The controls of one edit, beside one evaluation of the same prompts through the stock adapter."""
    context = first.again(recipe(args, facts[:1]))
    plan = plan_associate(context)
    counted = {"edits": 0}

    def note(_done: int, total: int) -> None:
        counted["edits"] = total

    def ranked() -> None:
        compare(context, plan, advance=note)

    def evaluated() -> None:
        model = attach(context.model, plan.changes)
        prompts_table(model, context.tokenizer, plan.prompts)
        detach(model)

    seconds = time_in_turn({"one evaluation": evaluated, "all controls": ranked}, args.rounds)
    print(f"\n{len(plan.prompts)} prompts; {counted['edits']} control edits in all")
    print_ratios(seconds, "one evaluation")
    share = 99 / max(1, counted["edits"])
    ratios = [
        share * all_of / one for all_of, one in zip(seconds["all controls"], seconds["one evaluation"], strict=True)
    ]
    print(f"99 controls take {sorted(ratios)[len(ratios) // 2]:.1f} times one evaluation")


def many_facts(first: Context, args: argparse.Namespace, facts: list[dict[str, Any]]) -> None:
    """Many facts in one edit, and what a plain ROME of one of them would take times as many."""
    start = time.perf_counter()
    plan = plan_associate(first.again(recipe(args, facts)))
    seconds = time.perf_counter() - start
    rank = sum(change.update.A.shape[0] for change in plan.changes)
    print(f"\n{len(facts)} facts at once: {seconds:.1f} s, rank {rank}")


if __name__ == "__main__":
    main()
