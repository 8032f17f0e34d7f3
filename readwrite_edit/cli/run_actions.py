"""``readwrite-edit runs compare | resume | rm | note``, and ``stop`` with a signal."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from readwrite_edit.cli.table import print_table
from readwrite_edit.terminal import printable

if TYPE_CHECKING:
    from readwrite_edit.runs.comparison import Comparison, Row

_WHICH = "a run's folder, its name, the beginning of it, or 'last'"
_NONE = "–"


def add_actions(actions: Any) -> None:
    """Add the actions to ``runs``."""
    comparing = _action(actions, "compare", _compare, "compare two to four runs: recipes, figures, geometry")
    comparing.add_argument("which", nargs="+", metavar="RUN", help=_WHICH)
    comparing.add_argument("--json", action="store_true", help="for programs: JSON instead of text")
    resuming = _action(actions, "resume", _resume, "go on with a stopped or killed run")
    resuming.add_argument("which", metavar="RUN", help=_WHICH)
    resuming.add_argument("--detach", action="store_true", help="in the background; it goes on without this terminal")
    removing = _action(actions, "rm", _remove, "delete runs that are not living, for good")
    removing.add_argument("which", nargs="+", metavar="RUN", help="a run's folder, or its whole name")
    removing.add_argument("--yes", action="store_true", help="do not ask")
    noting = _action(actions, "note", _note, "show the note and tags on a run, or write them")
    noting.add_argument("which", metavar="RUN", help=_WHICH)
    noting.add_argument("text", nargs="?", help="the note; '' takes it away")
    noting.add_argument("--tag", action="append", default=[], metavar="TAG", help="add a tag")
    noting.add_argument("--untag", action="append", default=[], metavar="TAG", help="take a tag away")
    noting.add_argument("--json", action="store_true", help="for programs: JSON instead of text")


def add_signals(parser: argparse.ArgumentParser) -> None:
    """Add to ``runs stop`` what does not wait for the run."""
    stronger = parser.add_mutually_exclusive_group()
    stronger.add_argument("--terminate", action="store_true", help="also send SIGTERM to its process group")
    stronger.add_argument("--kill", action="store_true", help="also send SIGKILL: it ends at once and saves nothing")


def send_signal(path: Path, args: argparse.Namespace) -> None:
    """Send what ``--terminate`` or ``--kill`` asks for, if anything.

    Raises:
        FolderError: It is not sure whose process would get it.
    """
    from readwrite_edit.runs.termination import kill, terminate

    if args.kill or args.terminate:
        print((kill if args.kill else terminate)(path))


def _action(actions: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument("--root", type=Path, default=Path("runs"), help="folder of runs (default: %(default)s)")
    parser.set_defaults(run=run)
    return parser


def _compare(args: argparse.Namespace) -> int:
    from readwrite_edit.queue.finding import find_run
    from readwrite_edit.runs.comparison import compare

    found = compare([find_run(text, args.root) for text in args.which])
    if args.json:
        print(json.dumps(_comparison_json(found), indent=2))
    else:
        _print_comparison(found)
    return 0


def _print_comparison(found: Comparison) -> None:
    heads = [f"run {number}" for number in range(1, len(found.views) + 1)]
    for head, view in zip(heads, found.views, strict=True):
        print(f"{head}: {printable(view.name)}, {view.kind}, {view.status}")
    for position, sentences in found.unread.items():
        for sentence in sentences:
            print(f"{heads[position]}: {printable(sentence)}")
    _section("recipe, where it differs", heads, _cells(found.recipe, heads, _value_text))
    _section("last figures", heads, _cells(found.metrics, heads, _figure_text))
    _section("before", heads, _cells(found.before, heads, _figure_text))
    _section("at the end", heads, _cells(found.after, heads, _figure_text))
    geometry = ((_geometry_name(row), _texts(row.means, heads, _figure_text)) for row in found.geometry)
    _section("geometry, means", heads, geometry)


def _section(title: str, heads: Sequence[str], rows: Iterable[tuple[str, tuple[str, ...]]]) -> None:
    table = [(name, *texts) for name, texts in rows]
    if table:
        print()
        print_table([(title, *heads), *table])


def _cells(rows: Iterable[Row], heads: Sequence[str], text: Any) -> Iterable[tuple[str, tuple[str, ...]]]:
    return ((row.name, _texts(row.values, heads, text)) for row in rows)


def _texts(values: Any, heads: Sequence[str], text: Any) -> tuple[str, ...]:
    return tuple(text(values[at]) if at in values else _NONE for at in range(len(heads)))


def _geometry_name(row: Any) -> str:
    return f"{row.measure.title}, {row.module or 'all'}"


def _value_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _figure_text(value: Any) -> str:
    from readwrite_edit.runs.wording import number_text

    return number_text(value)


def _comparison_json(found: Comparison) -> dict[str, Any]:
    def by_run(values: Any) -> list[Any]:
        return [values.get(at) for at in range(len(found.views))]

    def tables(rows: Iterable[Row]) -> dict[str, list[Any]]:
        return {row.name: by_run(row.values) for row in rows}

    return {
        "runs": [{**asdict(view), "name": view.name, "path": str(view.path)} for view in found.views],
        "recipe": tables(found.recipe),
        "unread": by_run(found.unread),
        "last": tables(found.metrics),
        "before": tables(found.before),
        "after": tables(found.after),
        "geometry": [
            {"module": row.module or None, "quantity": row.measure.name, "means": by_run(row.means)}
            for row in found.geometry
        ],
    }


def _resume(args: argparse.Namespace) -> int:
    from readwrite_edit.cli import build_parser
    from readwrite_edit.queue.finding import find_run
    from readwrite_edit.runs.launching import launch
    from readwrite_edit.runs.resuming import resume_argv

    path = find_run(args.which, args.root)
    argv = resume_argv(path)
    if args.detach:
        launched = launch(argv, root=args.root, name=f"resume-{path.name}")
        print(f"started as pid {launched.pid}; it prints to {printable(str(launched.log))}")
        return 0
    again = build_parser().parse_args(argv)
    code: int = again.run(again)
    return code


def _remove(args: argparse.Namespace) -> int:
    from readwrite_edit.runs.removal import remove

    paths = [_exactly(text, args.root) for text in args.which]
    if not args.yes and not _confirmed(paths):
        print("nothing is deleted")
        return 0
    for path in paths:
        remove(path)
        print(f"deleted {printable(str(path))}")
    return 0


def _exactly(text: str, root: Path) -> Path:
    """The run of a name or path; what is to be deleted is not guessed from a beginning."""
    from readwrite_edit.queue.finding import find_run
    from readwrite_edit.runs.folder import FolderError

    path = root / text if (root / text).is_dir() else Path(text)
    if not path.is_dir():  # a folder of that very name comes before the alias
        path = find_run(text, root)
        if text == "last":
            return path
    if path.name != Path(text).name:
        raise FolderError(f"no run {text!r} under {root}: expected its folder or its whole name")
    return path


def _confirmed(paths: Sequence[Path]) -> bool:
    """Ask on a terminal.

    Raises:
        FolderError: There is nobody to ask.
    """
    import sys

    from readwrite_edit.runs.folder import FolderError

    if not sys.stdin.isatty():
        raise FolderError("deleting runs from a script takes --yes")
    for path in paths:
        print(printable(str(path)))
    return input(f"delete {'this run' if len(paths) == 1 else f'these {len(paths)} runs'} for good? [y/N] ") == "y"


def _note(args: argparse.Namespace) -> int:
    from readwrite_edit.queue.finding import find_run
    from readwrite_edit.runs.notes import Note, read_note, write_note

    path = find_run(args.which, args.root)
    root, name = path.absolute().parent, path.absolute().name
    note = read_note(root, name)
    if args.text is not None or args.tag or args.untag:
        tags = tuple(tag for tag in (*note.tags, *args.tag) if tag not in args.untag)
        write_note(root, name, Note(note.text if args.text is None else args.text, tags))
        note = read_note(root, name)
    if args.json:
        print(json.dumps({"run": name, **asdict(note)}, indent=2))
    else:
        print(f"tags {printable(' '.join(f'[{tag}]' for tag in note.tags)) or _NONE}")
        print(printable(note.text, keep_newlines=True) or _NONE)
    return 0
