"""How the gradient at the outputs of matrices is spread, objective by objective."""

from readwrite_edit.probe.gradients.probe import prepare, probe_gradients

__all__ = ["prepare", "probe_gradients"]
