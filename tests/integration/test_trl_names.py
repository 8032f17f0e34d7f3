"""The names of TRL and transformers that are not part of their promise: here it shows when one moves."""

import inspect

import trl
from transformers import Trainer

from readwrite_edit.align import trl_names


def test_the_installed_trl_is_the_one_that_was_checked():
    assert trl.__version__.startswith(trl_names.CHECKED_VERSION)


def test_the_calls_that_the_trainer_answers_and_makes_exist():
    trainer = trl_names.DPOTrainer
    assert "dataset_name" in inspect.signature(trainer._prepare_dataset).parameters
    assert list(inspect.signature(trainer.compute_ref_log_probs).parameters) == ["self", "model", "inputs"]
    assert list(inspect.signature(trainer._compute_loss).parameters) == ["self", "model", "inputs", "return_outputs"]
    source = inspect.getsource(trainer)
    assert "fused_lm_head=True" in source and "self.precompute_ref_logps" in source
    assert all(f'inputs["{column}"]' in source for column in trl_names.REFERENCE_COLUMNS)


def test_the_answer_has_the_fields_that_the_loss_reads():
    fields = set(trl_names.FusedCausalLMOutput.__dataclass_fields__)
    assert {"loss", "log_probs", "entropy", "mean_logits", "is_top1", "log_sum_sq_probs", "label_mask"} <= fields


def test_the_private_names_of_transformers_exist():
    for name in ("_save_checkpoint", "_load_from_checkpoint", "_prepare_inputs"):
        assert callable(getattr(Trainer, name))
