"""Where a checkpoint differs from another: the delta probe and the geometry that other probes share."""

from readwrite_edit.probe.delta.probe import prepare, probe_delta

__all__ = ["prepare", "probe_delta"]
