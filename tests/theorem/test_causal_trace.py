"""A causal trace against full passes in which every replacement is made by hand, one draw of the noise at a time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from readwrite_edit.edit.locate import TracePrompt, trace
from readwrite_edit.edit.locate.runs import PromptRuns, Restoration, sites_of
from readwrite_edit.interventions.controls import seed_of
from readwrite_edit.models.architectures import ARCHITECTURES
from readwrite_edit.models.pathways import find_pathways
from tests.tiny_models import TINY

PROMPT = TracePrompt(ids=(7, 31, 52, 18, 90, 44, 63), subject_positions=(2, 4))
TWO_TOKENS = TracePrompt(ids=(7, 31, 52, 18, 90, 44, 63), subject_positions=(0, 3), target=(5, 77))
KINDS = {"mixtral": ("hidden", "attention")}
SAMPLES = 2


def context_of(name: str) -> Any:
    model = TINY[name]()
    return SimpleNamespace(model=model, pathways=find_pathways(model))


def runs_of(name: str, prompt: TracePrompt = PROMPT) -> PromptRuns:
    context = context_of(name)
    sites = sites_of(context.model, context.pathways, KINDS.get(name, ("hidden", "mlp", "attention")))
    start, stop = prompt.subject_positions
    noise = 0.5 * torch.randn(SAMPLES, stop - start, 48, generator=torch.Generator().manual_seed(3))
    return PromptRuns(context.model, context.pathways, sites, prompt, noise)


class ByHand:
    """Whole passes of one sequence; a module's forward is wrapped to note or to replace what it returns."""

    def __init__(self, name: str, prompt: TracePrompt, noise: torch.Tensor) -> None:
        self.model, self.prompt, self.noise = TINY[name](), prompt, noise
        self.table = ARCHITECTURES[self.model.config.model_type]
        self.clean = self.predict()
        self.outputs: dict[tuple[str, int], torch.Tensor] = {}

    def module(self, kind: str, layer: int) -> torch.nn.Module:
        place = f"{self.table.layers}.{layer}"
        within = {"mlp": "down_proj", "attention": "o_proj"}.get(kind)
        return self.model.get_submodule(f"{place}.{self.table.modules[within]}" if within else place)

    def predict(self, replace: Any = None, draw: int | None = None) -> torch.Tensor:
        """Probabilities after each position; ``replace`` is (module, function of its output)."""
        ids = torch.tensor([self.prompt.ids + self.prompt.target[:-1]])
        wrapped = [] if replace is None else [replace]
        if draw is not None:
            wrapped.append((self.model.get_input_embeddings(), lambda output: self.noised(output, draw)))
        plain = [(module, module.forward) for module, _ in wrapped]
        for module, change in wrapped:
            module.forward = wrapping(module.forward, change)
        with torch.no_grad():
            found = self.model(ids, use_cache=False).logits[0].float().softmax(dim=1)
        for module, forward in plain:
            module.forward = forward
        return found

    def noised(self, output: torch.Tensor, draw: int) -> torch.Tensor:
        start, stop = self.prompt.subject_positions
        output = output.clone()
        output[0, start:stop] += self.noise[draw]
        return output

    def clean_output(self, module: torch.nn.Module) -> torch.Tensor:
        kept: list[torch.Tensor] = []

        def keep(output: Any) -> Any:
            kept.append(first(output).reshape(-1, 48).clone())
            return output

        self.predict((module, keep))
        return kept[0]

    def restored(self, kind: str, layer: int, position: int, draw: int) -> torch.Tensor:
        module = self.module(kind, layer)
        if (kind, layer) not in self.outputs:
            self.outputs[kind, layer] = self.clean_output(module)
        clean = self.outputs[kind, layer]

        def put_back(output: Any) -> Any:
            rows = first(output).clone()
            rows.view(-1, 48)[position] = clean[position]
            return (rows, *output[1:]) if isinstance(output, tuple) else rows

        return self.predict((module, put_back), draw)

    def answers(self, probabilities: torch.Tensor) -> tuple[float, float]:
        """Probability of the target, and KL of the first prediction to the clean one."""
        after, clean = probabilities[len(self.prompt.ids) - 1 :], self.clean[len(self.prompt.ids) - 1]
        target = self.prompt.target or (int(clean.argmax()),)
        product = float(torch.stack([row[token] for row, token in zip(after, target, strict=True)]).prod())
        return product, float((clean * (clean / after[0]).log()).sum())


def first(output: Any) -> torch.Tensor:
    return output[0] if isinstance(output, tuple) else output


def wrapping(forward: Any, change: Any) -> Any:
    return lambda *given, **named: change(forward(*given, **named))


def noise_of(context: Any, prompt: TracePrompt, seed: int, samples: int = SAMPLES) -> torch.Tensor:
    """Three deviations of the entries of the subject's embeddings, drawn as the trace draws them."""
    start, stop = prompt.subject_positions
    with torch.no_grad():
        entries = context.model.get_input_embeddings()(torch.tensor(prompt.ids[start:stop]))
    generator = torch.Generator().manual_seed(seed_of(seed, "noise", 0))
    drawn = torch.randn(samples, stop - start, 48, generator=generator, dtype=torch.float64).float()
    return 3 * float(entries.float().std()) * drawn


@pytest.mark.parametrize(
    ("name", "prompt"),
    [*((name, PROMPT) for name in sorted(TINY)), *((name, TWO_TOKENS) for name in ("llama", "gpt2", "bloom"))],
)
def test_trace_is_what_replacing_by_hand_gives(name: str, prompt: TracePrompt) -> None:
    context, kinds = context_of(name), KINDS.get(name, ("hidden", "mlp", "attention"))
    found = trace(context, [prompt], samples=SAMPLES, kinds=kinds, seed=5)
    slow = ByHand(name, prompt, noise_of(context, prompt, 5))
    assert found.prompts[0].clean == pytest.approx(slow.answers(slow.clean)[0], rel=1e-4)
    noised = [slow.answers(slow.predict(draw=draw)) for draw in range(SAMPLES)]
    wanted = {(kind, layer, position) for kind in kinds for layer in (0, 1) for position in (2, 6)}
    for cell in found.cells:
        if (cell.kind, cell.layer, cell.position) not in wanted:
            continue
        for draw, (p, kl) in enumerate(noised):
            p_restored, kl_restored = slow.answers(slow.restored(cell.kind, cell.layer, cell.position, draw))
            assert float(cell.effect[draw]) == pytest.approx(p_restored - p, rel=1e-3, abs=2e-6)
            assert float(cell.kl_effect[draw]) == pytest.approx(kl - kl_restored, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("name", sorted(TINY))
def test_everything_put_back_is_the_clean_run_and_nothing_the_noised_one(name: str) -> None:
    runs = runs_of(name)
    everywhere = range(len(PROMPT.ids))
    for layer in (0, 1):
        all_of_it, nothing = runs.restored("hidden", [Restoration((layer,), everywhere), Restoration((layer,), ())])[0]
        assert all_of_it.tolist() == pytest.approx([runs.clean] * SAMPLES, rel=1e-4)
        assert nothing.tolist() == pytest.approx(runs.corrupted.probability.tolist(), rel=1e-4)
    assert (runs.corrupted.kl > 1e-4).all() and (runs.corrupted.probability - runs.clean).abs().min() > 1e-5
    assert runs.check_from_layer_on("hidden")


def test_whole_passes_give_what_those_from_the_layer_on_give() -> None:
    runs = runs_of("llama")
    wanted = [Restoration((layer,), (position,)) for layer in (0, 1) for position in (2, 3, 6)]
    from_layer_on = runs.restored("mlp", wanted)
    runs.whole = True
    for some, whole in zip(from_layer_on, runs.restored("mlp", wanted), strict=True):
        assert torch.allclose(some, whole, rtol=1e-4)


def test_nothing_can_be_restored_before_the_subject() -> None:
    runs = runs_of("llama")
    for layer in (0, 1):
        before = runs.restored("hidden", [Restoration((layer,), (0, 1))])
        assert torch.allclose(before.probability[0], runs.corrupted.probability, rtol=1e-4)


def test_a_window_puts_its_layers_back_together() -> None:
    """A window as deep as the model puts the same back around each layer."""

    def at_the_end(window: int) -> list[torch.Tensor]:
        found = trace(context_of("llama"), [PROMPT], samples=1, kinds=("mlp",), window=window)
        return [cell.kl_effect for cell in found.cells if cell.position == len(PROMPT.ids) - 1]

    (below, above), (alone, _) = at_the_end(3), at_the_end(1)
    assert torch.allclose(below, above, atol=1e-6)
    assert (below - alone).abs() > 1e-4


def test_noise_is_of_its_seed_and_a_longer_draw_begins_with_the_shorter() -> None:
    def effects(**options: Any) -> list[list[float]]:
        options = {"kinds": ("hidden",), "samples": 2, "seed": 1, **options}
        return [cell.effect.tolist() for cell in trace(context_of("llama"), [PROMPT], **options).cells]

    assert effects() == effects()
    assert effects() != effects(seed=2)
    longer = [values[:2] for values in effects(samples=3)]
    assert [value for row in longer for value in row] == pytest.approx([v for row in effects() for v in row], abs=1e-6)
