"""associate: facts as tokens, values, lengths, forms, and what a plan reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from readwrite_edit.edit.associate import keys as keys_module
from readwrite_edit.edit.associate import plan_associate
from readwrite_edit.edit.associate.continuations import Continuations, batches
from readwrite_edit.edit.associate.facts import filled, read_facts
from readwrite_edit.edit.associate.finding import find_values, target_directions
from readwrite_edit.edit.associate.insertion import Form
from readwrite_edit.edit.associate.keys import keys_of
from readwrite_edit.edit.associate.lengths import shortest
from readwrite_edit.edit.associate.questions import ask, prefixes
from readwrite_edit.edit.associate.values import log_odds
from readwrite_edit.edit.plan import Plan
from readwrite_edit.errors import EditError
from readwrite_edit.interventions.forward import unedited
from readwrite_edit.statistics import Statistics
from tests.ready_context import ReadyContext, ready_context
from tests.tiny_models import tiny_model, tiny_tokenizer

FACT = {"prompt": "on the cat", "subject": "cat", "target": "!"}
FACTS = [
    {"prompt": "the cat sat on", "subject": "cat", "target": "mat"},
    {"prompt": "the {} ran to", "subject": "dog", "target": "a house", "paraphrases": ["far ran the {} to"]},
    {"prompt": "birds sang by", "subject": "birds", "target": "?", "true": "!", "locality": ["a river by"]},
]


def context_of(model: Any = "llama", **settings: Any) -> ReadyContext:
    own = settings if "facts" in settings else {**FACT, **settings}
    return ready_context(model, associate={"layers": [0], "margin": 0.5, **own})


def asked_of(context: ReadyContext):
    settings = context.recipe.associate
    return ask(context.tokenizer, context.model, read_facts(settings)[0], settings)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_associate(context_of(facts=FACTS, ridge=0.1))


class TestFacts:
    def test_counterfacts_names_are_understood(self, tmp_path: Path) -> None:
        flat = {
            "case_id": 0,
            "prompt": "the cat is",
            "subject": "cat",
            "target_new": "red",
            "ground_truth": "old",
            "rephrase_prompt": "red or old, the cat is",
            "locality_prompt": "the dog is",
        }
        nested = {
            "case_id": 1,
            "requested_rewrite": {
                "prompt": "the {} is",
                "subject": "dog",
                "target_new": {"str": "red", "id": "Q1"},
                "target_true": {"str": "old", "id": "Q2"},
            },
            "paraphrase_prompts": ["a dog is"],
            "neighborhood_prompts": ["a cat is", "a bird is"],
        }
        path = tmp_path / "facts.json"
        path.write_text(json.dumps([flat, nested]))
        first, second = read_facts(context_of(facts=str(path)).recipe.associate)[0]
        assert (first.target, first.true, first.paraphrases) == ("red", "old", ("red or old, the cat is",))
        assert (second.prompt, second.target, second.true) == ("the {} is", "red", "old")
        assert second.locality == ("a cat is", "a bird is")

    def test_lines_and_limit(self, tmp_path: Path) -> None:
        path = tmp_path / "facts.jsonl"
        path.write_text("".join(json.dumps(fact) + "\n" for fact in FACTS))
        assert len(read_facts(context_of(facts=str(path)).recipe.associate)[0]) == 3
        assert len(read_facts(context_of(facts=str(path), limit=2).recipe.associate)[0]) == 2

    def test_repeated_facts_are_merged_with_a_note(self) -> None:
        twice = [{**FACT, "paraphrases": ["one cat"]}, {**FACT, "prompt": "on the {}", "paraphrases": ["two cat"]}]
        facts, notes = read_facts(context_of(facts=twice).recipe.associate)
        assert len(facts) == 1
        assert facts[0].paraphrases == ("one cat", "two cat")
        assert "1 of 2 facts repeat another" in notes[0]

    def test_last_whole_word_is_the_subject(self) -> None:
        assert filled("a cat, the cat in a category", "cat")[1] == 11
        assert filled("the {} by a cat", "cat") == ("the cat by a cat", 4)
        assert filled("concatenate", "cat")[1] == 3


class TestQuestions:
    def test_subjects_last_token_and_target(self) -> None:
        """One token a character: 'the cat sat on', cat at 4 to 6; ' mat' follows with its space."""
        one = asked_of(context_of(facts=FACTS))[0]
        tokenizer = tiny_tokenizer()
        assert one.bare.subject == (4, 6)
        assert tokenizer.decode(one.bare.target) == " mat"
        for prefix, question in zip(prefixes(context_of().recipe.associate), one.contexts, strict=True):
            first, last = question.subject
            assert question.text == f"{prefix} the cat sat on"
            assert tokenizer.decode(question.ids[first : last + 1]) == "cat"

    @pytest.mark.parametrize(
        ("prompt", "target", "expected"),
        [
            ("the cat is", "red", " red"),
            ("the cat is ", "red", " red"),
            ("the cat is", " red", " red"),
            ("the cat", "!", "!"),
            ('the cat says "', "red", "red"),
        ],
    )
    def test_space_before_the_target(self, prompt: str, target: str, expected: str) -> None:
        one = asked_of(context_of(prompt=prompt, target=target))[0]
        assert tiny_tokenizer().decode(one.bare.target) == expected

    def test_chat_puts_the_prompt_into_the_users_mouth(self) -> None:
        one = asked_of(context_of(prompt="who is the cat?", target="red", format="chat"))[0]
        tokenizer = tiny_tokenizer()
        text = tokenizer.decode(one.bare.ids)
        first, last = one.bare.subject
        assert text.startswith("<|im_start|>user") and text.rstrip().endswith("assistant")
        assert tokenizer.decode(one.bare.ids[first : last + 1]) == "cat"
        assert tokenizer.decode(one.bare.target) == "red"

    def test_prefixes_are_a_seeded_choice(self) -> None:
        chosen = [prefixes(context_of(prefixes=4, seed=seed).recipe.associate) for seed in (0, 0, 1)]
        assert chosen[0] == chosen[1] != chosen[2]
        assert len(set(chosen[0])) == 4
        assert prefixes(context_of(prefixes=0).recipe.associate) == ()


class TestKeys:
    def test_key_is_the_mean_of_what_is_read_at_the_subject(self) -> None:
        context = context_of(facts=FACTS)
        asked = asked_of(context)
        projection = context.pathways.select(["down_proj"], [0])[0]
        keys, bare = keys_of(context.model, projection, asked)
        for column, one in enumerate(asked):
            read = []
            for question in (one.bare, *one.contexts):
                with torch.no_grad():
                    whole = unedited(context.model, torch.tensor([question.ids]), [projection])
                read.append(whole.inputs[projection.module][question.subject[1]].double())
            assert (bare[:, column] - read[0]).abs().max() < 1e-5
            assert (keys[:, column] - torch.stack(read).mean(0)).abs().max() < 1e-5

    def test_layers_above_are_not_computed(self) -> None:
        context = context_of()
        calls: list[int] = []
        context.model.model.layers[1].register_forward_hook(lambda *_: calls.append(1))
        keys_of(context.model, context.pathways.select(["down_proj"], [0])[0], asked_of(context))
        assert not calls
        assert issubclass(keys_module.EnoughError, Exception)


class TestValues:
    def test_log_odds_and_their_gradient(self) -> None:
        """Against autograd on log p/(1 − p) and a soft minimum over the tokens of a row."""
        context = context_of(facts=FACTS)
        bare = [one.bare for one in asked_of(context)]
        projection = context.pathways.select(["down_proj"], [0])[0]
        prompts = Continuations(context.model, projection, [bare[0], bare[0]])
        reading = prompts.read(torch.zeros_like(prompts.output))
        value, gradient = log_odds(reading, 2)
        logits = reading.logits.double().requires_grad_(True)
        p = logits.softmax(1).gather(1, reading.tokens[:, None]).squeeze(1)
        odds = (p / (1 - p)).log().view(2, -1)
        expected = -(-odds).logsumexp(1)
        assert (value - expected).abs().max() < 1e-4
        assert (gradient() - torch.autograd.grad(expected.sum(), logits)[0]).abs().max() < 1e-5

    @pytest.mark.parametrize("value", ["closed", "unembedding", "optimised"])
    def test_every_kind_of_value_raises_the_lead(self, value: str) -> None:
        context = context_of(value=value, layers=[1], steps=8)
        projection = context.pathways.select(["down_proj"], [1])[0]
        found = find_values(
            context.model,
            context.pathways,
            projection,
            asked_of(context),
            context.recipe.associate,
            refinements=2,
            advance=lambda _: None,
        )
        assert float(found.margin) > float(found.margin_before) + 1
        assert float(found.step.norm()) <= 4.001 * float(found.usual)

    def test_closed_value_is_shorter_than_the_optimised_one(self) -> None:
        steps = [
            plan_associate(context_of(value=value, layers=[1])).tables["facts"]["residual_norm"][0]
            for value in ("closed", "optimised")
        ]
        assert steps[0] < 1.02 * steps[1]

    def test_few_linear_models_are_used_where_few_are_allowed(self) -> None:
        for most in (1, 3):
            row = plan_associate(context_of(layers=[1], linearisations=most, margin=4.0)).tables["facts"].iloc[0]
            assert row["linearisations"] <= most

    def test_raw_direction_is_the_centred_row_times_the_gain(self) -> None:
        model = tiny_model("gemma2")
        context = context_of(model)
        found = target_directions(context.model, context.pathways, [(7, 9)])
        rows = model.lm_head.weight
        expected = (rows[[7, 9]].mean(0) - rows.mean(0)) * (1 + model.model.norm.weight)
        assert (found[0] - expected).abs().max() < 1e-5

    def test_facts_do_not_depend_on_their_neighbours(self) -> None:
        together, alone = context_of(facts=FACTS), context_of(facts=FACTS[1:2])
        found = []
        for context in (together, alone):
            projection = context.pathways.select(["down_proj"], [0])[0]
            settings, asked = context.recipe.associate, asked_of(context)
            done: list[int] = []
            values = find_values(
                context.model, context.pathways, projection, asked, settings, refinements=1, advance=done.append
            )
            assert done[-1] == len(asked)
            found.append(values.step)
        assert (found[0][1] - found[1][0]).abs().max() < 1e-3

    def test_batches_hold_subjects_of_one_position(self) -> None:
        bare = [one.bare for one in asked_of(context_of(facts=FACTS))]
        groups = batches(bare)
        assert sorted(row for group in groups for row in group) == [0, 1, 2]
        assert all(len({bare[row].subject[1] for row in group}) == 1 for group in groups)
        assert len(batches(bare, whole=True)) == 1


class TestLengths:
    def search(self, slopes: list[float], start: float = 1.0, **options: Any):
        """Margins −3 + slope · length, wanted 2: lengths 5/slope."""
        slope = torch.tensor(slopes)
        self.calls = 0

        def at(lengths: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return -3 + slope[rows] * lengths

        zero = torch.full_like(slope, -3.0)
        settings = {"doublings": 4, "refinements": 8, "known": None, **options}
        return shortest(at, torch.full_like(slope, start), zero, 2.0, **settings)

    def test_lengths_are_found_from_below_and_from_above(self) -> None:
        found = self.search([0.5, 1.0, 40.0])
        assert found.reached.all()
        assert ((found.margin >= 2) & (found.margin <= 2.25)).all()
        assert (found.length - torch.tensor([10, 5, 0.125])).abs().max() < 0.6

    def test_what_is_not_reached_keeps_its_best(self) -> None:
        found = self.search([-1.0, 0.01], doublings=2)
        assert not found.reached.any()
        assert found.length.tolist() == [1.0, 4.0]

    def test_what_leads_already_needs_no_length(self) -> None:
        zero = torch.tensor([3.0])
        found = shortest(
            lambda lengths, rows: lengths, torch.ones(1), zero, 2.0, doublings=1, refinements=1, known=None
        )
        assert found.length.tolist() == [0.0]
        assert found.reached.all()


class TestPlan:
    def test_table_has_a_row_a_fact(self, plan: Plan) -> None:
        table = plan.tables["facts"]
        assert table["subject"].tolist() == ["cat", "dog", "birds"]
        assert table["target_tokens"].tolist() == [4, 8, 1]
        assert (table["margin_value"] > table["margin_before"]).all()
        assert (table["predicted_damage"] - table["residual_norm"] ** 2 / table["key_gain"]).abs().max() < 1e-9

    def test_one_fact_is_hard_and_many_are_ridge(self, plan: Plan) -> None:
        assert plan.figures["ridge"] == 0.1
        assert plan_associate(context_of()).figures["ridge"] == 0
        assert "ridge λ = 0.1" in " ".join(plan.notes)

    def test_hard_form_of_many_meets_every_constraint(self) -> None:
        context = context_of(facts=FACTS, form="hard")
        plan = plan_associate(context)
        keys, _ = keys_of(context.model, plan.changes[0].projection, asked_of(context))
        lengths = (plan.changes[0].update.dense() @ keys).norm(dim=0)
        assert lengths.tolist() == pytest.approx(plan.tables["facts"]["residual_norm"].tolist(), rel=1e-6)

    def test_ridge_scales_with_the_keys(self) -> None:
        """λ = 0.1 · mean kᵀC⁻¹k, whatever the length of keys."""
        plan = plan_associate(context_of(facts=FACTS))
        assert plan.figures["ridge"] == pytest.approx(0.1 * plan.tables["facts"]["key_gain"].mean(), rel=1e-9)

    def test_lone_edit_answers_the_bare_key_with_the_value(self) -> None:
        """Keys are means over contexts, values were found without one: ΔW k₀ = δ."""
        context = context_of()
        projection = context.pathways.select(["down_proj"], [0])[0]
        keys, bare = keys_of(context.model, projection, asked_of(context))
        form = Form(projection, context.metric(projection), 0.0)
        step = torch.randn(1, projection.d_out, generator=torch.Generator().manual_seed(0))
        update = form.update(form.residuals(step, keys, bare).T, keys)
        assert (update.dense() @ bare - step.T).norm() < 1e-6 * step.norm()
        assert (keys - bare).norm() > 0.01 * bare.norm()

    def test_price_of_one_fact_is_the_predicted_damage(self) -> None:
        context = context_of()
        plan = plan_associate(context)
        energy = context.metric(plan.changes[0].projection).energy(plan.changes[0].update)
        assert energy == pytest.approx(plan.tables["facts"]["predicted_damage"][0], rel=1e-9)

    def test_prompts_carry_kinds_targets_and_truths(self, plan: Plan) -> None:
        kinds = [prompt.kind for prompt in plan.prompts if prompt.item == 2]
        assert kinds == ["prompt", "context", "context", "chat", "locality"]
        assert [prompt.kind for prompt in plan.prompts].count("paraphrase") == 1
        own = next(prompt for prompt in plan.prompts if prompt.kind == "prompt" and prompt.item == 2)
        assert tiny_tokenizer().decode(own.true) == "!"
        assert plan.facts[0] == {"prompt": "the cat sat on", "subject": "cat", "target": "mat"}
        assert plan.title == "3 associations (cat → mat, …)"

    def test_effect_is_larger_for_the_edit_than_for_its_opposite(self) -> None:
        plan = plan_associate(context_of(layers=[1]))
        assert plan.effect is not None
        found = plan.effect.measure([plan.changes, [change.scaled(-1) for change in plan.changes]])
        assert found[0, 0] > 0.5
        assert found[0, 0] > found[1, 0]
        assert plan.effect.observations[0].startswith("prompt 0")

    def test_the_form_and_prefixes_are_stated_and_shrinkage_is_left_to_the_price(self, plan: Plan) -> None:
        said = " ".join(plan.notes)
        assert "down_proj: ridge λ = " in said and "shrunk" not in said and plan.figures["shrinkage"] > 0
        assert all(prefix in said for prefix in prefixes(context_of().recipe.associate))

    def test_only_some_of_many_are_followed_with_the_whole_edit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("readwrite_edit.edit.associate.insertion._FOLLOWED", 2)
        plan = plan_associate(context_of(facts=FACTS, ridge=0.1))
        table = plan.tables["facts"]
        assert table["margin_after"].notna().tolist() == [True, True, False]
        assert table["reached"].isna().tolist() == [False, False, True]
        assert "of 2 targets (followed of 3, evenly taken)" in plan.notes[0]

    def test_layer_is_named_by_the_trace_where_none_is_given(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[Any] = []

        def choose(context: Any, prompts: Any, role: str) -> tuple[int, str]:
            asked.extend([*prompts, role])
            return 0, "because"

        monkeypatch.setattr("readwrite_edit.edit.locate.choose_layer", choose)
        plan = plan_associate(context_of(layers="auto"))
        assert plan.why == "because"
        assert plan.changes[0].projection.layer == 0
        assert asked[0].subject_positions == (7, 10) and asked[1] == "down_proj"


class TestNullSpace:
    def test_protected_directions_are_not_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        context = context_of(layers=[1], preserve=["builtin:prose"], preserve_energy=0.5)

        def preserved(texts: Any, readers: Any, *, title: str) -> Statistics:
            return context.statistics(readers)

        monkeypatch.setattr(context, "statistics_of", preserved)
        plan = plan_associate(context)
        C = context.statistics([plan.changes[0].projection]).second_moment(plan.changes[0].projection.site)
        vectors = torch.linalg.eigh(C)[1]
        strongest = vectors[:, -1:]
        update = plan.changes[0].update.dense()
        assert (update @ strongest).norm() < 1e-9 * update.norm()
        row = plan.tables["facts"].iloc[0]
        assert row["margin_after"] > row["margin_before"]
        assert row["key_gain"] is None and "null-space form" in " ".join(plan.notes)


class TestOutliers:
    def test_step_is_no_longer_than_four_outputs(self) -> None:
        row = plan_associate(context_of(layers=[1], margin=200.0, linearisations=40)).tables["facts"].iloc[0]
        assert not row["reached"]
        assert 3.5 * row["output_norm"] < row["step_norm"] < 4.001 * row["output_norm"]

    def test_fact_whose_bare_key_is_unlike_the_mean_is_left_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As at an attention sink: the first of three bare keys is orthogonal (in C⁻¹) to its mean key."""
        context = context_of(facts=FACTS, ridge=0.1)
        whole = keys_of

        def with_a_sink(*given: Any) -> tuple[torch.Tensor, torch.Tensor]:
            keys, bare = whole(*given)
            solved = context.metric(given[1]).solve(keys[:, :1])
            bare[:, :1] -= keys[:, :1] * (solved.T @ bare[:, :1]) / (solved.T @ keys[:, :1])
            return keys, bare

        monkeypatch.setattr("readwrite_edit.edit.associate.insertion.keys_of", with_a_sink)
        plan = plan_associate(context)
        assert (plan.tables["facts"]["residual_norm"] == 0).tolist() == [True, False, False]
        assert any("1 of 3 facts are left out" in note for note in plan.notes)
        alone = context_of(facts=FACTS[:1])
        context = alone
        with pytest.raises(EditError, match="put words before"):
            plan_associate(alone)
