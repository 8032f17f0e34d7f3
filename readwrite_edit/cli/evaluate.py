"""``readwrite-edit evaluate``: what a run, an adapter or a model gained on preferences, and what it cost elsewhere."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

_FAILED = 3


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "evaluate",
        help="measure gain on preferences and cost on texts",
        description="Measure a run, an adapter or a model: held-out preferences, KL to the base and perplexity on "
        "texts in prose and in the chat format, answers, and the price that was predicted beside the KL that came.",
        epilog="Example: readwrite-edit evaluate last --protect wikitext2.valid.txt --tokens 1024",
    )
    parser.add_argument(
        "subject",
        metavar="MODEL_OR_RUN",
        help="a run (folder, name or 'last'), an adapter or model folder, a .gguf file, bundled:NAME or a Hub id",
    )
    parser.add_argument("--root", type=Path, default=Path("runs"), help="folder of runs (default: %(default)s)")
    parser.add_argument("--base", metavar="MODEL", help="what a model is compared with, or where an adapter's base is")
    _add_material(parser)
    _add_measuring(parser)
    parser.add_argument("--lm-eval", metavar="TASKS", help="tasks of lm-evaluation-harness, separated by commas")
    parser.add_argument("--lm-eval-limit", metavar="N", type=int, help="at most so many examples of each task")
    parser.add_argument("--lm-eval-include", metavar="DIR", type=Path, help="folder with further tasks (.yaml)")
    parser.add_argument(
        "--out", metavar="FILE", type=Path, help="file for the result (default: of a run, RUN/evaluations/<time>.json)"
    )
    parser.add_argument("--json", action="store_true", help="for programs: JSON instead of text")
    parser.set_defaults(run=run)


def _add_material(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", metavar="FILE", help="preference rows, all of them (default: of a run, its held-out rows)"
    )
    parser.add_argument("--max-length", metavar="N", type=int, help="tokens kept of a row (default: the run's, or 512)")
    parser.add_argument("--beta", metavar="B", type=float, help="β of the margins (default: the run's, or 0.1)")
    parser.add_argument(
        "--protect",
        metavar="TEXT",
        action="append",
        default=[],
        help="a text, PATH or NAME=PATH: builtin:NAME, .txt, .jsonl; rows with messages are read as chats; again for "
        "more (default: those of the run's recipe, or builtin:prose_eval and builtin:chat_eval)",
    )
    parser.add_argument(
        "--tokens", metavar="N", type=int, help="at most so many tokens of each text (default: the run's, or 2048)"
    )
    parser.add_argument(
        "--prompts",
        metavar="FILE",
        type=Path,
        help="prompts to answer, one a line (default: those of the run's recipe)",
    )
    parser.add_argument(
        "--max-new-tokens", metavar="N", type=int, help="longest answer; 0 writes none (default: the run's, or 48)"
    )


def _add_measuring(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ngram", metavar="N", type=int, default=4, help="n of the repeated n-grams (default: %(default)s)"
    )
    parser.add_argument(
        "--batch-size", metavar="N", type=int, default=8, help="rows or sequences in a pass (default: %(default)s)"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of the intervals (default: %(default)s)")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), help="where to compute (default: a GPU where there is one)"
    )
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), help="of the weights in memory (default: as recorded)"
    )


def run(args: argparse.Namespace) -> int:
    """Evaluate; exit code 0, or 3 where outputs are not numbers or the harness failed."""
    from readwrite_edit.cli.align import prepare_environment

    prepare_environment()
    from readwrite_edit.cli.evaluate_table import print_result
    from readwrite_edit.evaluate.job import evaluate
    from readwrite_edit.terminal import printable

    def say(sentence: str) -> None:
        print(printable(sentence), file=sys.stderr)

    command = shlex.join(["readwrite-edit", *sys.argv[1:]])
    outcome = evaluate(_request(args), out=args.out, command=command, say=say)
    if args.json:
        print(json.dumps(outcome.result, indent=2, ensure_ascii=False))
    else:
        print_result(outcome.result)
    for sentence in outcome.broken:
        say(f"readwrite-edit: {sentence}")
    if outcome.path is not None:
        say(f"written to {outcome.path}")
    if outcome.failure is not None:
        raise outcome.failure
    return _FAILED if outcome.broken else 0


def _request(args: argparse.Namespace) -> Any:
    from readwrite_edit.evaluate.request import Request

    same = ("subject", "root", "base", "data", "max_length", "beta", "tokens", "prompts", "max_new_tokens", "ngram")
    further = ("batch_size", "seed", "device", "dtype", "lm_eval_limit", "lm_eval_include")
    given = {name: getattr(args, name) for name in (*same, *further)}
    tasks = tuple(task.strip() for task in (args.lm_eval or "").split(",") if task.strip())
    return Request(**given, protect=tuple(args.protect), lm_eval=tasks)
