"""The screens that are opened from the list of runs; each is loaded when it is first opened."""

from __future__ import annotations

from collections.abc import Sequence

from readwrite_edit.tui.frame import WorkScreen
from readwrite_edit.tui.home.listing import RunRow


def run_screen(row: RunRow) -> WorkScreen:
    """One run."""
    from readwrite_edit.tui.run.run_screen import RunScreen

    return RunScreen(row.view.path)


def new_screen() -> WorkScreen:
    """The form of a recipe."""
    from readwrite_edit.tui.forms.new_screen import NewScreen

    return NewScreen()


def edit_screen(row: RunRow | None) -> WorkScreen:
    """The form of an edit: of a run's model, or as an edit was made."""
    from readwrite_edit.tui.forms.edit_screen import EditScreen

    has_model = row is not None and row.item is None and row.view.kind in ("align", "edit")
    return EditScreen(row.view.path) if row and has_model else EditScreen()


def compare_screen(rows: Sequence[RunRow]) -> WorkScreen:
    """Runs beside each other."""
    from readwrite_edit.tui.compare.screen import CompareScreen

    return CompareScreen([row.view.path for row in rows])


def export_screen(row: RunRow) -> WorkScreen:
    """The checklist of an export."""
    from readwrite_edit.tui.forms.export_screen import ExportScreen

    return ExportScreen(row.view.path)
