"""Training every parameter: stock TRL's losses, gradients and steps, without its second model."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import PreTrainedModel

from readwrite_edit.align.reference import ReferenceStore
from readwrite_edit.align.tokenised import tokenise_pairs
from readwrite_edit.align.trainer import NonFiniteError
from readwrite_edit.align.trl_names import DPOConfig, DPOTrainer
from readwrite_edit.probe.contrast.trainer import FullParameterTrainer, full_parameter_trainer, release
from tests.small_runs import preference_rows
from tests.tiny_models import TINY, tiny_config, tiny_model, tiny_tokenizer

LOSSES = {"dpo": (("sigmoid",), None), "cross-entropy": (("sft",), None), "mixed": (("sft", "ipo"), (0.25, 0.75))}


def tied_model(name: str) -> PreTrainedModel:
    """A tiny model whose head is its embedding: the gradient of the two must be summed."""
    config = tiny_config(name)
    config.tie_word_embeddings = True
    torch.manual_seed(0)
    model = type(tiny_model(name))(config)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    return model.eval()


def stock(model: PreTrainedModel, folder: Path, losses: Sequence[str], weights: Sequence[float] | None) -> DPOTrainer:
    """TRL as anybody would use it: rows of text, a second model as the reference."""
    arguments = DPOConfig(
        output_dir=str(folder),
        loss_type=list(losses),
        loss_weights=None if weights is None else list(weights),
        beta=0.5,
        max_steps=3,
        per_device_train_batch_size=4,
        learning_rate=1e-3,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        max_length=64,
        train_sampling_strategy="sequential",
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    return DPOTrainer(
        model,
        copy.deepcopy(model),
        arguments,
        train_dataset=Dataset.from_list(preference_rows(12)),
        processing_class=tiny_tokenizer(),
    )


def ours(
    model: PreTrainedModel, folder: Path, losses: Sequence[str], weights: Sequence[float] | None, **options: object
) -> FullParameterTrainer:
    tokenizer = tiny_tokenizer()
    return full_parameter_trainer(
        model,
        tokenizer,
        tokenise_pairs(preference_rows(12), tokenizer, max_length=64).rows,
        loss_type=losses,
        loss_weights=weights,
        **{"steps": 3, "learning_rate": 1e-3, "beta": 0.5, "max_length": 64, **options},
        weights_hash="tiny",
        store=ReferenceStore(folder / "reference"),
    )


def loss_and_gradients(trainer: DPOTrainer) -> tuple[float, dict[str, torch.Tensor]]:
    trainer.model.train()
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    return float(loss), {name: parameter.grad for name, parameter in trainer.model.named_parameters()}


@pytest.mark.parametrize("make", [TINY["llama"], lambda: tied_model("llama"), lambda: tied_model("gemma2")])
@pytest.mark.parametrize("losses", LOSSES.values(), ids=LOSSES)
def test_loss_and_gradients_of_every_parameter_equal_those_of_trl(make, losses, tmp_path: Path) -> None:
    expected_loss, expected = loss_and_gradients(stock(make(), tmp_path / "stock", *losses))
    found_loss, found = loss_and_gradients(ours(make(), tmp_path, *losses))
    assert found_loss == pytest.approx(expected_loss, rel=1e-5)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        close = 1e-5 * float(gradient.abs().max())
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=close, msg=lambda text, n=name: f"{n}: {text}")
    assert all(bool(gradient.any()) for gradient in found.values())


@pytest.mark.parametrize("losses", LOSSES.values(), ids=LOSSES)
def test_three_steps_end_where_trl_ends(losses, tmp_path: Path) -> None:
    trainers = stock(tied_model("llama"), tmp_path / "stock", *losses), ours(tied_model("llama"), tmp_path, *losses)
    start = tied_model("llama").state_dict()
    for trainer in trainers:
        trainer.train()
    expected, found = (trainer.model.state_dict() for trainer in trainers)
    for name, weight in expected.items():
        moved = float((weight - start[name]).abs().max())
        assert moved > 0
        # Adam divides by the gradient's own size: where that is rounding, so is the step's sign
        assert float((found[name] - weight).abs().median()) <= 1e-3 * moved, name


def test_the_reference_is_the_model_at_the_start(tmp_path: Path) -> None:
    """So DPO's first loss is log 2, and TRL's own reference model is not needed."""
    trainer = ours(TINY["llama"](), tmp_path, ("sigmoid",), None)
    assert trainer.ref_model is None
    assert loss_and_gradients(trainer)[0] == pytest.approx(0.6931472, abs=1e-6)


def test_nothing_is_left_on_the_disk_and_nothing_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    trainer = ours(TINY["llama"](), tmp_path, ("sigmoid",), None)
    capfd.readouterr()
    trainer.train()
    assert [path.name for path in tmp_path.iterdir()] == ["reference"]
    assert not Path(trainer.args.output_dir).exists()
    assert capfd.readouterr().out == ""


def test_plain_descent_moves_by_the_gradient(tmp_path: Path) -> None:
    model, start = TINY["llama"](), TINY["llama"]().state_dict()
    gradients = loss_and_gradients(ours(TINY["llama"](), tmp_path, ("sft",), None))[1]
    ours(model, tmp_path, ("sft",), None, optimizer="sgd", steps=1, learning_rate=0.1).train()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.data, start[name] - 0.1 * gradients[name], rtol=0, atol=1e-6)


def test_a_released_model_takes_the_next_trainer(tmp_path: Path) -> None:
    """Each trainer lays its answer over the model's forward; they must not pile up."""
    model = TINY["llama"]()
    forward = model.forward
    ours(model, tmp_path, ("sigmoid",), None)
    assert model.forward != forward
    release(model)
    assert model.forward == forward
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in model.parameters())


def test_a_loss_that_is_not_finite_ends_training(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match="step 2; lower the learning rate"):
        ours(TINY["llama"](), tmp_path, ("sigmoid",), None, optimizer="sgd", learning_rate=1e30).train()
