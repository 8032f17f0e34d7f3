"""Fabricates the folder of a finished run: plausible figures and, where asked, a real tiny model and adapter."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import yaml

STARTED = 1_760_000_000.0
D_IN = 576
RANK = 16


def write_finished_run(
    run: Path,
    *,
    base: str = "bundled:smollm2-135m-instruct",
    layers: int = 12,
    modules: tuple[str, ...] = ("q_proj", "k_proj"),
    steps: int = 24,
    resumed_at: int | None = 14,
) -> Path:
    """Write a run folder without weights; ``resumed_at`` starts a second segment there."""
    run.mkdir(parents=True)
    (run / "adapter").mkdir()
    (run / "checkpoints").mkdir()
    recipe = _recipe(base, modules, steps)
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    (run / "state.json").write_text(json.dumps(_state(steps, resumed_at)))
    _write_lines(run / "metrics.jsonl", _metrics(steps, resumed_at))
    _write_lines(run / "geometry.jsonl", _geometry(layers, modules, steps, resumed_at))
    write_summary(run)
    return run


def write_summary(run: Path, **changes: Any) -> None:
    """Write the end table; ``changes`` replace whole entries of it."""
    (run / "summary.json").write_text(json.dumps(_summary() | changes))


def write_tiny_base(folder: Path, *, seed: int = 0) -> Path:
    """Save a random two-layer Llama with its tokenizer, loadable by stock transformers."""
    from tests.tiny_models import tiny_model, tiny_tokenizer

    tiny_model("llama", seed).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def write_tiny_adapter(run: Path, base: Path, *, rank: int = 4) -> Path:
    """Put a LoRA adapter with non-zero random weights for the base into the run."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from readwrite_edit.models.fingerprint import weights_hash

    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=["k_proj", "q_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.5, generator=generator)
    model.save_pretrained(run / "adapter")
    (run / "adapter" / "README.md").unlink(missing_ok=True)
    recorded = {"source": str(base), "revision": None, "weights_hash": weights_hash(model), "dtype": "float32"}
    _write_metadata(run, recorded)
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    recipe["provenance"]["weights_sha256"] = weights_hash(model)
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    return run / "adapter"


def write_adapter_config(run: Path, *, base: str = "HuggingFaceTB/SmolLM2-135M-Instruct", **changes: Any) -> None:
    """Put the configuration and metadata of an adapter into the run, without weights."""
    _write_metadata(run, {"source": base, "revision": None, "weights_hash": "0" * 64, "dtype": "float32"})
    config = {"peft_type": "LORA", "r": RANK, "rank_pattern": {}, "base_model_name_or_path": base, "revision": None}
    (run / "adapter" / "adapter_config.json").write_text(json.dumps(config | changes))


def _write_metadata(run: Path, base: dict[str, Any]) -> None:
    """Metadata of the right form; exports read its base and its rounding loss."""
    logits = {"input_ids": [], "sha256": "", "top_ids": [], "top_values": [], "dtype": "float32", "device": "cpu"}
    base = base | {"quantization": None, "device": "cpu", "attn_implementation": "eager", "tf32": False}
    metadata = {"schema": 1, "base": base, "modules": {}, "logits": logits}
    (run / "adapter" / "readwrite_edit.json").write_text(json.dumps(metadata | {"rounding_loss": 0.9}))


def _recipe(base: str, modules: tuple[str, ...], steps: int) -> dict[str, Any]:
    return {
        "model": {"path": base, "dtype": "auto"},
        "data": {"path": "builtin:concise"},
        "calibration": {"tokens": 8192},
        "adapter": {"modules": list(modules), "layers": "all", "basis": "principal", "rank": RANK},
        "objective": {"name": "dpo", "beta": 0.1},
        "train": {"learning_rate": 1e-3, "per_device_train_batch_size": 8, "max_steps": steps, "seed": 0},
        "provenance": {"torch": "2.13.0", "peft": "0.21.2", "python": "3.11.2", "weights_sha256": "0" * 64},
    }


def _state(steps: int, resumed_at: int | None) -> dict[str, Any]:
    return {
        "schema": 1,
        "status": "finished",
        "kind": "align",
        "recipe": "dpo_readonly",
        "step": steps,
        "max_steps": steps,
        "segment": 0 if resumed_at is None else 1,
        "segment_starts": [0] if resumed_at is None else [0, resumed_at],
        "started_s": STARTED,
        "heartbeat_s": STARTED + 300.0,
        "pid": 1,
        "hostname": "elsewhere",
        "error": None,
    }


def _metrics(steps: int, resumed_at: int | None) -> list[dict[str, Any]]:
    rng = random.Random(0)
    lines: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        segment = 1 if resumed_at is not None and step > resumed_at else 0
        start = {"step": step, "segment": segment, "time": STARTED + 10 * step}
        lines.append(start | {"kind": "train", "values": _train_values(step / steps, rng)})
        if step % 8 == 0 or step == steps:
            lines.append(start | {"kind": "eval", "values": _eval_values(step / steps)})
    values = {"chosen_change": -1.5, "rejected_change": -6.0}
    alarm = {"step": steps - 2, "segment": lines[-1]["segment"], "time": STARTED + 10 * (steps - 2), "kind": "alarm"}
    lines.append(alarm | {"values": values, "message": "log-probability of chosen answers fell by 1.5 nats"})
    return lines


def _train_values(done: float, rng: random.Random) -> dict[str, float]:
    margin = 1.1 * done + rng.gauss(0, 0.12)
    return {
        "loss": math.log1p(math.exp(-margin)) + rng.gauss(0, 0.01),
        "learning_rate": 1e-3 * min(1.0, 5 * done) * (1 - 0.9 * done),
        "grad_norm": 2.0 + rng.random(),
        "rewards/chosen": 0.3 * margin,
        "rewards/rejected": -0.7 * margin,
        "rewards/margins": margin,
        "rewards/accuracies": min(1.0, 0.5 + 0.4 * done + rng.choice([-0.125, 0.0, 0.125])),
        "logps/chosen": -120 + 3 * margin + rng.gauss(0, 4),
        "logps/rejected": -110 - 7 * margin + rng.gauss(0, 4),
        "tokens_per_s": 900.0,
    }


def _eval_values(done: float) -> dict[str, float]:
    margin = 1.0 * done
    return {
        "eval_loss": math.log1p(math.exp(-margin)),
        "eval_rewards/accuracies": 0.5 + 0.35 * done,
        "eval_rewards/margins": margin,
        "eval_rewards/chosen": 0.3 * margin,
        "eval_rewards/rejected": -0.7 * margin,
        "eval_logps/chosen": -121 + 3 * margin,
        "eval_logps/rejected": -111 - 7 * margin,
        "kl_prose": 0.0102 * done,
        "kl_chat": 0.0249 * done,
    }


def _geometry(layers: int, modules: tuple[str, ...], steps: int, resumed_at: int | None) -> list[dict[str, Any]]:
    rng = random.Random(1)
    cells = [(layer, module) for layer in range(layers) for module in modules]
    return [
        {"step": step, "segment": int(step > (resumed_at or steps)), "time": STARTED + 10 * step}
        | _matrix(layer, module, layers, step / steps, rng)
        for step in (steps // 2, steps)
        for layer, module in cells
    ]


def _matrix(layer: int, module: str, layers: int, done: float, rng: random.Random) -> dict[str, Any]:
    parent = "mlp" if module in ("gate_proj", "up_proj", "down_proj") else "self_attn"
    depth = (layer + 1) / layers
    norm = done * (0.3 + 0.5 * depth) * (0.6 if module == "k_proj" else 1.0) + 0.02 * rng.random()
    return {
        "layer": layer,
        "module": module,
        "path": f"model.layers.{layer}.{parent}.{module}",
        "shape": [D_IN, D_IN],
        "rank": RANK,
        "k": RANK,
        "read_fraction": 1.0 - 0.6 * depth * (module == "k_proj"),
        "write_fraction": 0.03 + 0.01 * rng.random(),
        "read_isotropic_null": RANK / D_IN,
        "read_energy_null": 0.8 - 0.25 * depth,
        "write_isotropic_null": RANK / D_IN,
        "captured_energy": 0.8 - 0.25 * depth + 0.03 * math.sin(3.0 * layer),
        "norm": norm,
        "relative_norm": norm / 80,
        "price": 2e-4 * norm**2 * (1 + rng.random()),
        "output_energy": 9e-3 * norm**2 * (1 + rng.random()),
    }


def _summary() -> dict[str, Any]:
    return {
        "schema": 1,
        "before": {
            "eval_loss": 0.693147,
            "eval_rewards/accuracies": None,
            "eval_rewards/margins": 0.0,
            "eval_logps/chosen": -121.2,
            "kl_prose": 0.0,
            "perplexity_prose": 24.317,
            "kl_chat": 0.0,
            "perplexity_chat": 11.42,
        },
        "after": {
            "eval_loss": 0.313262,
            "eval_rewards/accuracies": 0.8516,
            "eval_rewards/margins": 1.0021,
            "eval_logps/chosen": -118.1,
            "kl_prose": 0.000312,
            "perplexity_prose": 24.402,
            "kl_chat": 0.0249,
            "perplexity_chat": 11.97,
        },
        "generations": [
            {
                "prompt": "Why is the sky blue?",
                "before": "The sky is blue because of a phenomenon called Rayleigh scattering. " * 3,
                "after": "Air scatters blue light more than red.",
            },
            {
                "prompt": "Name a prime between 20 and 30.",
                "before": "There are several primes to consider. Let us think.\n\n1. 23\n2. 29",
                "after": "23.",
            },
        ],
        "certificate": {
            "passed": True,
            "checks": [
                {"name": "loads with stock peft", "passed": True, "detail": "largest logit difference 0"},
                {"name": "stays in its read subspace", "passed": True, "detail": "largest residual 3.1e-08 ≤ 1e-06"},
                {"name": "merged model agrees", "passed": True, "detail": "largest logit difference 2.3e-05"},
            ],
        },
        "trainable_parameters": 368640,
        "adapter_bytes": 2964480,
        "train_runtime_s": 261.4,
        "alarms": ["step 22: log-probability of chosen answers fell by 1.5 nats"],
    }


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
