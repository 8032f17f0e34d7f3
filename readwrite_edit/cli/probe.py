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
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from readwrite_edit.cli.options import add_options
    from readwrite_edit.probe.settings import PROBES, settings_class

    kinds = parser.add_subparsers(dest="kind", metavar="PROBE", required=True)
    for kind in PROBES:
        settings = settings_class(kind)
        one = kinds.add_parser(kind, help=settings.HELP, description=f"Probe: {settings.HELP}.")
        add_options(one, settings)
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
    from readwrite_edit.queue.finding import find_run

    prepare_environment()
    from readwrite_edit.probe.job import resume_probe

    return _report(resume_probe(find_run(args.which, args.root)), args)


def _report(outcome: ProbeOutcome, args: argparse.Namespace) -> int:
    if outcome.result is None:
        return _INTERRUPTED if outcome.interrupted else 0
    from readwrite_edit.report.probe_text import as_text

    print(as_text(outcome.folder.path, outcome.result, form=args.format, verdict_only=args.verdict))
    return 0
