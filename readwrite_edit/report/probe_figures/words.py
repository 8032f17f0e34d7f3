"""Numbers of a probe's tables as cells."""

from __future__ import annotations

import math
from typing import Any

from readwrite_edit.report.figures_table import MISSING
from readwrite_edit.report.record import is_number


def figure(value: Any) -> str:
    """A number to three digits with a true minus sign; a dash for a missing one."""
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}") if is_number(value) else MISSING


def spanned(value: Any, low: Any, high: Any) -> str:
    """A number with its interval, where it has one."""
    known = is_number(low) and is_number(high) and not math.isnan(low + high)
    return unbroken(f"{figure(value)} ({figure(low)} to {figure(high)})") if known else figure(value)


def counted(part: Any, whole: Any) -> str:
    """So many of so many."""
    return unbroken(f"{figure(part)} of {figure(whole)}") if is_number(whole) else MISSING


def unbroken(text: str) -> str:
    """Text that stays on one line."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")
