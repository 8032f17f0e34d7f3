"""The updates of an adapter, matrix by matrix, from its files and the shapes of its base."""

from __future__ import annotations

import json

from readwrite_edit.errors import AdapterError
from readwrite_edit.evaluate.energy import Matrix
from readwrite_edit.evaluate.subject import Subject
from readwrite_edit.probe.checkpoint import ADAPTER_CONFIG, Checkpoint
from readwrite_edit.probe.delta.anatomy import anatomy_of
from readwrite_edit.probe.delta.factors import read_factors

_NO_PRODUCT = ("use_dora", "use_qalora")


def adapter_updates(subject: Subject) -> tuple[list[Matrix], list[str]]:
    """The matrices that an adapter changes, with their updates; none for a whole model. And notes.

    Raises:
        AdapterError: It is damaged, does not fit the base, or changes the language-model head.
    """
    if subject.adapter is None:
        return [], []
    anatomy = anatomy_of(subject.model)
    config = json.loads((subject.adapter / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    for option in _NO_PRODUCT:
        if config.get(option):
            return [], [f"no price: {option} is on, and the adapter's update is not a product B A"]
    checkpoint = Checkpoint(subject.name, "adapter", subject.adapter)
    factors = read_factors(checkpoint, anatomy, constants=True)
    for misfit in factors.misfits:
        raise AdapterError(f"{subject.name} does not fit {subject.model}: {misfit.name}: {misfit.detail}")
    if anatomy.unembedding in factors.modules:
        raise AdapterError(f"{subject.name} changes the language-model head: merge it, and name the model")
    changed = [(one, update) for one in anatomy.pathways.projections if (update := factors.of(one)) is not None]
    notes = []
    if len({one.module for one, _ in changed}) < len(factors.modules):
        notes.append("the price leaves out matrices that are no part of attention or MLP, such as a router")
    if factors.constants:
        notes.append("the price leaves out what the adapter adds whatever the input (lora_bias)")
    return changed, notes
