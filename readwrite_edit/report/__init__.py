"""What is shown of a run: the end table, the HTML report and the Hub's model card.

Nothing here imports torch. ``write_report`` needs matplotlib and jinja2, and
``model_card`` needs huggingface_hub; each loads its own when called.
"""

from __future__ import annotations

from pathlib import Path

from readwrite_edit.report.figures_table import summary_table

__all__ = ["model_card", "summary_table", "write_report"]


def write_report(run_path: Path) -> Path:
    """Write a run's ``report.html``; see ``report.page.write_report``."""
    from readwrite_edit.report.page import write_report as write

    return write(run_path)


def model_card(run_path: Path, *, repo_id: str | None = None, merged: bool = False) -> str:
    """Text of a run's ``README.md`` for the Hub; see ``report.card.model_card``."""
    from readwrite_edit.report.card import model_card as card

    return card(run_path, repo_id=repo_id, merged=merged)
