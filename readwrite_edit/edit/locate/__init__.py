"""Causal tracing: which layers carry what a model says about a subject."""

from readwrite_edit.edit.locate.choice import choose_layer
from readwrite_edit.edit.locate.job import locate, prepare
from readwrite_edit.edit.locate.prompts import TracePrompt, trace_prompt
from readwrite_edit.edit.locate.trace import Trace, trace

__all__ = ["Trace", "TracePrompt", "choose_layer", "locate", "prepare", "trace", "trace_prompt"]
