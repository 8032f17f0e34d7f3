"""Where what can be computed again is kept. Standard library only."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Folder for what can be computed again: $READWRITE_EDIT_CACHE, else the XDG cache folder's."""
    own = os.environ.get("READWRITE_EDIT_CACHE")
    if own:
        return Path(own).expanduser()
    xdg = os.environ.get("XDG_CACHE_HOME")
    return (Path(xdg) if xdg else Path.home() / ".cache") / "readwrite-edit"
