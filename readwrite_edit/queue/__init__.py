"""Runs that wait for their turn: a queue in each folder of runs, and a runner that outlives whoever started it.

``<root>/.queue`` holds one file per item (``store``); ``runner`` takes them in
the order in which they were added, one at a time per device (``device``).
Standard library only.
"""

from readwrite_edit.queue.adding import add
from readwrite_edit.queue.items import Item
from readwrite_edit.queue.listing import list_all, with_queued
from readwrite_edit.queue.runner import ensure_runner, runner_alive
from readwrite_edit.queue.store import forget, is_paused, items, pause, resume

__all__ = [
    "Item",
    "add",
    "ensure_runner",
    "forget",
    "is_paused",
    "items",
    "list_all",
    "pause",
    "resume",
    "runner_alive",
    "with_queued",
]
