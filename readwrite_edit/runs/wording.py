"""How a run's figures read, in a table of the command line as in the TUI."""

from __future__ import annotations

import math

_MOST_DAYS = 9999
GLYPHS = {
    "queued": "·",
    "running": "▶",
    "stopping": "▷",
    "stopped": "■",
    "finished": "✓",
    "failed": "✗",
    "silent": "?",
    "broken": "!",
}


def age_text(age_s: float | None) -> str:
    """A span of time in its largest unit: ``42 s``, ``12 min``, ``3 h``, ``5 d``, ``9999+ d``; a dash where unknown."""
    if age_s is None:
        return "–"
    if age_s >= _MOST_DAYS * 86400:
        return f"{_MOST_DAYS}+ d"
    for unit, length_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if age_s >= length_s:
            return f"{int(age_s // length_s)} {unit}"
    return f"{int(age_s)} s"


def sign_text(age_s: float | None, ahead_s: float) -> str:
    """When a run gave its last sign: ``3 min ago``, or by how much its clock is ahead of this one."""
    return f"in the future (clock ahead by {age_text(ahead_s)})" if ahead_s else f"{age_text(age_s)} ago"


def step_text(step: int, max_steps: int | None) -> str:
    """``12/24``, or ``12`` where the end is not known."""
    return str(step) if max_steps is None else f"{step}/{max_steps}"


def number_text(value: object) -> str:
    """A JSON value as a figure of four digits; a dash for what is missing, ``nan`` for what was not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–"
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    return f"{value:.4g}"
