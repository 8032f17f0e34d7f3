"""Timing things in turn: on a machine shared with others only a ratio means anything."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def time_in_turn(actions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Run every action once a round, in order, after one round that does not count.

    Args:
        actions: Name to what is timed.
        rounds: Rounds that count.

    Returns:
        Seconds of each action in each round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for counted in [False] + [True] * rounds:
        for name, action in actions.items():
            start = time.perf_counter()
            action()
            if counted:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def print_ratios(seconds: Mapping[str, list[float]], baseline: str) -> None:
    """Print the median of each action, and the median over rounds of its ratio to a baseline."""
    for name, times in seconds.items():
        ratios = [mine / base for mine, base in zip(times, seconds[baseline], strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(
            f"{name:<46} {statistics.median(times):8.2f} s   {statistics.median(ratios):6.2f} × {baseline} ({spread})"
        )
