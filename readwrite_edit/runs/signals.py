"""Ctrl-C, SIGTERM and a closed terminal as a request to save and end; a second one ends at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

HEEDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """What signals have asked for so far.

    Attributes:
        asked: Whether one arrived.
        number: Which one came last; None before.
        patient: Whether the first one only leaves a note (while steps are being
            taken), or raises KeyboardInterrupt at once (before and after).
    """

    def __init__(self) -> None:
        self.asked = False
        self.number: signal.Signals | None = None
        self.patient = False

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """The signal handler."""
        again, self.asked, self.number = self.asked, True, signal.Signals(number)
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
    """Handle the signals; the former handlers come back afterwards.

    A closed terminal stays ignored where it is ignored already (``nohup``).
    Outside the main thread no signal can be handled, and none is.
    """
    interruption = Interruption()
    before: dict[signal.Signals, Any] = {number: signal.signal(number, interruption.handle) for number in _heeded()}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _heeded() -> Iterator[signal.Signals]:
    if threading.current_thread() is threading.main_thread():
        ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        yield from (number for number in HEEDED if not (number == signal.SIGHUP and ignored))
