"""What rank-1 changes do, beside matched controls."""

from readwrite_edit.probe.causal.probe import prepare, probe_causal

__all__ = ["prepare", "probe_causal"]
