"""Everything that this project uses of TRL beyond its documented names, in one place.

Checked on trl 1.16.0. TRL changes such names between releases: the package's
range in pyproject.toml follows this file, and tests/integration/test_trl_names.py
fails where one of them has moved.
"""

from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.utils import FusedCausalLMOutput, add_fused_lm_head

CHECKED_VERSION = "1.16"
REFERENCE_COLUMNS = ("ref_chosen_logps", "ref_rejected_logps")

__all__ = [
    "CHECKED_VERSION",
    "REFERENCE_COLUMNS",
    "DPOConfig",
    "DPOTrainer",
    "DataCollatorForPreference",
    "FusedCausalLMOutput",
    "add_fused_lm_head",
]
