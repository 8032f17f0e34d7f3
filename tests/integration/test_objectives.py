"""Every loss of TRL, through this project's trainer, equals TRL's own on the same rows."""

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer

from readwrite_edit.align.reference import ReferenceStore
from readwrite_edit.align.tokenised import tokenise_pairs
from readwrite_edit.align.trainer import PreferenceTrainer
from readwrite_edit.recipe import dpo_arguments
from readwrite_edit.recipe.objective import LossType
from tests.small_runs import as_recipe, preference_rows, small_recipe
from tests.tiny_models import tiny_model, tiny_tokenizer

LOSSES = LossType.__args__
VARIANTS = [{"loss_type": [loss], "label_smoothing": 0.1 if loss in ("exo_pair", "robust") else 0.0} for loss in LOSSES]
VARIANTS += [
    {"loss_type": ["sigmoid", "sft"], "loss_weights": [0.7, 0.3]},
    {"loss_type": ["sigmoid"], "ld_alpha": 0.5},
    {"loss_type": ["sigmoid"], "use_weighting": True},
    {"loss_type": ["hinge"], "f_divergence_type": "js_divergence"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("objectives")


@pytest.mark.parametrize("objective", VARIANTS, ids=lambda variant: "-".join(map(str, variant.values())))
def test_losses_and_gradients_equal_those_of_trl(objective, folder):
    recipe = as_recipe(small_recipe(folder, objective={"beta": 0.5, **objective}))
    ours, stock = _trainers(recipe, folder)
    for step in range(2):
        losses = [_step(trainer, step) for trainer in (ours, stock)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4, abs=1e-5)
    for (name, mine), (_, theirs) in zip(ours.model.named_parameters(), stock.model.named_parameters(), strict=True):
        if mine.requires_grad:
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5, msg=name)


def _trainers(recipe, folder):
    rows = preference_rows(8)
    arguments = dict(dpo_arguments(recipe), disable_tqdm=True, use_cpu=True, report_to="none")
    tokenised = tokenise_pairs(rows, tiny_tokenizer(), max_length=recipe.train.max_length).rows
    ours = PreferenceTrainer(
        tiny_model("llama"),
        DPOConfig(output_dir=str(folder / "ours"), **arguments),
        train_rows=tokenised,
        held_out_rows=tokenised[:1],
        processing_class=tiny_tokenizer(),
        peft_config=_lora(),
    )
    ours.use_reference(ReferenceStore(folder / "reference"), "tiny")
    stock = DPOTrainer(
        tiny_model("llama"),
        args=DPOConfig(output_dir=str(folder / "stock"), **arguments),
        train_dataset=Dataset.from_list(rows),
        processing_class=tiny_tokenizer(),
        peft_config=_lora(),
    )
    stock.model.load_state_dict(ours.model.state_dict())
    return ours, stock


def _lora():
    return LoraConfig(r=4, lora_alpha=4, target_modules=["q_proj", "k_proj"], task_type="CAUSAL_LM")


def _step(trainer, step):
    batch = trainer.data_collator(trainer.train_dataset.select(range(4 * step, 4 * step + 4)).to_list())
    trainer.current_gradient_accumulation_steps = 1  # what train() sets
    loss = trainer.training_step(trainer.model, batch)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter -= 0.1 * parameter.grad
                parameter.grad = None
    return float(loss)
