"""How the delta probe's verdict moves with its definitions."""

from readwrite_edit.probe.sensitivity.probe import prepare, probe_sensitivity

__all__ = ["prepare", "probe_sensitivity"]
