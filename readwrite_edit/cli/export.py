"""``readwrite-edit export``: a run's adapter or merged model, in a folder and on the Hub."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from readwrite_edit.terminal import printable

if TYPE_CHECKING:
    from readwrite_edit.export import ExportedFile


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "export",
        help="write a finished run as files that stock tools load",
        description="Write the adapter of a finished run, or the merged model, with a model card; upload it if asked.",
    )
    parser.add_argument("which", metavar="RUN", help="a run's folder, its name, the beginning of it, or 'last'")
    parser.add_argument("--root", type=Path, default=Path("runs"), help="folder of runs (default: %(default)s)")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder to write, missing or empty")
    parser.add_argument("--merge", action="store_true", help="write the merged model instead of the adapter")
    parser.add_argument("--push", metavar="OWNER/NAME", help="upload the folder to this Hub repository")
    parser.add_argument("--private", action="store_true", help="with --push: make the repository private")
    parser.add_argument("--revision", metavar="BRANCH", help="with --push: commit to this branch")
    parser.add_argument("--force", action="store_true", help="replace an earlier export at DIR")
    parser.add_argument("--dry-run", action="store_true", help="check, list files and sizes, write nothing")
    parser.add_argument("--json", action="store_true", help="for programs: JSON instead of text")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Export, and push where asked; returns the exit code."""
    from readwrite_edit.cli.align import prepare_environment
    from readwrite_edit.errors import ExportError

    prepare_environment()
    from readwrite_edit.export import check_upload, export_run, planned_files, push
    from readwrite_edit.queue.finding import find_run

    if (args.private or args.revision) and not args.push:
        raise ExportError("--private and --revision belong to an upload: add --push OWNER/NAME")
    if args.push:
        check_upload(args.push)  # before a merge takes its minutes
    run_path = find_run(args.which, args.root)
    if args.dry_run:
        planned = planned_files(run_path, args.to, merge=args.merge, force=args.force)
        _report(args, planned, address=None)
        return 0
    written = export_run(run_path, args.to, merge=args.merge, force=args.force, repo_id=args.push)
    if not args.json:
        _list(written, f"written to {args.to}")
    address = push(args.to, args.push, private=args.private, revision=args.revision) if args.push else None
    _report(args, written, address)
    return 0


def _report(args: argparse.Namespace, files: Iterable[ExportedFile], address: str | None) -> None:
    """Say what was done, or would be; what is written was listed already, before the upload took its time."""
    if args.json:
        print(json.dumps(_as_json(args, files, address), indent=2))
    elif args.dry_run:
        _list(files, f"would write to {args.to}")
        if args.push:
            print(printable(f"would upload to {args.push}"))
    elif address is not None:
        print(printable(f"uploaded to {address}"))


def _as_json(args: argparse.Namespace, files: Iterable[ExportedFile], address: str | None) -> dict[str, Any]:
    return {
        "dry_run": args.dry_run,
        "to": str(args.to),
        "files": [asdict(file) for file in files],
        "push": args.push,
        "address": address,
    }


def _list(files: Iterable[ExportedFile], title: str) -> None:
    print(printable(title))
    for file in files:
        print(f"  {file.size_bytes:>14,} bytes  {printable(file.name)}{'  (estimated)' if file.estimated else ''}")
