"""``readwrite-edit export``: a run's adapter or merged model, in a folder and on the Hub."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

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
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Export, and push where asked; returns the exit code."""
    from readwrite_edit.errors import ExportError
    from readwrite_edit.export import check_upload, export_run, planned_files, push
    from readwrite_edit.runs.reader import resolve_run

    if (args.private or args.revision) and not args.push:
        raise ExportError("--private and --revision belong to an upload: add --push OWNER/NAME")
    if args.push:
        check_upload(args.push)  # before a merge takes its minutes
    run_path = resolve_run(args.which, args.root)
    if args.dry_run:
        _list(planned_files(run_path, args.to, merge=args.merge, force=args.force), f"would write to {args.to}")
        if args.push:
            print(f"would upload to {args.push}")
        return 0
    written = export_run(run_path, args.to, merge=args.merge, force=args.force, repo_id=args.push)
    _list(written, f"written to {args.to}")
    if args.push:
        print(f"uploaded to {push(args.to, args.push, private=args.private, revision=args.revision)}")
    return 0


def _list(files: Iterable[ExportedFile], title: str) -> None:
    print(printable(title))
    for file in files:
        print(f"  {file.size_bytes:>14,} bytes  {printable(file.name)}{'  (estimated)' if file.estimated else ''}")
