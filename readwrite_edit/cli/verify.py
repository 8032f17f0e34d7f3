"""``readwrite-edit verify``: check an adapter's certificate again, in a fresh process."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "verify",
        help="check an adapter's certificate",
        description="Reload an adapter with stock transformers and peft in a fresh process and check its certificate.",
    )
    parser.add_argument("adapter", metavar="ADAPTER", type=Path, help="an adapter folder or a run folder")
    parser.add_argument("--base", metavar="MODEL", help="where the base model is, if not where the adapter says")
    parser.add_argument("--exact", action="store_true", help="demand logits equal bit for bit, as where it was trained")
    parser.add_argument("--json", action="store_true", help="print the certificate as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the certificate; exit code 0 where it holds, 3 where it does not."""
    from readwrite_edit.adapter.verify import verify_adapter
    from readwrite_edit.terminal import printable

    certificate = verify_adapter(args.adapter, base=args.base, exact=args.exact)
    if args.json:
        print(json.dumps(certificate.as_dict(), indent=2, ensure_ascii=False))
    else:
        for check in certificate.checks:
            print(f"{'pass' if check.passed else 'FAIL'}  {check.name}: {printable(check.detail)}")
        print("the certificate holds" if certificate.passed else "the certificate does not hold")
    return 0 if certificate.passed else 3
