"""Arms at equal cost and gain on fabricated paths whose answers are known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from readwrite_edit.compare.arms import Run
from readwrite_edit.compare.holm import holm
from readwrite_edit.compare.matched import Resamples, common_seeds, two_sided
from tests.compared_runs import evaluations_of


def run(arm, seed=0, *, luck=1.0, chosen="", **made):
    made = {"gain": 1.0, "cost": 0.01} | made
    evaluations = evaluations_of(**{**made, "gain": made["gain"] * luck}, seed=seed)
    return Run(
        name=f"{arm}_s{seed}", arm=arm, chosen=chosen, seed=seed, path=Path(arm), sweep=None,
        evaluations=tuple(evaluations), recipe={}, base="", data="",
        parameters=None, adapter_bytes=None, duration_s=None,
    )  # fmt: skip


def arms(*, seeds=3, **by_arm):
    lucks = 1 + 0.1 * np.random.default_rng(0).standard_normal(seeds)
    return [run(arm, seed, luck=lucks[seed], **made) for arm, made in by_arm.items() for seed in range(seeds)]


def of(found, arm):
    return next(one for one in found if one.arm == arm)


def test_identical_arms_differ_by_nothing():
    resamples = Resamples(arms(a={}, b={}), baseline="a", draws=200)
    budget, level = of(resamples.at_budget("prose", 0.005), "b"), of(resamples.at_level("prose", 0.5), "b")
    assert budget.difference == (0, 0, 0) and budget.p == budget.p_holm == 1
    assert level.ratio == (1, 1, 1) and level.p == 1


def test_an_arm_of_twice_the_gain_has_twice_the_gain_at_equal_cost_and_a_quarter_of_the_cost_at_equal_gain():
    resamples = Resamples(arms(a={}, b={"gain": 2.0}), baseline="a", draws=400)
    found = of(resamples.at_budget("prose", 0.005), "b")
    base = of(resamples.at_budget("prose", 0.005), "a")
    assert found.gain.value == pytest.approx(2 * base.gain.value, rel=1e-5)
    assert found.difference.low > 0 and found.p < 0.01
    level = of(resamples.at_level("prose", 0.4), "b")
    assert level.ratio.value == pytest.approx(0.25, rel=1e-4)
    assert level.ratio.low == pytest.approx(0.25, rel=1e-4), "paired: what rows and seeds have in common cancels"
    assert base.difference is None and base.p is None


def test_what_lies_before_the_first_evaluation_is_assumed():
    """Of steps 5, 10 and 15 the first has a third of the gain and a ninth of the cost, mean over seeds or not."""
    resamples = Resamples(arms(seeds=1, a={"spread": 0.0}, b={"spread": 0.0, "cost": 0.09}), baseline="a", draws=100)
    first = resamples.arms["a"][0]
    cost, gain = float(first.mean_costs("prose")[0]), float(first.mean_gains()[0])
    for share, assumed in ((0.5, 1.0), (1.0, 0.0), (2.0, 0.0)):
        assert of(resamples.at_budget("prose", share * cost), "a").assumed == assumed
        assert of(resamples.at_level("prose", share * gain), "a").assumed == assumed
    assert of(resamples.at_budget("prose", cost), "b").assumed == 1, "its own first evaluation costs nine times as much"
    never = of(resamples.at_level("prose", 99.0), "a")
    assert never.assumed == 0 and never.reached == 0


def test_nothing_is_tested_where_one_of_two_has_not_been():
    found = Resamples(arms(a={}, b={"cost": 0.001}, c={"gain": 0.2}), baseline="a", draws=100)
    spent_less = of(found.at_budget("prose", 0.005), "b")
    assert spent_less.reached == 0 and spent_less.difference is None and spent_less.p is spent_less.p_holm is None
    assert of(found.at_budget("prose", 0.005), "c").p_holm == of(found.at_budget("prose", 0.005), "c").p
    never = of(found.at_level("prose", 0.5), "c")
    assert never.reached == 0 and np.isinf(never.cost.value) and never.ratio is None and never.p is None
    assert of(found.at_level("prose", 0.5), "b").ratio.value < 1


def test_nothing_is_tested_against_a_baseline_that_has_not_been_there():
    found = Resamples(arms(a={"gain": 0.1}, b={}), baseline="a", draws=100)
    assert of(found.at_level("prose", 0.5), "b").ratio is None
    assert of(Resamples(arms(a={"cost": 1e-4}, b={}), baseline="a", draws=100).at_budget("prose", 0.005), "b").p is None


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    """500 rows of spread 1 about a mean of 1: 95 % of intervals of the mean hold it; 60 tries miss 3 in the mean."""
    missed = 0
    for number in range(60):
        margins = np.random.default_rng(number).standard_normal(60)
        own = run("a", 0, rows=60, spread=0.0)
        shifted = [
            replace(one, rows=replace(one.rows, chosen=tuple(np.array(one.rows.chosen) + margins))) if at == 2 else one
            for at, one in enumerate(own.evaluations)
        ]
        found = Resamples([replace(own, evaluations=tuple(shifted))], baseline="a", draws=300)
        low, high = found.at_budget("prose", 0.01)[0].gain[1:]
        missed += not low <= 1.0 <= high
    assert missed <= 9, f"{missed} of 60 intervals miss the truth"


def test_rows_without_a_difference_give_p_values_that_are_not_small():
    """Two arms of the same mean gain whose rows differ by chance alone: few p-values below 0.05."""
    small = 0
    for number in range(40):
        one = run("a", 0, rows=60, spread=0.0)
        noise = np.random.default_rng(number).standard_normal(60)
        other = [
            replace(each, rows=replace(each.rows, chosen=tuple(np.array(each.rows.chosen) + noise)))
            for each in run("b", 0, rows=60, spread=0.0).evaluations
        ]
        found = Resamples([one, replace(one, arm="b", evaluations=tuple(other))], baseline="a", draws=300)
        p = of(found.at_budget("prose", 0.0099), "b").p
        small += p < 0.05
    assert small <= 7, f"{small} of 40 tests of nothing reject"


def test_draws_in_which_neither_arm_has_a_gain_widen_the_interval_and_raise_p():
    """About half the draws fall short of the mean gain in the end: there the ratio could be anything."""
    found = Resamples(arms(seeds=1, a={}, b={"cost": 0.001}), baseline="a", draws=400)
    end = found.at_budget("prose", 1.0)[0].gain.value
    at = of(found.at_level("prose", 0.999 * end), "b")
    assert at.ratio.value == pytest.approx(0.1, rel=1e-3) and at.ratio[1:] == (0.0, np.inf) and at.p > 0.5
    near = of(found.at_level("prose", 0.5 * end), "b")
    assert near.ratio.low == pytest.approx(0.1, rel=1e-3) and near.ratio.high == pytest.approx(0.1, rel=1e-3)


def test_figures_are_means_over_seeds_and_only_of_those_that_all_arms_have():
    runs = [run("a", 0), run("a", 1, luck=3.0), run("b", 1), run("b", 2)]
    assert common_seeds(runs) == (1,)
    found = of(Resamples(runs, baseline="a", draws=100).at_budget("prose", 0.0099), "a")
    assert found.gain.value == pytest.approx(3.0, rel=0.25)


def test_the_same_draws_are_taken_each_time():
    first, second = (Resamples(arms(a={}, b={"gain": 1.1}), baseline="a", draws=150) for _ in range(2))
    assert first.at_budget("chat", 0.004) == second.at_budget("chat", 0.004)


def test_p_is_two_sided_never_0_and_1_where_the_sign_is_unknown():
    assert two_sided(np.ones(999)) == two_sided(-np.ones(999)) == 2 / 1000
    assert two_sided(np.full(9, np.nan)) == 1 and two_sided(np.zeros(9)) == 1
    assert two_sided(np.array([1.0, -1.0] * 50)) == 1


def test_holm_multiplies_by_the_tests_that_are_left_and_never_falls():
    """0.01 × 3 = 0.03; 0.02 × 2 = 0.04; 0.03 × 1 = 0.03, raised to 0.04."""
    assert holm([0.03, 0.01, np.nan, 0.02]) == pytest.approx([0.04, 0.03, np.nan, 0.04], nan_ok=True)
    assert holm([0.6, 0.7]) == pytest.approx([1, 1]) and np.isnan(holm([np.nan])).all()


def test_many_arms_pay_for_being_many():
    found = Resamples(arms(a={}, b={"gain": 1.4}, c={"gain": 1.3}, d={}), baseline="a", draws=400)
    at = found.at_budget("prose", 0.005)
    assert of(at, "b").p_holm == pytest.approx(3 * of(at, "b").p) and of(at, "d").p_holm == of(at, "d").p == 1
