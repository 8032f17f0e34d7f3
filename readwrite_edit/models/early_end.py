"""Forward passes that end once what was wanted of them is known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class EnoughError(Exception):
    """To be raised by a hook; ends the pass, and never leaves :func:`until_enough`."""


@contextmanager
def until_enough() -> Iterator[None]:
    """A block around a forward pass that a hook may end by raising :class:`EnoughError`."""
    try:
        yield
    except EnoughError:
        pass
