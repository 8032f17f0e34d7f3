"""Read-subspace adapters: stock PEFT LoRA whose A is a frozen basis of what the matrix reads."""

from readwrite_edit.adapter.certify import Certificate, Check, certify_folder
from readwrite_edit.adapter.install import (
    adapter_config,
    build_adapter,
    freeze_basis,
    install_adapter,
    low_rank_update,
)
from readwrite_edit.adapter.merge import merge_adapter
from readwrite_edit.adapter.metadata import METADATA, read_metadata
from readwrite_edit.adapter.save import basis_hash, save_adapter
from readwrite_edit.adapter.targets import ARMS, BasisChoice, Target, choose_targets

__all__ = [
    "ARMS",
    "METADATA",
    "BasisChoice",
    "Certificate",
    "Check",
    "Target",
    "adapter_config",
    "basis_hash",
    "build_adapter",
    "certify_folder",
    "choose_targets",
    "freeze_basis",
    "install_adapter",
    "low_rank_update",
    "merge_adapter",
    "read_metadata",
    "save_adapter",
]
