"""Words that stand on more than one screen."""

from __future__ import annotations

from readwrite_edit.runs.wording import GLYPHS


def legend(settings: str) -> str:
    """What the signs mean, and where the user's keys are set.

    Args:
        settings: Path of the settings file, safe to show.
    """
    signs = "  ".join(f"{glyph} {status}" for status, glyph in GLYPHS.items())
    return (
        f"{signs}\n"
        "Silent: the run is on another host and gave no sign for two minutes. "
        "Broken: no run that this version can read. Ages count from a run's last sign.\n"
        f"Keys and theme are set in {settings}"
    )


def how_to_begin(new_key: str) -> str:
    """What to do where there are no runs yet.

    Args:
        new_key: The key that opens the form, as it stands on a keyboard.
    """
    return (
        f"Press {new_key} to fill in a recipe and start it, or in a shell:\n"
        "  readwrite-edit align --recipe dpo_readonly.yaml"
    )
