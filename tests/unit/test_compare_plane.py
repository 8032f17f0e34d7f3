"""Paths in the plane of cost and gain, against a fine sampling of the same path."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from readwrite_edit.compare.plane import cost_at_gain, gain_at_cost, pareto_front

FINE = 4001
COSTS = st.floats(0, 4, allow_nan=False).map(lambda value: round(value, 3))
GAINS = st.floats(-2, 3, allow_nan=False).map(lambda value: round(value, 3))
PATHS = st.lists(st.tuples(COSTS, GAINS), min_size=1, max_size=6).map(
    lambda points: tuple(np.array(column) for column in zip(*points, strict=True))
)


def sampled(costs, gains):
    """Root costs and gains along a path from (0, 0), straight between neighbours in both."""
    roots, gains = np.concatenate([[0], np.sqrt(costs)]), np.concatenate([[0], gains])
    at = np.linspace(0, len(costs), FINE * len(costs))
    places = np.arange(len(costs) + 1)
    return np.interp(at, places, roots), np.interp(at, places, gains)


def slope(one, other):
    return float(np.max(np.abs(np.diff(one))) + np.max(np.abs(np.diff(other)))) + 1e-9


@settings(max_examples=150, deadline=None)
@given(PATHS, st.floats(0.001, 5))
def test_gain_at_cost_is_the_best_of_a_fine_sampling(path, budget):
    found = gain_at_cost(*path, budget)
    roots, gains = sampled(*path)
    within = gains[roots <= np.sqrt(budget)].max()
    assert (
        within - 1e-9 <= found.gain <= gains[roots <= np.sqrt(budget) + slope(roots, roots)].max() + slope(roots, gains)
    )
    assert found.reached == (np.sqrt(path[0].max()) >= np.sqrt(budget))


@settings(max_examples=150, deadline=None)
@given(PATHS, st.floats(0.001, 3))
def test_cost_at_gain_is_the_least_of_a_fine_sampling(path, level):
    found = np.sqrt(cost_at_gain(*path, level))
    roots, gains = sampled(*path)
    step = slope(gains, roots)
    if max(path[1]) < level:
        assert np.isinf(found)
        return
    assert roots[gains >= level - step].min() - step <= found
    assert found <= (roots[gains >= level].min() if (gains >= level).any() else np.inf) + 1e-9


@settings(max_examples=100, deadline=None)
@given(PATHS, st.floats(0.001, 5), st.floats(0.001, 5))
def test_a_larger_budget_never_gives_less_and_a_higher_gain_never_costs_less(path, one, other):
    small, large = sorted((one, other))
    assert gain_at_cost(*path, small).gain <= gain_at_cost(*path, large).gain
    assert cost_at_gain(*path, small) <= cost_at_gain(*path, large)


@settings(max_examples=100, deadline=None)
@given(PATHS, st.floats(0.01, 2), st.floats(0.1, 10), st.floats(0.1, 10))
def test_units_scale_what_is_found(path, at, costs_by, gains_by):
    costs, gains = path
    gain, scaled = gain_at_cost(costs, gains, at), gain_at_cost(costs * costs_by, gains * gains_by, at * costs_by)
    assert scaled.gain == pytest.approx(gain.gain * gains_by, rel=1e-6, abs=1e-9)
    cost = cost_at_gain(costs * costs_by, gains * gains_by, at * gains_by)
    assert cost == pytest.approx(cost_at_gain(costs, gains, at) * costs_by, rel=1e-6, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(PATHS)
def test_what_was_found_at_a_cost_is_had_at_that_cost(path):
    budget = float(path[0].max()) or 1.0
    best = gain_at_cost(*path, budget)
    assert best.gain >= 0, "the untrained model costs nothing and gains nothing"
    if best.gain > 0:
        assert cost_at_gain(*path, best.gain) <= budget * (1 + 1e-9)


def test_between_two_evaluations_the_path_is_straight_in_the_root_of_the_cost():
    costs, gains = np.array([0.01, 0.04]), np.array([1.0, 2.0])
    assert gain_at_cost(costs, gains, 0.0025).gain == pytest.approx(0.5)  # half way in the root, a quarter of the cost
    assert gain_at_cost(costs, gains, 0.0225).gain == pytest.approx(1.5)
    assert cost_at_gain(costs, gains, 0.5) == pytest.approx(0.0025)


def test_a_path_that_does_not_go_so_far_gives_a_lower_bound_and_says_so():
    found = gain_at_cost(np.array([0.01, 0.04]), np.array([1.0, 0.5]), 1.0)
    assert found.gain == 1.0 and not found.reached
    assert np.isinf(cost_at_gain(np.array([0.01]), np.array([1.0]), 1.01))


def test_a_path_that_turns_back_is_taken_at_its_best():
    costs, gains = np.array([0.04, 0.01, 0.09]), np.array([1.0, 0.8, 0.9])
    assert gain_at_cost(costs, gains, 0.01).gain == pytest.approx(0.8)  # the second visit beats the first, 0.5
    assert cost_at_gain(costs, gains, 0.8) == pytest.approx(0.01)


def test_many_paths_at_once_are_each_as_alone():
    generator = np.random.default_rng(0)
    costs, gains = generator.random((7, 3, 4)), generator.standard_normal((7, 3, 4))
    together = gain_at_cost(costs, gains, 0.3)
    for place in np.ndindex(7, 3):
        assert together.gain[place] == gain_at_cost(costs[place], gains[place], 0.3).gain
        assert cost_at_gain(costs, gains, 0.5)[place] == cost_at_gain(costs[place], gains[place], 0.5)


def test_the_front_holds_what_nothing_beats_and_equals_share_it():
    costs, gains = np.array([1, 2, 2, 3, 1, 4]), np.array([1, 3, 2, 3, 1, 5])
    assert pareto_front(costs, gains).tolist() == [True, True, False, False, True, True]
