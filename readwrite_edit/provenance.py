"""What a run records of the software that made it."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterable


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """Versions of installed packages by their names, and of ``python``."""
    return {**{name: importlib.metadata.version(name) for name in packages}, "python": sys.version.split()[0]}
