"""Ctrl-C, SIGTERM and a closed terminal as a request to save and end; a second one ends at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

HEEDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """What signals have asked for so far.

    Attributes:
        asked: Whether one arrived.
        patient: Whether the first one only leaves a note (while steps are being
            taken), or raises KeyboardInterrupt at once (before and after).
    """

    def __init__(self) -> None:
        self.asked = False
        self.patient = False

    def handle(self, _number: int, _frame: FrameType | None) -> None:
        """The signal handler."""
        again, self.asked = self.asked, True
        if again or not self.patient:
            raise KeyboardInterrupt

    @contextmanager
    def patiently(self) -> Iterator[None]:
        """Let a step finish before an interruption takes effect."""
        self.patient = True
        try:
            yield
        finally:
            self.patient = False


@contextmanager
def heeding_signals() -> Iterator[Interruption]:
    """Handle the signals in the main thread; the former handlers come back afterwards."""
    interruption = Interruption()
    before: dict[signal.Signals, Any] = {number: signal.signal(number, interruption.handle) for number in HEEDED}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
