"""Short full-parameter arms from cross-entropy to a preference loss."""

from readwrite_edit.probe.contrast.probe import prepare, probe_contrast

__all__ = ["prepare", "probe_contrast"]
