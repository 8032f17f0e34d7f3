"""What a recipe can ask of the align job, on a tiny model."""

import json
import math

import pytest
from safetensors.torch import load_file

from readwrite_edit.align.job import start_run
from readwrite_edit.align.recorder import FallAlarm
from readwrite_edit.errors import RunError
from readwrite_edit.runs import records
from tests.small_runs import as_recipe, small_recipe


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("READWRITE_EDIT_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("basis", ["contrastive", "gradient", "minor", "random", "weight", "lora"])
def test_every_arm_trains_and_is_certified(basis, tmp_path):
    outcome = start_run(as_recipe(small_recipe(tmp_path, adapter={"basis": basis})), basis, tmp_path / "run")
    assert outcome.status == "finished" and outcome.summary["certificate"]["passed"]
    last = records.geometry(tmp_path / "run")[-1]
    assert last["norm"] > 0 and last["price"] > 0
    if basis == "lora":
        assert last["captured_energy"] is None
        assert outcome.summary["trainable_parameters"] > 2 * 4 * 4 * 32  # A is trained too
    if basis == "minor":
        assert last["read_fraction"] < 1e-6


@pytest.mark.parametrize("basis", ["principal", "contrastive"])
def test_a_whitened_basis_trains_and_is_certified(basis, tmp_path):
    """Its columns see equal energy; what it reads, the geometry measures as of any other A."""
    plain, scaled = (
        start_run(
            as_recipe(small_recipe(tmp_path, adapter={"basis": basis, "whiten": whiten})), basis, tmp_path / f"{whiten}"
        )
        for whiten in (False, True)
    )
    assert scaled.status == "finished" and scaled.summary["certificate"]["passed"]
    first, second = (records.geometry(outcome.folder.path)[-1] for outcome in (plain, scaled))
    assert second["norm"] > 0 and second["captured_energy"] == pytest.approx(first["captured_energy"])
    if basis == "principal":
        assert second["read_fraction"] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    "sections",
    [
        {"train": {"bf16": True}},
        {"train": {"bf16": True}, "model": {"dtype": "bfloat16"}},
        {"model": {"attn_implementation": "eager"}},
        {"train": {"max_steps": 1}},
        {"train": {"gradient_checkpointing": True, "gradient_accumulation_steps": 2, "save_total_limit": 1}},
        {"train": {"num_train_epochs": 0.4, "max_steps": -1, "neftune_noise_alpha": 5.0}},
    ],
    ids=["autocast", "bf16 weights", "eager attention", "one step without a rate", "accumulation", "epochs"],
)
def test_every_way_to_train_ends_with_a_certificate(sections, tmp_path):
    outcome = start_run(as_recipe(small_recipe(tmp_path, **sections)), "way", tmp_path / "run")
    assert outcome.summary["certificate"]["passed"], outcome.summary["certificate"]
    assert "differ by 0" in str(outcome.summary["certificate"])


def test_energy_gives_ranks_per_layer_that_stock_peft_reads(tmp_path):
    adapter = {"rank": None, "energy": 0.6, "layers": [0, 1], "modules": ["q_proj", "o_proj", "down_proj"]}
    outcome = start_run(as_recipe(small_recipe(tmp_path, adapter=adapter)), "energy", tmp_path / "run")
    assert outcome.summary["certificate"]["passed"]
    config = json.loads((tmp_path / "run" / "adapter" / "adapter_config.json").read_text())
    tensors = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    ranks = {name: tensor.shape[0] for name, tensor in tensors.items() if "lora_A" in name}
    assert len(set(ranks.values())) > 1 and config["r"] == config["lora_alpha"] == max(ranks.values())
    rows = [row for row in records.geometry(tmp_path / "run") if row["step"] == 3]
    assert all(row["captured_energy"] >= 0.6 for row in rows)
    for row in rows:
        wants_write = row["module"] in ("o_proj", "down_proj")
        assert (row["write_fraction"] is not None) == wants_write == (row["write_isotropic_null"] is not None)


def test_a_run_leaves_everything_that_its_readers_expect(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    train = {"max_steps": 4, "eval_steps": 2, "save_steps": 2, "report_to": ["tensorboard"]}
    outcome = start_run(as_recipe(small_recipe(tmp_path, train=train)), "whole", tmp_path / "run")
    run = tmp_path / "run"
    lines = records.metrics(run)
    trained = [line for line in lines if line["kind"] == "train"]
    assert [line["step"] for line in trained] == [1, 2, 3, 4]
    assert {"loss", "rewards/margins", "rewards/accuracies", "logps/chosen", "tokens_per_s"} <= set(
        trained[0]["values"]
    )
    first = next(line for line in lines if line["kind"] == "eval")
    assert first["step"] == 0 and math.isclose(first["values"]["eval_loss"], math.log(2), rel_tol=1e-5)
    assert "eval_rewards/accuracies" not in first["values"]
    assert {line["step"] for line in lines if line["kind"] == "eval"} == {0, 2, 4}
    before, after = outcome.summary["before"], outcome.summary["after"]
    assert before["eval_rewards/accuracies"] is None and before["kl_prose"] == 0
    assert after["kl_prose"] > 0 and after["eval_loss"] < before["eval_loss"]
    assert {"recipe.yaml", "state.json", "metrics.jsonl", "geometry.jsonl", "console.log", "summary.json"} <= {
        path.name for path in run.iterdir()
    }
    assert "step 4/4" in (run / "console.log").read_text()
    assert list(run.rglob("events.out.tfevents*")) and not list((tmp_path / "elsewhere").iterdir())
    assert json.loads((run / "state.json").read_text())["status"] == "finished"
    assert "<svg" in (run / "report.html").read_text()


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_state(tmp_path):
    train = {"max_steps": 6, "learning_rate": 1e30, "warmup_steps": 0, "lr_scheduler_type": "constant"}
    with pytest.raises(RunError, match=r"not finite|is nan|is inf"):
        start_run(as_recipe(small_recipe(tmp_path, train=train)), "nan", tmp_path / "run")
    state = json.loads((tmp_path / "run" / "state.json").read_text())
    assert state["status"] == "failed" and "checkpoint-" in state["error"]
    kept = tmp_path / "run" / "checkpoints" / f"checkpoint-{state['step']}"
    assert (kept / "complete.json").is_file()
    tensors = load_file(kept / "adapter_model.safetensors")
    assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())


def test_the_alarm_goes_off_once_when_chosen_falls_with_rejected():
    alarm = FallAlarm(beta=0.1)
    falling = [{"rewards/chosen": -0.2 * step, "rewards/rejected": -0.5 * step} for step in range(10)]
    heard = [alarm.heed(values) for values in falling]
    assert sum(fall is not None for fall in heard) == 1
    chosen, rejected = next(fall for fall in heard if fall)
    assert rejected < chosen < -1
    assert all(FallAlarm(0.1).heed({"rewards/chosen": 0.1, "rewards/rejected": -9.0}) is None for _ in range(9))
