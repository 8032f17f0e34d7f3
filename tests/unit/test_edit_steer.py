"""steer: what is added at the pattern, what is refused, and the effect."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from readwrite_edit.edit.effects import TargetEffect
from readwrite_edit.edit.plan import Plan
from readwrite_edit.edit.steer import plan_steer
from readwrite_edit.edit.steer_effect import StreamEffect
from readwrite_edit.errors import EditError, ModelError
from readwrite_edit.interventions.forward import edited, layers_of, unedited
from tests.ready_context import ReadyContext, ready_context
from tests.tiny_models import tiny_model, tiny_tokenizer

PROMPTS = ("the cat sat on it", "a dog and the cat ran")
AT = (6, 16)  # one token a character: the "t" of "cat"


def prepared(model="llama", **changed) -> ReadyContext:
    options = {"prompts": PROMPTS, "key": "cat", "layer": 0, "direction": {"token": "x"}, **changed}
    return ready_context(model, steer=options)


def direction_file(tmp_path, rows: torch.Tensor) -> dict:
    save_file({"direction": rows}, tmp_path / "direction.safetensors")
    return {"file": str(tmp_path / "direction.safetensors")}


def layer_outputs(context: ReadyContext, plan: Plan, prompt: str, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What a layer hands on without and with the edit, (time, d_model) each."""
    ids, found = torch.tensor([tiny_tokenizer()(prompt)["input_ids"]]), []
    hook = layers_of(context.model)[layer].register_forward_hook(
        lambda _module, _inputs, output: found.append((output[0] if isinstance(output, tuple) else output)[0])
    )
    with torch.no_grad():
        for variant in ((), plan.changes):
            with edited(context.model, [variant]):
                context.model(ids)
    hook.remove()
    return found[0], found[1]


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("strength", [3.0, -1.5])
def test_the_direction_is_added_at_the_pattern(tmp_path, name: str, strength: float) -> None:
    """On one prompt the gate is exactly 1, and down_proj writes straight into what the layer hands on."""
    raw = torch.randn(48, generator=torch.Generator().manual_seed(3))
    context = prepared(name, prompts=PROMPTS[0], direction=direction_file(tmp_path, raw), strength=strength)
    plan = plan_steer(context)
    projection = plan.changes[0].projection
    ids = torch.tensor([tiny_tokenizer()(PROMPTS[0])["input_ids"]])
    module, wrote = context.model.get_submodule(projection.module), []
    hook = module.register_forward_hook(lambda _module, _inputs, output: wrote.append(output))
    with torch.no_grad():
        context.model(ids)
    hook.remove()
    unit = float(wrote[0].view(1, -1, 48)[0, 6].norm())
    assert plan.figures["unit"] == pytest.approx(unit, rel=1e-5)
    before, after = layer_outputs(context, plan, PROMPTS[0], 0)
    assert torch.allclose((after - before)[6], strength * unit * raw / raw.norm(), atol=1e-4 * unit)


def test_the_gate_is_one_in_the_mean_and_small_elsewhere() -> None:
    context = prepared(without=("a bird", "red"))
    plan = plan_steer(context)
    table, change = plan.tables["patterns"], plan.changes[0]
    assert list(table.kind) == ["prompt"] * 2 + ["locality"] * 2 and list(table.prompt) == [0, 1, 0, 1]
    assert list(table.token[:2]) == list(AT) and table.token[2:].isna().all()
    gates = []
    for prompt, at in zip(PROMPTS, AT, strict=True):
        ids = torch.tensor([tiny_tokenizer()(prompt)["input_ids"]])
        with torch.no_grad():
            x = unedited(context.model, ids, [change.projection]).inputs[change.projection.module].double()
        gate = x @ change.update.A[0]
        others = torch.cat([gate[:at], gate[at + 1 :]]).abs()
        gates.append((float(gate[at]), float(others.mean()), float(others.max())))
    columns = ["gate", "gate_elsewhere", "gate_elsewhere_max"]
    assert table[columns].iloc[:2].to_numpy().ravel() == pytest.approx([n for row in gates for n in row], abs=1e-5)
    assert table.gate[:2].mean() == pytest.approx(1, abs=1e-6) and table.gate[2:].isna().all()
    assert (table.gate_elsewhere[2:] < 1).all()
    length = float(change.update.B.norm())
    assert length == pytest.approx(4 * plan.figures["unit"]) == pytest.approx(plan.figures["length"])


def test_a_token_is_measured_by_its_probability_and_the_sign_of_what_was_wanted() -> None:
    plan, opposite = plan_steer(prepared(strength=2.0)), plan_steer(prepared(strength=-2.0))
    assert isinstance(plan.effect, TargetEffect)
    token = tiny_tokenizer()("x")["input_ids"]
    assert [prompt.target for prompt in plan.prompts] == [tuple(token)] * 2
    model = tiny_model("llama")
    for one, prompt in enumerate(PROMPTS):
        ids, logs = torch.tensor([tiny_tokenizer()(prompt)["input_ids"]]), []
        for variant in ((), plan.changes):
            with torch.no_grad(), edited(model, [variant]):
                logs.append(model(ids).logits[0, -1].log_softmax(0)[token[0]])
        assert float(plan.effect.measure([plan.changes])[0, one]) == pytest.approx(float(logs[1] - logs[0]), abs=1e-4)
        assert torch.allclose(opposite.effect.measure([plan.changes]), -plan.effect.measure([plan.changes]))


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2"])
def test_another_direction_is_measured_by_the_cosine_of_the_final_stream(tmp_path, name: str) -> None:
    raw = torch.randn(48, generator=torch.Generator().manual_seed(3))
    context = prepared(name, direction=direction_file(tmp_path, raw))
    plan = plan_steer(context)
    assert isinstance(plan.effect, StreamEffect) and not any(prompt.target for prompt in plan.prompts)
    found = plan.effect.measure([(), plan.changes])
    assert found[0].tolist() == pytest.approx([0, 0], abs=1e-6)
    for one, (prompt, at) in enumerate(zip(PROMPTS, AT, strict=True)):
        streams = [states[at] for states in layer_outputs(context, plan, prompt, 1)]
        centred = [stream - stream.mean() if name == "gpt2" else stream for stream in streams]
        before, after = (float(torch.cosine_similarity(stream, raw, dim=0)) for stream in centred)
        assert float(found[1, one]) == pytest.approx(after - before, abs=1e-4) and abs(after - before) > 0.1


def test_without_a_key_it_acts_at_the_end() -> None:
    plan = plan_steer(prepared(key=None, format="chat"))
    assert list(plan.tables["patterns"].token) == [len(prompt.ids) - 1 for prompt in plan.prompts]


def test_behind_a_norm_it_says_that_length_is_lost() -> None:
    """Gemma 2 norms what down_proj writes before it is added."""
    context = prepared("gemma2", prompts=PROMPTS[0], strength=300.0, direction={"prediction": 1})
    plan = plan_steer(context)
    assert any("norm" in note for note in plan.notes)
    before, after = layer_outputs(context, plan, PROMPTS[0], 0)
    assert float((after - before)[6].norm()) < 0.2 * plan.figures["length"]


@pytest.mark.parametrize(
    ("changed", "kind", "message"),
    [
        ({"key": "horse"}, EditError, "pattern 'horse': not in the prompt"),
        ({"strength": 0.0}, EditError, "strength 0"),
        ({"layer": 2}, ModelError, "layers 0 to 1"),
        ({"direction": {"principal": 2}}, EditError, "2 directions; steer adds one"),
        ({"direction": {"token": "two"}}, EditError, "is 3 tokens"),
        ({"prompts": "the cat" + " ran" * 99}, EditError, "403 tokens, the model 256 positions"),
    ],
)
def test_what_can_not_be_done_is_refused(changed: dict, kind: type, message: str) -> None:
    with pytest.raises(kind, match=message):
        plan_steer(prepared(**changed))


def test_a_matrix_that_writes_nothing_is_refused() -> None:
    model = tiny_model("llama")
    layers_of(model)[0].mlp.down_proj.weight.data.zero_()
    with pytest.raises(EditError, match="writes nothing"):
        plan_steer(prepared(model))
