"""What is chosen by is never reported, what is reported is never chosen by; and the checks of fairness."""

from dataclasses import replace

import numpy as np
import pytest

from readwrite_edit.compare.arms import LeftOut, Run
from readwrite_edit.compare.fairness import fairness, require_comparable
from readwrite_edit.compare.measured import measure, part_of
from readwrite_edit.compare.points import points_of
from readwrite_edit.compare.selection import best_values, chosen_runs
from readwrite_edit.errors import DataError
from tests.compared_runs import evaluations_of
from tests.unit.test_compare_matched import run

LARGE, SMALL = "lr3e-2", "lr1e-2"


def changed(one, part, *, gain=1.0, cost=1.0):
    """A run whose gains and costs are multiplied on a part of rows and sequences alone."""
    evaluations = []
    for each in one.evaluations:
        rows = set(part_of(each.rows.ids, part))
        chosen = (
            ref + (value - ref) * (gain if at in rows else 1.0)
            for at, (value, ref) in enumerate(zip(each.rows.chosen, each.rows.reference_chosen, strict=True))
        )
        texts = {}
        for name, text in each.texts.items():
            there = set(part_of(text.ids, part))
            texts[name] = replace(text, kl=tuple(v * (cost if at in there else 1.0) for at, v in enumerate(text.kl)))
        rows_after = replace(each.rows, chosen=tuple(chosen), rejected=each.rows.reference_rejected)
        evaluations.append(replace(each, rows=rows_after, texts=texts))
    return replace(one, evaluations=tuple(evaluations))


def candidates():
    return [run("a", chosen=SMALL), replace(run("a", gain=1.5), chosen=LARGE)]


def test_the_value_with_more_gain_at_a_common_cost_is_chosen():
    assert best_values(candidates()) == {"a": LARGE}
    dear = [run("a", chosen=SMALL), run("a", gain=1.5, cost=0.1, chosen=LARGE), run("b")]
    assert best_values(dear)["a"] == SMALL, "1.5 at ten times the cost is 0.47 at equal cost"


def test_reported_rows_do_not_choose_and_selection_rows_do():
    small, large = candidates()
    assert best_values([small, changed(large, "report", gain=0.01, cost=9.0)]) == {"a": LARGE}
    assert best_values([small, changed(large, "selection", gain=0.01)]) == {"a": SMALL}
    assert best_values([small, changed(large, "selection", cost=10.0), run("b")])["a"] == SMALL


def test_selection_rows_are_not_reported():
    one = run("a")
    for part, same in (("selection", True), ("report", False)):
        other = changed(one, part, gain=7.0, cost=5.0)
        points = [points_of(each.evaluations, arm="a", seed=0) for each in (one, other)]
        assert (points[0] == points[1]) is same
        measured = [measure(each.evaluations, "loss", "report") for each in (one, other)]
        assert np.array_equal(measured[0].gains, measured[1].gains) is same
        assert np.array_equal(measured[0].kl["chat"], measured[1].kl["chat"]) is same


def test_the_parts_are_a_third_and_the_rest_and_go_by_content_not_by_place():
    ids = evaluations_of(rows=12)[0].rows.ids
    chosen, reported = part_of(ids, "selection"), part_of(ids, "report")
    assert (len(chosen), len(reported)) == (4, 8) and not set(chosen) & set(reported)
    turned = ids[::-1]
    assert {turned[at] for at in part_of(turned, "selection")} == {ids[at] for at in chosen}
    assert part_of(ids[:2], "selection").tolist() == part_of(ids[:2], "report").tolist() == [0, 1]


def test_all_seeds_of_the_chosen_value_are_reported_and_no_other():
    runs = [*candidates(), run("a", 1, gain=1.5, chosen=LARGE), run("b"), run("b", 1)]
    kept, chosen = chosen_runs(runs)
    assert chosen == {"a": LARGE} and [(one.arm, one.seed) for one in kept] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]


def test_a_sweep_chooses_among_its_own_runs(tmp_path):
    """The dearer value loses at the budget of its own sweep; beside a sweep of large budgets it would win."""
    made = [run("a", chosen=SMALL), run("a", gain=1.5, cost=0.1, chosen=LARGE), run("b")]
    own = [replace(one, sweep=tmp_path / "one") for one in made]
    others = [replace(run(f"x{n}", cost=50.0), sweep=tmp_path / "two") for n in range(9)]
    assert best_values([*own, *others])["a"] == LARGE
    assert chosen_runs([*own, *others])[1] == chosen_runs(own)[1] == {"a": SMALL}


# ---- fairness


def check(name, runs, **other):
    found = {one.name: one for one in fairness(runs, **({"chosen": {}, "tried": {}, "planned": {}} | other))}
    return found[name]


def pair(**second) -> list[Run]:
    recipe = {"data.path": "rows.jsonl", "train.max_steps": 15, "train.learning_rate": 0.01}
    one, other = (replace(run(arm), recipe=recipe, base="0" * 64, data="1" * 64) for arm in ("a", "b"))
    return [one, replace(other, **second)]


@pytest.mark.parametrize(
    ("name", "second"),
    [
        ("same base", {"base": "1" * 64}),
        ("same rows in training", {"recipe": {"data.path": "other.jsonl", "train.max_steps": 15}}),
        ("same rows in training", {"data": "2" * 64}),
        ("same rows in training", {"recipe": {"data.path": "rows.jsonl", "train.max_steps": 30}}),
        ("same steps", {"evaluations": tuple(evaluations_of(steps=(3, 15)))}),
        ("kept apart", {"evaluations": tuple(evaluations_of(shared=0.3))}),
    ],
)
def test_each_check_can_fail(name, second):
    assert check(name, pair()).passed is True
    assert check(name, pair(**second)).passed is False


def test_what_runs_do_not_say_is_unknown():
    assert check("same base", pair(base="")).passed is None
    assert check("same rows in training", pair(data="")).passed is None
    bare = tuple(replace(one, shared={}) for one in evaluations_of())
    assert check("kept apart", pair(evaluations=bare)).passed is None


def test_seeds_that_an_arm_lacks_are_said():
    found = check("same seeds", [*pair(), replace(pair()[0], seed=1)])
    assert found.passed is False and "only seeds 0" in found.detail and "a have more" in found.detail


def test_a_choice_says_how_many_there_were():
    made = {"chosen": {"a": "lr1"}, "tried": {"a": 3}}
    whole, short = (check("chosen apart", pair(), **made, planned={"a": count}) for count in (3, 4))
    assert whole.passed and "a: lr1 of 3)" in whole.detail
    assert not short.passed and "from fewer values than were planned (a: lr1 of 3, planned 4)" in short.detail


def test_runs_that_are_missing_are_said_and_those_that_another_stands_for_are_not_missing():
    twice = LeftOut(name="copy", reason="it has the arm and the seed of a", twice=True)
    assert check("every run", pair(), left_out=[twice]).passed is True
    found = check("every run", pair(), left_out=[LeftOut(name="c_s0", reason="it failed"), twice])
    assert found.passed is False and found.detail == "1 run left out: c_s0: it failed"


def test_an_arm_without_a_run_to_choose_by_is_not_reported():
    runs = [run("a", 1, chosen=SMALL), run("a", 1, chosen=LARGE), run("b"), run("b", 1)]
    kept, chosen = chosen_runs(runs)
    assert {one.arm for one in kept} == {"b"} and chosen == {}


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({"names": "x"}, "held-out rows"),
        ({"texts": ("prose",)}, "texts (chat in one of them alone)"),
        ({"sequences": 5}, "sequences of the text prose"),
    ],
)
def test_runs_that_can_not_be_paired_are_refused(made, words):
    with pytest.raises(DataError, match=r"a_s0 and b_s0 were evaluated with different ") as caught:
        require_comparable([run("a"), run("b", **made)])
    assert words in str(caught.value)


def test_another_beta_is_refused():
    other = tuple(replace(one, beta=0.1) for one in evaluations_of())
    with pytest.raises(DataError, match="β"):
        require_comparable([run("a"), replace(run("b"), evaluations=other)])
