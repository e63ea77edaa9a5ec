"""From votes to weights and strengths, against oracles and by hand."""

import importlib
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from evaluation.config import ObjectiveConfig
from evaluation.image_row import ImageRow
from evaluation.scores import Anchors
from search.voting.agreement import Vector
from search.voting.preference import (
    as_objective,
    as_vector,
    fit_decisions,
    fit_strengths,
    image_measures,
    weight_intervals,
)

CONFIGURED = ObjectiveConfig(likeness=0.5, fidelity=0.3, faceless=0.2)  # 0.5, 0.3, 0.2

SPREAD = np.array([0.4, 0.12, 0.4])
"""Standard deviations of likeness, fidelity and -faceless, about as a search shows them."""

linear_model: Any = importlib.import_module("sklearn.linear_model")
optimize: Any = importlib.import_module("scipy.optimize")
stats: Any = importlib.import_module("scipy.stats")


def simulated(decisions: Vector, count: int, *, seed: int = 0) -> tuple[Vector, Vector]:
    """Votes of somebody whom the measures sway so, every eighth a tie."""
    generator = np.random.default_rng(seed)
    differences = generator.normal(size=(count, 3)) * SPREAD
    outcomes = (generator.random(count) < 1.0 / (1.0 + np.exp(-differences @ decisions))).astype(float)
    outcomes[::8] = 0.5
    return differences, outcomes


def shares(decisions: Vector) -> Vector:
    return np.asarray(decisions / decisions.sum())


def test_measures_of_an_image() -> None:
    anchors = Anchors.between(untuned_distance=0.9, real_distance=0.4, clip_score=25.0)
    face = ImageRow.of(0, 1, face_distance=0.5, clip_score=20.0)
    none = ImageRow.of(0, 1, face_distance=None, clip_score=30.0)
    assert_allclose(image_measures(face, anchors), [0.8, 0.8, 0.0])
    assert_allclose(image_measures(none, anchors), [0.0, 1.2, -1.0])


@pytest.mark.parametrize("truth", [(0.5, 0.3, 0.2), (0.25, 0.6, 0.15), (0.7, 0.1, 0.2)])
def test_recovers_the_weights_of_a_voter_within_the_interval(truth: tuple[float, float, float]) -> None:
    differences, outcomes = simulated(15.0 * np.array(truth), 800)
    intervals = weight_intervals(differences, outcomes, CONFIGURED, seed=0, resamples=100)
    fitted = as_objective(fit_decisions(differences, outcomes, CONFIGURED), CONFIGURED)
    for estimate, true, value in zip(intervals, truth, as_vector(fitted), strict=True):
        assert estimate.lower <= true <= estimate.upper
        assert estimate.upper - estimate.lower < 0.35
        assert estimate.value == pytest.approx(value)


def test_with_many_votes_it_is_a_logistic_regression_without_intercept() -> None:
    differences, outcomes = simulated(np.array([4.0, 9.0, 2.0]), 20_000)
    # A tie, half a win for each, is two votes of half the weight.
    both = np.concatenate([differences, differences])
    labels = np.concatenate([np.ones(len(outcomes)), np.zeros(len(outcomes))])
    votes = np.concatenate([outcomes, 1.0 - outcomes])
    oracle = linear_model.LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10)
    oracle.fit(both, labels, sample_weight=votes)
    assert_allclose(fit_decisions(differences, outcomes, CONFIGURED), oracle.coef_[0], rtol=0.01)


def test_with_few_votes_it_is_the_most_probable_under_the_prior() -> None:
    differences = np.array([[0.5, -0.1, 0.0], [-0.2, 0.3, 1.0], [0.1, 0.1, -1.0]])
    outcomes = np.array([0.0, 1.0, 0.5])
    prior = stats.multivariate_normal(np.log([5.0, 3.0, 2.0]), np.eye(3) + 4.0)

    def improbability(logarithms: Vector) -> float:
        wins = 1.0 / (1.0 + np.exp(-differences @ np.exp(logarithms)))
        likelihood = (wins**outcomes * (1.0 - wins) ** (1.0 - outcomes)).prod()
        return float(-np.log(likelihood) - prior.logpdf(logarithms))

    oracle = optimize.minimize(
        improbability, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12}
    )
    assert_allclose(fit_decisions(differences, outcomes, CONFIGURED), np.exp(oracle.x), rtol=1e-4)


def test_no_votes_leave_the_configured_weights() -> None:
    decisions = fit_decisions(np.zeros((0, 3)), np.zeros(0), CONFIGURED)
    assert_allclose(decisions, [5.0, 3.0, 2.0], rtol=1e-6)
    assert as_vector(as_objective(decisions, CONFIGURED)) == pytest.approx([0.5, 0.3, 0.2])
    with pytest.raises(ValueError, match="no votes to resample"):
        weight_intervals(np.zeros((0, 3)), np.zeros(0), CONFIGURED, seed=0)


def test_few_votes_do_not_throw_the_weights() -> None:
    differences, outcomes = simulated(np.array([0.0, 40.0, 0.0]), 4)
    fitted = shares(fit_decisions(differences, outcomes, CONFIGURED))
    assert np.abs(fitted - [0.5, 0.3, 0.2]).max() < 0.15


def test_many_votes_that_follow_no_measure_do_not_either() -> None:
    differences, _ = simulated(np.zeros(3), 400)
    outcomes = np.array([0.0, 1.0] * 200)
    decisions = fit_decisions(differences, outcomes, CONFIGURED)
    assert decisions.max() < 1.0, "nothing sways this voter"
    assert np.abs(shares(decisions) - [0.5, 0.3, 0.2]).max() < 0.15


def test_a_measure_that_never_differed_keeps_its_proportion() -> None:
    differences, outcomes = simulated(np.array([30.0, 18.0, 0.0]), 2000)
    differences[:, 2] = 0.0
    assert_allclose(shares(fit_decisions(differences, outcomes, CONFIGURED)), [0.5, 0.3, 0.2], atol=0.05)


def test_a_weight_that_the_votes_hardly_touch_does_not_look_certain() -> None:
    differences, outcomes = simulated(np.array([10.0, 6.0, 0.0]), 400)
    differences[:, 2] = 0.0
    _, _, faceless = weight_intervals(differences, outcomes, CONFIGURED, seed=0, resamples=200)
    assert faceless.lower < 0.1
    assert faceless.upper > 0.4


def test_a_weight_that_was_configured_as_0_can_be_found() -> None:
    differences, outcomes = simulated(np.array([2.0, 1.0, 12.0]), 800)
    configured = ObjectiveConfig(likeness=1.0, fidelity=0.0, faceless=0.0)
    assert_allclose(shares(fit_decisions(differences, outcomes, configured)), shares(np.array([2, 1, 12])), atol=0.08)


def test_a_voter_who_decides_against_every_measure_gets_finite_positive_weights() -> None:
    differences, _ = simulated(np.zeros(3), 300)
    outcomes = (differences.sum(axis=1) < 0.0).astype(float)
    decisions = fit_decisions(differences, outcomes, CONFIGURED)
    assert (decisions > 0.0).all()
    assert decisions.max() < 0.1


@pytest.mark.parametrize("seed", range(30))
def test_the_fit_comes_to_an_end_whatever_the_votes(seed: int) -> None:
    """Decided without noise, against some measures, by few or many votes, with all weights or one configured."""
    generator = np.random.default_rng(seed)
    differences = generator.normal(size=(int(generator.choice([1, 3, 30, 300])), 3)) * SPREAD
    truth = generator.choice([0.0, 1.0, 20.0, 1000.0], size=3) * generator.choice([1.0, -1.0], size=3)
    outcomes = (differences @ truth > 0.0).astype(float)
    for configured in (CONFIGURED, ObjectiveConfig(likeness=0.0, fidelity=1.0, faceless=0.0)):
        decisions = fit_decisions(differences, outcomes, configured)
        assert np.isfinite(decisions).all()
        assert (decisions > 0.0).all()


def test_two_ties_are_a_win_for_each() -> None:
    difference = np.array([[0.3, -0.1, 0.0]] * 2)
    ties = fit_decisions(difference, np.array([0.5, 0.5]), CONFIGURED)
    wins = fit_decisions(difference, np.array([1.0, 0.0]), CONFIGURED)
    assert_allclose(ties, wins, rtol=1e-5)


def test_sides_do_not_matter() -> None:
    differences, outcomes = simulated(np.array([5.0, 3.0, 2.0]), 60)
    turned = np.where(np.arange(60) % 2, 1.0, -1.0)
    again = fit_decisions(differences * turned[:, None], np.where(turned > 0, outcomes, 1.0 - outcomes), CONFIGURED)
    assert_allclose(again, fit_decisions(differences, outcomes, CONFIGURED), rtol=1e-4)


def test_weights_are_comparable_with_the_configured_and_legal() -> None:
    half = ObjectiveConfig(likeness=0.2, fidelity=0.2, faceless=0.1)
    assert as_vector(as_objective(np.array([6.0, 3.0, 1.0]), half)) == pytest.approx([0.3, 0.15, 0.05])
    # Summing to 3 the first would be 2.4, more than a weight may be.
    full = ObjectiveConfig(likeness=1.0, fidelity=1.0, faceless=1.0)
    assert as_vector(as_objective(np.array([8.0, 1.0, 1.0]), full)) == pytest.approx([1.0, 0.125, 0.125])


def test_strengths_of_two_by_hand() -> None:
    # Three wins to one: strengths t and -t where 4 sigmoid(2t) - 3 + t / 4 = 0.
    told = fit_strengths([(0, 1)] * 4, [1, 1, 1, 0], 2)
    t = optimize.brentq(lambda t: 4 / (1 + np.exp(-2 * t)) - 3 + t / 4, 0, 2)
    assert_allclose(told.values, [t, -t], rtol=1e-4)
    # Along (1, -1) the curvature is 2 x 4 p (1 - p) + 1 / 4, and each has half of that variance.
    win = 1 / (1 + np.exp(-2 * t))
    assert_allclose(told.standard_errors, [np.sqrt(0.5 / (8 * win * (1 - win) + 0.25))] * 2, rtol=1e-4)


def test_strengths_are_a_ridge_regression_on_who_was_compared() -> None:
    generator = np.random.default_rng(3)
    pairs = [tuple(generator.choice(5, size=2, replace=False).tolist()) for _ in range(60)]
    outcomes = generator.integers(0, 2, size=60).astype(float)
    design = np.zeros((60, 5))
    for row, (first, second) in enumerate(pairs):
        design[row, first], design[row, second] = 1.0, -1.0
    oracle = linear_model.LogisticRegression(C=4.0, fit_intercept=False, tol=1e-10).fit(design, outcomes)
    told = fit_strengths([(first, second) for first, second in pairs], outcomes.tolist(), 5)
    assert_allclose(told.values, oracle.coef_[0], atol=1e-4)
    assert told.values.sum() == pytest.approx(0.0, abs=1e-4)


def test_strengths_stay_finite_and_in_order_when_one_wins_all() -> None:
    told = fit_strengths([(0, 1), (0, 2), (1, 2)] * 5, [1.0, 1.0, 0.5] * 5, 3)
    assert told.values[0] > told.values[1] == pytest.approx(told.values[2], abs=1e-4)
    assert told.values[0] < 5.0


def test_without_votes_all_are_equal() -> None:
    told = fit_strengths([], [], 3)
    assert_allclose(told.values, 0.0)
    assert_allclose(told.standard_errors, 2.0 * np.sqrt(2.0 / 3.0))
