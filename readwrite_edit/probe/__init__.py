"""Probes: the geometry of deltas, activations and gradients, against fair nulls.

Each probe is a module named by its kind, with ``prepare(settings)``, which
checks all that can be checked and returns what measures, and a function for
Python that returns data frames. ``job`` makes a run of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_KINDS = ("delta", "activations", "gradients", "trajectory", "contrast", "causal", "sensitivity")

__all__ = [
    "Result",
    *(f"probe_{kind}" for kind in _KINDS),
]


def __getattr__(name: str) -> Any:
    if name == "Result":
        return import_module("readwrite_edit.job.result").Result
    if name in __all__:
        return getattr(import_module(f"readwrite_edit.probe.{name.removeprefix('probe_')}"), name)
    raise AttributeError(f"module 'readwrite_edit.probe' has no attribute {name!r}")
