"""The five lines of the README, with TRL's DPO and SFT trainers as they are."""

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

import readwrite_edit
from readwrite_edit import (
    adapter_config,
    build_adapter,
    choose_targets,
    collect_statistics,
    find_pathways,
    install_adapter,
)
from tests.small_runs import WORDS, preference_rows
from tests.tiny_models import tiny_model, tiny_tokenizer

COMMON = {"max_steps": 3, "learning_rate": 0.01, "bf16": False, "use_cpu": True, "report_to": "none"}


@pytest.fixture
def targets():
    texts = [" ".join(WORDS[index % 5 :]) for index in range(30)]
    model = tiny_model("llama")
    statistics = collect_statistics(model, tiny_tokenizer(), texts, tokens=400, max_length=32)
    return choose_targets(statistics, find_pathways(model).select(["q_proj", "k_proj"]), _rank(4))


def test_dpo_through_peft_config(targets, tmp_path):
    model = tiny_model("llama")
    trainer = DPOTrainer(
        model,
        args=DPOConfig(output_dir=str(tmp_path), **COMMON),
        train_dataset=Dataset.from_list(preference_rows(12)),
        processing_class=tiny_tokenizer(),
        peft_config=adapter_config(model, targets),
    )
    install_adapter(trainer.model, targets)
    trainer.train()
    _check(trainer.model, targets)
    assert list(trainer.model.peft_config) == ["default"]


def test_sft_on_a_built_adapter(targets, tmp_path):
    model = build_adapter(tiny_model("llama"), targets)
    rows = [{"text": " ".join(WORDS[index % 9 :])} for index in range(12)]
    trainer = SFTTrainer(
        model,
        args=SFTConfig(output_dir=str(tmp_path), **COMMON),
        train_dataset=Dataset.from_list(rows),
        processing_class=tiny_tokenizer(),
    )
    trainer.train()
    _check(trainer.model, targets)


def test_unknown_names_are_refused_and_known_ones_are_listed():
    assert set(readwrite_edit.__all__) <= set(dir(readwrite_edit))
    assert all(getattr(readwrite_edit, name) is not None for name in readwrite_edit.__all__)
    with pytest.raises(AttributeError, match="no attribute 'adaptor_config'"):
        readwrite_edit.adaptor_config  # noqa: B018 - the access is what is tested


def _rank(rank):
    return readwrite_edit.BasisChoice(rank=rank)


def _check(model: PeftModel, targets) -> None:
    for target in targets:
        layer = model.get_base_model().get_submodule(target.module)
        assert torch.equal(layer.lora_A["default"].weight, target.basis.T)
        assert bool(layer.lora_B["default"].weight.any())
