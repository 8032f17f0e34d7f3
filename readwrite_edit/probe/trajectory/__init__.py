"""Deltas along a series of checkpoints."""

from readwrite_edit.probe.trajectory.probe import prepare, probe_trajectory

__all__ = ["prepare", "probe_trajectory"]
