"""An update that TRL trains stays in its basis; with the obvious way of freezing it does not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel
from trl import DPOConfig, DPOTrainer

from readwrite_edit import BasisChoice, adapter_config, choose_targets, collect_statistics, find_pathways
from readwrite_edit.adapter import Target, freeze_basis, install, install_adapter, low_rank_update
from readwrite_edit.adapter.install import lora_layer
from tests.small_runs import WORDS, preference_rows
from tests.tiny_models import TINY, tiny_tokenizer

STEPS, RANK = 3, 4
TEXTS = [" ".join(WORDS), " ".join(reversed(WORDS))]


def naive_freeze(model: nn.Module, targets: Sequence[Target], adapter_name: str = "default") -> None:
    """What one would write first; the tests below show what becomes of it."""
    for target in targets:
        lora_layer(model, target).lora_A[adapter_name].weight.requires_grad_(False)


def targets_of(model: PreTrainedModel) -> tuple[Target, ...]:
    statistics = collect_statistics(model, tiny_tokenizer(), TEXTS, tokens=160, max_length=64)
    return choose_targets(statistics, find_pathways(model).select(["q_proj", "k_proj"]), BasisChoice(rank=RANK))


def dpo_trainer(
    name: str, folder: Path, *, dtype: torch.dtype = torch.float32, autocast: bool = False
) -> tuple[DPOTrainer, tuple[Target, ...]]:
    """TRL's own trainer, in the public way; its reference is the model with the adapter switched off."""
    model = TINY[name]().to(dtype)
    targets = targets_of(model)
    args = DPOConfig(
        output_dir=str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=4,
        learning_rate=0.01,
        weight_decay=0.1,
        bf16=autocast,
        use_cpu=True,
        gradient_checkpointing=False,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    rows = Dataset.from_list(preference_rows(8))
    trainer = DPOTrainer(
        model,
        args=args,
        train_dataset=rows,
        eval_dataset=rows.select(range(2)),
        processing_class=tiny_tokenizer(),
        peft_config=adapter_config(model, targets),
    )
    install_adapter(trainer.model, targets)
    return trainer, targets


@pytest.fixture
def switched_off(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry each time that the adapter is switched off."""
    times: list[int] = []
    disable = PeftModel.disable_adapter

    def counting(self: PeftModel):
        times.append(1)
        return disable(self)

    monkeypatch.setattr(PeftModel, "disable_adapter", counting)
    return times


def lora_a(model: nn.Module, target: Target) -> Tensor:
    return lora_layer(model, target).lora_A["default"].weight.detach()


def drift(model: nn.Module, targets: Sequence[Target]) -> float:
    """Largest change of an entry of lora_A; 0.0 means bit for bit."""
    return max(float((lora_a(model, target) - target.basis.T).abs().max()) for target in targets)  # type: ignore[union-attr]


def outside(model: nn.Module, target: Target) -> float:
    """‖ΔW(I − UUᵀ)‖_F / ‖ΔW‖_F, dense and in float64."""
    delta, basis = low_rank_update(model, target).dense().double(), target.basis.double()  # type: ignore[union-attr]
    return float((delta - delta @ basis @ basis.T).norm() / delta.norm())


def stepped(trainer: DPOTrainer) -> set[str]:
    """Names of the parameters that the optimizer holds state of."""
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    return {names[id(parameter)] for parameter in trainer.optimizer.state}


ARITHMETICS = pytest.mark.parametrize(
    ("dtype", "autocast"),
    [(torch.float32, False), (torch.bfloat16, False), (torch.float32, True)],
    ids=["float32", "bfloat16", "autocast"],
)


@ARITHMETICS
def test_the_registered_freeze_holds_through_dpo(
    dtype: torch.dtype, autocast: bool, tmp_path: Path, switched_off: list[int]
) -> None:
    trainer, targets = dpo_trainer("llama", tmp_path, dtype=dtype, autocast=autocast)
    trainer.evaluate()
    trainer.train()
    assert len(switched_off) > STEPS and trainer.state.global_step == STEPS
    assert drift(trainer.model, targets) == 0.0
    assert all(torch.equal(lora_a(trainer.model, target), target.basis.T) for target in targets)  # type: ignore[union-attr]
    assert max(outside(trainer.model, target) for target in targets) <= 1e-6
    assert {name.split(".")[-3] for name in stepped(trainer)} == {"lora_B"} and len(stepped(trainer)) == len(targets)
    assert not any(p.requires_grad for name, p in trainer.model.named_parameters() if "lora_B" not in name)


@ARITHMETICS
def test_a_plain_requires_grad_false_does_not_hold(
    dtype: torch.dtype, autocast: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same training, checked in the same way: the proof that the test above can fail.

    An evaluation before the first step switches the adapter off and on again, and A with it; the
    optimizer, made after that, takes A for trainable.
    """
    monkeypatch.setattr(install, "freeze_basis", naive_freeze)
    trainer, targets = dpo_trainer("llama", tmp_path, dtype=dtype, autocast=autocast)
    assert not any(p.requires_grad for name, p in trainer.model.named_parameters() if "lora_A" in name)
    trainer.evaluate()
    trainer.train()
    assert drift(trainer.model, targets) > 1e-3
    assert max(outside(trainer.model, target) for target in targets) > 1e-3
    assert any("lora_A" in name for name in stepped(trainer))


# Rows of V, from the shapes of the tiny models: width 48, 4 heads of 12, in phi3 2 heads of K and of V.
V_ROWS = {
    "gpt2": [*range(96, 144)],
    "phi3": [*range(72, 96)],
    "gpt_neox": [row for head in range(4) for row in range(36 * head + 24, 36 * head + 36)],
}


def lora_b(model: nn.Module, target: Target) -> Tensor:
    return low_rank_update(model, target).B


@pytest.mark.parametrize("name", V_ROWS)
def test_rows_of_v_stay_exactly_zero_in_fused_matrices(name: str, tmp_path: Path) -> None:
    trainer, targets = dpo_trainer(name, tmp_path)
    trainer.evaluate()
    trainer.train()
    others = [row for row in range(lora_b(trainer.model, targets[0]).shape[0]) if row not in V_ROWS[name]]
    assert len(targets) == 2 and drift(trainer.model, targets) == 0.0
    for target in targets:
        rows = lora_b(trainer.model, target)
        assert not rows[V_ROWS[name]].any()
        assert bool(rows[others].any(dim=1).all()), "every row of Q and K is trained"


def test_rows_of_v_move_where_they_are_not_masked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "_mask_rows", lambda *_arguments: None)
    trainer, targets = dpo_trainer("gpt2", tmp_path)
    trainer.train()
    assert all(bool(lora_b(trainer.model, target)[V_ROWS["gpt2"]].any()) for target in targets)


def few_steps(model: PeftModel) -> None:
    """AdamW on what is trainable after the adapter was switched off and on, as a trainer finds it."""
    ids = torch.arange(3, 43).view(2, 20)
    with model.disable_adapter(), torch.no_grad():
        model(input_ids=ids)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1)
    for _ in range(STEPS):
        with model.disable_adapter(), torch.no_grad():
            model(input_ids=ids)
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("freeze", [freeze_basis, naive_freeze, None], ids=["registered", "naive", "none"])
def test_the_freeze_must_be_registered_again_after_a_load(freeze, tmp_path: Path) -> None:
    """Saved by PEFT and loaded for training into a bare model, where the register is empty."""
    model = TINY["llama"]()
    targets = targets_of(model)
    install.build_adapter(model, targets).save_pretrained(str(tmp_path))
    loaded = PeftModel.from_pretrained(TINY["llama"](), str(tmp_path), is_trainable=True)
    assert drift(loaded, targets) == 0.0
    if freeze is not None:
        freeze(loaded, targets)
    few_steps(loaded)
    assert all(bool(lora_b(loaded, target).any()) for target in targets)
    assert (drift(loaded, targets) == 0.0) == (freeze is freeze_basis)


def test_loading_weights_into_an_installed_adapter_keeps_freeze_and_mask(tmp_path: Path) -> None:
    """What a trainer does when it resumes: load_adapter under the name that is there already."""
    model = TINY["gpt2"]()
    targets = targets_of(model)
    wrapped = install.build_adapter(model, targets)
    few_steps(wrapped)
    before = [lora_b(wrapped, target).clone() for target in targets]
    wrapped.save_pretrained(str(tmp_path))
    resumed = install.build_adapter(TINY["gpt2"](), targets)
    resumed.load_adapter(str(tmp_path), "default", is_trainable=True)
    freeze_basis(resumed, targets)
    assert all(torch.equal(lora_b(resumed, target), rows) for target, rows in zip(targets, before, strict=True))
    few_steps(resumed)
    assert drift(resumed, targets) == 0.0
    for target, rows in zip(targets, before, strict=True):
        assert not lora_b(resumed, target)[V_ROWS["gpt2"]].any() and not torch.equal(lora_b(resumed, target), rows)
