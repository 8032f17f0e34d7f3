"""Runs for pictures of curves and geometry: every figure follows from a formula, so that a picture never changes."""

import json
import math

from tests.tui.screens import NOW, still_run

LAYERS, MODULES, RANK, WIDTH = 30, ("q_proj", "k_proj", "v_proj", "o_proj"), 16, 576
STEPS, SNAPSHOTS = 96, (0, 24, 48, 96)
RESUMED_AT = 60
CHECKS = [
    {"name": name, "passed": True, "detail": "as expected"} for name in ("loads with stock peft", "merged model agrees")
]
ANSWERS = [
    {"prompt": "Why is the sky blue?", "before": "Because of Rayleigh scattering.", "after": "Air scatters blue light."}
]
BASE = {"source": "bundled:smollm2-135m-instruct", "revision": None, "dtype": "float32", "quantization": None}


def measured_run(root, name, level, *, recipe="dpo_readonly", geometry=True):
    """A finished and once resumed alignment whose read fractions are about ``level``; gives its folder back."""
    starts = [0, RESUMED_AT]
    state = {"step": STEPS, "max_steps": STEPS, "segment": 1, "segment_starts": starts, "recipe": recipe}
    path = still_run(root, name, age_s=330.0, **state)
    (path / "recipe.yaml").write_text(f"adapter: {{basis: {recipe}, rank: {RANK}}}\ntrain: {{max_steps: {STEPS}}}\n")
    trained = [_line(step, "train", _trained(step, level)) for step in range(1, STEPS + 1)]
    evaluated = [_line(step, "eval", _evaluated(step / STEPS, level)) for step in range(16, STEPS + 1, 16)]
    (path / "metrics.jsonl").write_text("".join([*trained, *evaluated]))
    if geometry:
        places = [(step, layer, at) for step in SNAPSHOTS for layer in range(LAYERS) for at in range(len(MODULES))]
        lines = (json.dumps(_matrix(*place, level)) + "\n" for place in places)
        (path / "geometry.jsonl").write_text("".join(lines))
    _write_end(path, level)
    return path


def _line(step, kind, values):
    line = {"step": step, "segment": int(step > RESUMED_AT), "time": NOW, "kind": kind, "values": values}
    return json.dumps(line) + "\n"


def _trained(step, level):
    done = step / STEPS
    margin = 2.5 * level * done + 0.3 * math.sin(1.3 * step) * (1 - 0.5 * done)
    return {
        "loss": math.log1p(math.exp(-margin)),
        "learning_rate": 1e-3 * min(1.0, 8 * done) * (1 - 0.9 * done),
        "grad_norm": 2.0 + math.cos(0.9 * step),
        "rewards/chosen": 0.3 * margin,
        "rewards/rejected": -0.7 * margin,
        "rewards/margins": margin,
        "rewards/accuracies": min(1.0, 0.5 + 0.5 * done),
    }


def _evaluated(done, level):
    margin = 2.2 * level * done
    loss = math.log1p(math.exp(-margin))
    return {"eval_loss": loss, "eval_rewards/margins": margin, "kl_prose": 0.01 * done**2, "kl_chat": 0.03 * done**2}


def _matrix(step, layer, at, level):
    """One line of the geometry; at step 0 the update is zero and has no fractions."""
    done, module = step / STEPS, MODULES[at]
    read = max(0.03, level * (0.92 - 0.12 * at - 0.5 * abs(layer / LAYERS - 0.3) + 0.06 * math.sin(1.7 * layer)))
    ks = [1 << exponent for exponent in range(10)] + [WIDTH]
    line = {
        "step": step, "segment": int(step > RESUMED_AT), "time": NOW, "layer": layer, "module": module,
        "path": f"model.layers.{layer}.self_attn.{module}", "shape": [WIDTH, WIDTH], "d_out": WIDTH, "d_in": WIDTH,
        "rank": RANK, "k": RANK, "norm": done * (0.2 + 0.02 * layer), "relative_norm": done * (2 + 0.2 * layer) / 1000,
        "price": 1e-4 * done * (1 + 0.1 * layer),
    }  # fmt: skip
    if not step:
        return line
    energy = 0.55 - 0.005 * layer
    return line | {
        "read_fraction": read,
        "read_isotropic_null": RANK / WIDTH,
        "read_isotropic_p": 1e-30,
        "read_energy_null": energy,
        "read_curve_k": ks,
        "read_curve": [_over_k(read, k) for k in ks],
        "read_energy_curve": [_over_k(energy, k) for k in ks],
        "singular_values": [0.08 * done * math.exp(-0.35 * place) for place in range(RANK)],
        "head_norms": [0.03 * (1 + 0.5 * math.sin(2.3 * head + layer)) for head in range(9)],
    }


def _over_k(at_rank, k):
    """A fraction of k directions that is a given one at the rank, and 1 at the width."""
    return at_rank * (k / RANK) ** 0.55 if k <= RANK else 1 - (1 - at_rank) * (WIDTH - k) / (WIDTH - RANK)


def _write_end(path, level):
    """End table and adapter, as the screens of results and exports read them."""
    end = {
        "before": {"eval_loss": 0.6931, "kl_prose": 0.0}, "generations": ANSWERS,
        "after": {"eval_loss": _evaluated(1.0, level)["eval_loss"], "kl_prose": 0.01},
        "certificate": {"passed": True, "checks": CHECKS},
    }  # fmt: skip
    (path / "summary.json").write_text(json.dumps(end))
    (path / "adapter").mkdir()
    (path / "adapter" / "adapter_model.safetensors").write_bytes(b"0" * 2000)
    (path / "adapter" / "adapter_config.json").write_text(json.dumps({"r": RANK, "target_modules": list(MODULES)}))
    (path / "adapter" / "readwrite_edit.json").write_text(json.dumps({"base": BASE}))
