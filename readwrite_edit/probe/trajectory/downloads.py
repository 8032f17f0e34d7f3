"""Checkpoints at hand, one download at a time, and what this process downloaded taken away again."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import scan_cache_dir
from huggingface_hub.errors import CacheNotFound

from readwrite_edit.probe.checkpoint import Checkpoint
from readwrite_edit.probe.trajectory.checkpoints import Entry


class Downloads:
    """Resolves entries when they are asked for, each once.

    Revisions whose weights were in the Hub's cache before are never deleted.
    """

    def __init__(self) -> None:
        self._found: dict[Entry, Checkpoint] = {}
        self._ours: dict[Entry, Path] = {}

    def fetch(self, entry: Entry) -> Checkpoint:
        """The checkpoint of an entry; downloaded where it is on the Hub and not in its cache.

        Raises:
            ReadWriteEditError: It is missing or damaged.
        """
        if entry not in self._found:
            cached = set() if entry.is_local else _snapshots_with_weights()
            found = entry.resolve()
            self._found[entry] = found
            if found.folder in {revision for revision, _ in _revisions()} - cached and not entry.is_local:
                self._ours[entry] = found.folder
        return self._found[entry]

    def discard(self, entry: Entry) -> None:
        """Delete a revision from the Hub's cache if this process downloaded it; files that others share stay."""
        snapshot = self._ours.pop(entry, None)
        self._found.pop(entry, None)
        if snapshot is None or any(found.folder == snapshot for found in self._found.values()):
            return
        scan_cache_dir().delete_revisions(snapshot.name).execute()

    def discard_all(self) -> None:
        """Delete every revision that this process downloaded."""
        for entry in list(self._ours):
            self.discard(entry)


def _revisions() -> list[tuple[Path, frozenset[str]]]:
    """Snapshot folders in the Hub's cache, with the names of their files."""
    try:
        cache = scan_cache_dir()
    except CacheNotFound:
        return []
    return [
        (revision.snapshot_path, frozenset(file.file_name for file in revision.files))
        for repository in cache.repos
        for revision in repository.revisions
    ]


def _snapshots_with_weights() -> set[Path]:
    return {folder for folder, names in _revisions() if any(name.endswith(".safetensors") for name in names)}
