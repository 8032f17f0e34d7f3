"""``readwrite-edit queue``: runs that wait for their turn, and the runner that takes them one by one."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from readwrite_edit.cli.table import print_table
from readwrite_edit.terminal import printable

if TYPE_CHECKING:
    from readwrite_edit.queue import Item

_PROGRAM = "readwrite-edit"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``queue`` with its actions."""
    parser = commands.add_parser("queue", help="let runs wait for their turn, one at a time per device")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    adding = _action(actions, "add", _add, "put an align, edit or probe command at the end of the queue")
    adding.add_argument("--name", default="", help="for people, and in the run's name (default: the recipe's)")
    adding.add_argument("--device", help="cpu, cuda:N or mps: what it occupies (default: the first GPU, else cpu)")
    adding.add_argument("--start", action="store_true", help="start a runner in the background where none works")
    adding.add_argument(
        "argv", nargs=argparse.REMAINDER, metavar="COMMAND", help="align …, edit … or probe … with its options, last"
    )
    _json(_action(actions, "ls", _list, "list what waits, runs and has ended"))
    running = _action(actions, "run", _run, "work on the queue until it is empty, and say what happens")
    running.add_argument("--detach", action="store_true", help="in the background; it goes on without this terminal")
    _action(actions, "pause", _pause, "let no further item begin; what runs goes on")
    _action(actions, "resume", _resume, "let items begin again; starts a runner in the background where none works")
    removing = _action(actions, "rm", _remove, "take items off the list; a waiting one does not begin any more")
    removing.add_argument("which", nargs="*", metavar="ITEM", help="its id, its number or its name")
    removing.add_argument("--ended", action="store_true", help="all that have ended")


def _action(actions: Any, name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument("--root", type=Path, default=Path("runs"), help="folder of runs (default: %(default)s)")
    parser.set_defaults(run=run)
    return parser


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs: JSON instead of text")


def _add(args: argparse.Namespace) -> int:
    from readwrite_edit.queue import add, ensure_runner, runner_alive

    argv = args.argv[args.argv[:1] == ["--"] :]
    argv = argv[argv[:1] == [_PROGRAM] :]
    _check(argv)
    item = add(args.root, argv, args.name, device=args.device)
    print(f"queued as {item.id} on {item.device}: {printable(str(item.run))}")
    if args.start:
        _started(ensure_runner(args.root))
    elif not runner_alive(args.root):
        print(f"no runner works on the queue: {_PROGRAM} queue run --root {printable(str(args.root))} starts one")
    return 0


def _check(argv: list[str]) -> None:
    """Refuse now what the command line or the recipe would refuse when its turn comes.

    Raises:
        ReadWriteEditError: The command makes no run, or its recipe is wrong.
    """
    from readwrite_edit.cli import build_parser
    from readwrite_edit.queue.adding import COMMANDS
    from readwrite_edit.runs.folder import FolderError

    if argv[:1] and argv[0] in COMMANDS:  # others are refused by the queue itself
        args = build_parser().parse_args(argv)
        makes = hasattr(args, "run_dir") or argv[:2] == ["probe", "resume"]
        if not makes or getattr(args, "dry_run", False):
            raise FolderError(f"{' '.join(argv[:3])} …: it makes no run to queue; run it directly")
        _check_recipe(args)


def _check_recipe(args: argparse.Namespace) -> None:
    recipe = getattr(args, "recipe", None)
    if recipe and args.command == "align":
        from readwrite_edit.recipe import load_recipe

        load_recipe(recipe, args.set)
    elif recipe and args.command == "edit":
        from readwrite_edit.edit.settings.reading import load_edit_recipe

        load_edit_recipe(recipe, args.set)


def _list(args: argparse.Namespace) -> int:
    from readwrite_edit.queue import is_paused, items
    from readwrite_edit.queue.runner import runner_pid

    found, pid, paused = items(args.root), runner_pid(args.root), is_paused(args.root)
    if args.json:
        print(json.dumps({"paused": paused, "runner_pid": pid, "items": list(map(_as_json, found))}, indent=2))
        return 0
    if found:
        print_table([("item", "state", "name", "device", "since", "run", ""), *map(_row, found)])
    else:
        print(f"nothing is queued under {printable(str(args.root))}")
    print(("paused; " if paused else "") + ("no runner works" if pid is None else f"runner: pid {pid}"))
    return 0


def _row(item: Item) -> tuple[str, ...]:
    from readwrite_edit.runs.wording import age_text

    since = item.ended_s or item.started_s or item.added_s
    age = age_text(max(0.0, time.time() - since))
    return item.id, item.state, item.name, item.device, age, item.run.name, item.reason


def _as_json(item: Item) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(item).items()}


def _run(args: argparse.Namespace) -> int:
    from readwrite_edit.queue import ensure_runner, items
    from readwrite_edit.queue.runner import run_queue

    if args.detach:
        _started(ensure_runner(args.root))
    elif all(item.ended for item in items(args.root)):
        print(f"nothing waits under {printable(str(args.root))}")
    else:
        run_queue(args.root, _say)
    return 0


def _say(text: str) -> None:
    print(printable(f"{time.strftime('%H:%M:%S')} {text}"), flush=True)


def _pause(args: argparse.Namespace) -> int:
    from readwrite_edit.queue import pause

    pause(args.root)
    print("paused: what runs goes on, nothing else begins")
    return 0


def _resume(args: argparse.Namespace) -> int:
    from readwrite_edit.queue import ensure_runner, items, resume

    resume(args.root)
    if all(item.ended for item in items(args.root)):
        print("not paused any more; nothing waits")
    else:
        _started(ensure_runner(args.root))
    return 0


def _started(launched: Any) -> None:
    if launched is None:
        print("a runner works on the queue")
    else:
        print(f"runner started as pid {launched.pid}; it says what it does in {printable(str(launched.log))}")


def _remove(args: argparse.Namespace) -> int:
    from readwrite_edit.errors import RecipeError
    from readwrite_edit.queue import forget, items
    from readwrite_edit.queue.store import find_item

    if bool(args.which) == args.ended:
        raise RecipeError("give either items to take off the list or --ended for all that have ended")
    ended = (item for item in items(args.root) if item.ended)
    for item in list(ended) if args.ended else [find_item(args.root, text) for text in args.which]:
        forget(args.root, item.id)
        print(f"took {item.id} {printable(item.name)} off the list")
    return 0
