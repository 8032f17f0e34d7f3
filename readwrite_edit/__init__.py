"""Align and edit language models with knowledge of where they read and where they write.

The Python interface of the main job, in the order of its use::

    statistics = collect_statistics(model, tokenizer, texts)
    targets = choose_targets(statistics, find_pathways(model).select(["q_proj", "k_proj"]))
    trainer = DPOTrainer(model, args=args, train_dataset=rows, peft_config=adapter_config(model, targets))
    install_adapter(trainer.model, targets)
    trainer.train()

Names are imported when they are first used, so that importing the package
alone loads neither torch nor transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from readwrite_edit.adapter import (
        BasisChoice,
        adapter_config,
        build_adapter,
        choose_targets,
        freeze_basis,
        install_adapter,
    )
    from readwrite_edit.models.pathways import find_pathways
    from readwrite_edit.statistics import Statistics, collect_statistics

_HOMES = {
    "BasisChoice": "readwrite_edit.adapter",
    "Statistics": "readwrite_edit.statistics",
    "adapter_config": "readwrite_edit.adapter",
    "build_adapter": "readwrite_edit.adapter",
    "choose_targets": "readwrite_edit.adapter",
    "collect_statistics": "readwrite_edit.statistics",
    "find_pathways": "readwrite_edit.models.pathways",
    "freeze_basis": "readwrite_edit.adapter",
    "install_adapter": "readwrite_edit.adapter",
}

__all__ = [
    "BasisChoice",
    "Statistics",
    "adapter_config",
    "build_adapter",
    "choose_targets",
    "collect_statistics",
    "find_pathways",
    "freeze_basis",
    "install_adapter",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'readwrite_edit' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
