"""``readwrite-edit probe``: measure the geometry of deltas, activations and gradients.

The options of each probe are the fields of its settings class, read when the
command is used, so that other commands do not pay for them.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from datetime import datetime
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from readwrite_edit.probe.job import ProbeOutcome

_INTERRUPTED = 130
_FORMATS = ("table", "json", "csv")


def add_parser(commands: Any) -> None:
    """Add ``probe`` with its kinds and ``probe resume``."""
    parser = commands.add_parser(
        "probe",
        help="measure where deltas, activations and gradients lie, against fair nulls",
        description="Measure the geometry of deltas, activations and gradients against fair nulls.",
    )
    parser.fill = _fill


def _fill(parser: argparse.ArgumentParser) -> None:
    """Add the kinds of probes; called when the command is used."""
    from readwrite_edit.probe.settings import PROBES, settings_class

    kinds = parser.add_subparsers(dest="kind", metavar="PROBE", required=True)
    for kind in PROBES:
        settings = settings_class(kind)
        one = kinds.add_parser(kind, help=settings.HELP, description=f"Probe: {settings.HELP}.")
        for name, field in settings.model_fields.items():
            _add_option(one, name, field)
        one.add_argument("--run-dir", metavar="DIR", type=Path, help="run folder (default: runs/<time>-probe-<kind>)")
        _add_format(one)
        one.set_defaults(run=_start)
    again = kinds.add_parser("resume", help="go on with a stopped or killed probe")
    again.add_argument("which", metavar="RUN", help="its folder, its name, the beginning of it, or 'last'")
    again.add_argument("--root", type=Path, default=Path("runs"), help="folder of runs (default: %(default)s)")
    _add_format(again)
    again.set_defaults(run=_resume)


def _add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=_FORMATS, default="table", help="of the result (default: %(default)s)")
    parser.add_argument("--verdict", action="store_true", help="print the verdict's line and nothing else")


def _add_option(parser: argparse.ArgumentParser, name: str, field: FieldInfo) -> None:
    """One field as an option or a positional argument."""
    inner, many = _plain_type(field.annotation)
    default = "" if field.default is None or field.is_required() else f" (default: {_shown(field.default)})"
    help_text = f"{field.description}{default}".replace("%", "%%")
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    if extra.get("positional"):
        count: Any = {(True, True): "+", (True, False): "*", (False, False): "?"}.get((many, field.is_required()))
        parser.add_argument(name, metavar=name.upper(), nargs=count, help=help_text)
        return
    flag = f"--{name.replace('_', '-')}"
    if inner is bool:
        parser.add_argument(flag, dest=name, action=argparse.BooleanOptionalAction, default=None, help=help_text)
        return
    choices = get_args(inner) if get_origin(inner) is Literal else None
    read = str if choices else inner
    convert = (lambda text: [read(part) for part in text.split(",")]) if many else read
    if many:
        convert.__name__ = f"list of {read.__name__}"
    metavar = "LIST" if many else None if choices else name.upper().rpartition("_")[2]
    parser.add_argument(
        flag, dest=name, type=convert, choices=None if many else choices, metavar=metavar, help=help_text
    )


def _shown(default: Any) -> str:
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _plain_type(annotation: Any) -> tuple[Any, bool]:
    """The type of one value, and whether several are taken."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _plain_type(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return _plain_type(next(item for item in get_args(annotation) if item is not NoneType))
    if origin is tuple:
        return _plain_type(get_args(annotation)[0])[0], True
    return annotation, False


def _start(args: argparse.Namespace) -> int:
    from readwrite_edit.cli.align import prepare_environment
    from readwrite_edit.probe.settings import settings_class
    from readwrite_edit.runs.folder import new_run_path

    chosen = settings_class(args.kind)
    settings = chosen.checked({name: getattr(args, name) for name in chosen.model_fields})
    prepare_environment()
    from readwrite_edit.probe.job import start_probe

    path = args.run_dir or new_run_path(Path("runs"), f"probe-{args.kind}", datetime.now())
    command = shlex.join(["readwrite-edit", *sys.argv[1:]])
    return _report(start_probe(settings, path, command), args)


def _resume(args: argparse.Namespace) -> int:
    from readwrite_edit.cli.align import prepare_environment
    from readwrite_edit.runs.reader import resolve_run

    prepare_environment()
    from readwrite_edit.probe.job import resume_probe

    return _report(resume_probe(resolve_run(args.which, args.root)), args)


def _report(outcome: ProbeOutcome, args: argparse.Namespace) -> int:
    if outcome.result is None:
        return _INTERRUPTED if outcome.interrupted else 0
    from readwrite_edit.report.probe_text import as_text

    print(as_text(outcome.folder.path, outcome.result, form=args.format, verdict_only=args.verdict))
    return 0
