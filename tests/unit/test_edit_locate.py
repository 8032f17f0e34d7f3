"""`edit locate`: where the subject lies, which layer is named and why, what the tables hold, what is refused."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from readwrite_edit.edit.locate import TracePrompt, choose_layer, locate, trace, trace_prompt
from readwrite_edit.edit.locate.choice import verdict
from readwrite_edit.edit.locate.runs import Answers
from readwrite_edit.edit.locate.tables import layers_table
from readwrite_edit.edit.locate.trace import Restored, Trace, Traced, place_of, window_of
from readwrite_edit.edit.settings.locate import LocateSettings
from readwrite_edit.errors import DataError, ModelError, RecipeError
from readwrite_edit.models.pathways import find_pathways
from tests.small_runs import write_model
from tests.tiny_models import TINY, tiny_tokenizer

PROMPT = TracePrompt(ids=(7, 31, 52, 18, 90, 44, 63), subject_positions=(2, 5))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_model(tmp_path_factory.mktemp("model")))


def context_of(name: str) -> Any:
    model = TINY[name]()
    return SimpleNamespace(model=model, pathways=find_pathways(model))


def made_up(*kl_effects: list[float], kl: float = 2.0) -> Trace:
    """One prompt whose MLP outputs at the subject's last token have the given effects, a list of draws per layer."""
    draws = len(kl_effects[0])
    corrupted = Answers(torch.full((draws,), 0.25, dtype=torch.float64), torch.full((draws,), kl, dtype=torch.float64))
    cells = tuple(
        Restored(0, "mlp", layer, 4, torch.zeros(draws), torch.tensor(effects, dtype=torch.float64))
        for layer, effects in enumerate(kl_effects)
    )
    return Trace((Traced(PROMPT, (1,), 0.75, corrupted),), cells, 3.0, draws, 1, from_layer_on=True)


def test_subject_and_target_become_positions_and_tokens() -> None:
    tokenizer = tiny_tokenizer()
    found = trace_prompt(tokenizer, "the cat is", "cat", "red")
    assert found.subject_positions == (4, 7) and found.text == "the cat is"
    assert tokenizer.decode(found.ids) == "the cat is" and tokenizer.decode(found.target) == " red"
    assert trace_prompt(tokenizer, "the {} is a cat", "cat").subject_positions == (4, 7)
    assert (
        trace_prompt(tokenizer, "the cat is ", "cat", "red").target
        == trace_prompt(tokenizer, "the cat is", "cat", "red").target[1:]
    )


@pytest.mark.parametrize(
    ("prompt", "subject", "message"),
    [
        ("the dog is", "cat", "subject 'cat' is not in the prompt 'the dog is'"),
        ("a cat is a cat", "cat", r"2 times in the prompt.*write \{\} where the one that is meant goes"),
        ("\x1b[31m", "cat", r"\\x1b"),
    ],
)
def test_subject_that_does_not_stand_in_the_prompt_once_is_refused(prompt: str, subject: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        trace_prompt(tiny_tokenizer(), prompt, subject)


def test_every_position_has_its_place() -> None:
    places = [place_of(PROMPT, position) for position in range(7)]
    assert places == ["before", "before", "first_subject", "middle_subject", "last_subject", "further", "last"]
    at_the_end = TracePrompt(ids=(7, 31, 52), subject_positions=(2, 3))
    assert place_of(at_the_end, 2) == "last_subject"
    with pytest.raises(DataError, match="positions 5 to 7 of 7 tokens"):
        TracePrompt(ids=PROMPT.ids, subject_positions=(5, 8))


def test_window_lies_around_its_layer_and_ends_with_the_model() -> None:
    assert window_of(3, range(8), 1) == [3]
    assert window_of(3, range(8), 4) == [1, 2, 3, 4]
    assert window_of(0, range(8), 5) == [0, 1, 2] and window_of(7, range(8), 5) == [5, 6, 7]


def test_verdict_names_the_largest_effect_with_its_error_and_the_next() -> None:
    """Draws 0.4, 0.6: mean 0.5, standard deviation √0.02, standard error 0.1."""
    found = made_up([0.1, 0.1], [0.4, 0.6], [0.2, 0.3])
    layer, sentence = verdict(found, layers_table(found), "mlp")
    assert layer == 1
    assert "MLP output of layer 1" in sentence and "restores 0.5 ± 0.1 of the 2 nats" in sentence
    assert "the most of 3 layers (next: layer 2, 0.25)" in sentence and "1 prompt, 2 draws" in sentence
    assert "stands out" not in sentence


@pytest.mark.parametrize("effects", [([0.0, 0.1], [-0.5, 1.0]), ([-0.1, -0.1], [-0.3, -0.3])])
def test_verdict_says_that_no_layer_stands_out(effects: tuple[list[float], ...]) -> None:
    found = made_up(*effects)
    assert "no layer stands out (under twice the standard error)" in verdict(found, layers_table(found), "mlp")[1]


def test_layers_are_means_over_prompts_of_means_over_positions() -> None:
    found = trace(context_of("llama"), [PROMPT, TracePrompt((5, 6, 7, 8), (1, 2))], samples=2, kinds=("hidden",))
    table = layers_table(found).set_index(["layer", "place"])
    assert table.loc[(0, "middle_subject"), "n_prompts"] == 1 and table.loc[(0, "last_subject"), "n_prompts"] == 2
    means = [
        float(cell.effect.mean()) for cell in found.cells if cell.layer == 0 and cell.position == (4, 1)[cell.prompt]
    ]
    row = table.loc[(0, "last_subject")]
    assert row["effect"] == pytest.approx(sum(means) / 2)
    assert row["standard_error"] == pytest.approx(abs(means[0] - means[1]) / 2)
    kl = sum(traced.kl for traced in found.prompts) / 2
    assert row["recovered_fraction"] == pytest.approx(row["kl_effect"] / kl)
    single = trace(context_of("llama"), [PROMPT], samples=1, kinds=("hidden",))
    assert math.isnan(layers_table(single)["standard_error"][0])


@pytest.mark.parametrize(("role", "kind"), [("down_proj", "mlp"), ("o_proj", "attention")])
def test_chosen_layer_is_the_trace_s_own_for_that_matrix(role: str, kind: str) -> None:
    context = context_of("llama")
    layer, sentence = choose_layer(context, [PROMPT], role)
    found = trace(context, [PROMPT], samples=4, kinds=(kind,))
    rows = layers_table(found).query("place == 'last_subject'").reset_index()
    assert layer == rows["layer"][rows["kl_effect"].idxmax()]
    assert sentence.startswith("causal trace: ") and f"layer {layer}" in sentence


def test_at_most_eight_prompts_are_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def noting(_context: Any, prompts: Any, **options: Any) -> Trace:
        given.append((list(prompts), options["samples"], options["window"]))
        return made_up([0.1], [0.2])

    monkeypatch.setattr("readwrite_edit.edit.locate.choice.trace", noting)
    for count, n_layers in ((1, 2), (3, 24), (8, 30), (1000, 80)):
        context: Any = SimpleNamespace(pathways=SimpleNamespace(n_layers=n_layers))
        choose_layer(context, [TracePrompt((i, 1), (0, 1)) for i in range(count)], "down_proj")
    found = [(len(prompts), samples, window) for prompts, samples, window in given]
    assert found == [(1, 4, 1), (3, 2, 3), (8, 1, 5), (8, 1, 13)]  # windows of a sixth of the layers, odd
    assert [prompt.ids[0] for prompt in given[-1][0]][:3] == [0, 125, 250]


def test_experts_and_missing_matrices_are_refused_with_the_reason() -> None:
    with pytest.raises(ModelError, match=r"kind 'mlp' can not be traced.*experts are three-dim.*leave it out"):
        choose_layer(context_of("mixtral"), [PROMPT], "down_proj")
    partly = trace(context_of("qwen3_moe"), [PROMPT], samples=1, kinds=("mlp",))
    assert {cell.layer for cell in partly.cells} == {0}  # its only dense layer
    with pytest.raises(DataError, match="no prompts to trace"):
        choose_layer(context_of("llama"), [], "o_proj")
    with pytest.raises(DataError, match="no prompts to trace"):
        trace(context_of("llama"), [])


def test_locate_gives_tables_a_verdict_and_figures(model: str) -> None:
    options = {"prompt": ("the cat is", "a dog is"), "subject": ("cat", "dog"), "samples": 2}
    found = locate(model, **options)
    assert found.main == "layers" and set(found.tables) == {"layers", "trace", "traced"}
    table = found.tables["trace"]
    one = table[(table.prompt == 0) & (table.kind == "mlp") & (table.layer == 1)]
    assert list(one.token) == list("cat is") and list(one.position) == list(range(4, 10))
    assert set(table.kind) == {"hidden", "mlp", "attention"}
    assert found.figures["layer"] in (0, 1) and f"layer {found.figures['layer']}" in str(found.verdict)
    traced = found.tables["traced"]
    assert list(traced.subject) == ["cat", "dog"] and not traced.given.any()
    assert found.figures["clean_probability"] == pytest.approx(traced.clean_probability.mean())
    assert "the model's own first choice" in found.notes[0]
    assert "the target that was given" in locate(model, **options, target="sat", kinds=("hidden",)).notes[0]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"prompt": ("a", "b", "c"), "subject": ("a", "b")}, RecipeError, "2 given for 3 prompts"),
        ({"prompt": "the cat", "subject": "cat", "target": ("a", "b")}, RecipeError, "2 given for 1 prompts"),
        ({"prompt": "the cat", "subject": "cat", "noise": 0.0}, RecipeError, "noise"),
        ({"prompt": "the cat", "subject": "cat", "kinds": ("heads",)}, RecipeError, "kinds"),
        ({"subject": "cat"}, RecipeError, "prompt"),
        ({"prompt": "the cat", "subject": "dog"}, DataError, "'dog' is not in the prompt"),
    ],
)
def test_wrong_options_are_refused(model: str, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        locate(model, **options)


def test_settings_are_read_back_as_they_were_written() -> None:
    settings = LocateSettings.checked({"model": "m", "prompt": ["a b", "a c"], "subject": "a"})
    assert LocateSettings.model_validate(settings.model_dump(mode="json")) == settings
