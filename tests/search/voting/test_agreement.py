"""Agreement, worked by hand and against scipy."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from evaluation.config import ObjectiveConfig
from evaluation.proportion import wilson_interval
from search.voting.agreement import Vector, advantage, agreement
from search.voting.preference import fit_decisions, held_out_decisions

CONFIGURED = ObjectiveConfig()


def test_by_hand() -> None:
    leads = np.array([0.2, -0.1, 0.3, 0.0, 0.5, -0.4])
    outcomes = np.array([1.0, 1.0, 0.5, 0.0, 0.0, 0.0])
    # right, wrong, a tie that is left out, a coin, wrong, right
    told = agreement(leads, outcomes)
    assert told is not None
    assert told.value == 2.5 / 5
    # z = 1.96: half as wide as 1.96 sqrt(0.25 / 5 + 3.8415 / 100) / (1 + 3.8415 / 5)
    assert (told.lower, told.upper) == pytest.approx((0.5 - 0.3296, 0.5 + 0.3296), abs=1e-4)


def test_undecided_votes_tell_no_agreement() -> None:
    assert agreement(np.array([0.1, -0.1]), np.array([0.5, 0.5])) is None


def test_each_vote_is_judged_by_weights_that_have_not_seen_its_pair() -> None:
    generator = np.random.default_rng(0)
    differences = generator.normal(size=(9, 3))
    outcomes = generator.integers(0, 2, size=9).astype(float)
    pairs = [0, 1, 2, 3, 4, 5, 6, 0, 1]
    held_out = held_out_decisions(differences, outcomes, pairs, CONFIGURED, seed=0)
    for vote, pair in enumerate(pairs):
        others = [other for other, about in enumerate(pairs) if about != pair]
        assert_allclose(held_out[vote], fit_decisions(differences[others], outcomes[others], CONFIGURED))


def test_it_does_not_flatter() -> None:
    """Answers that are nothing but noise: weights fit the votes that they were found on, and others less well."""
    generator = np.random.default_rng(1)
    fitted, held_out = [], []
    for _ in range(20):
        differences = generator.normal(size=(12, 3))
        outcomes = generator.integers(0, 2, size=12).astype(float)
        weights = held_out_decisions(differences, outcomes, list(range(12)), CONFIGURED, seed=0)
        fitted.append(share(differences @ fit_decisions(differences, outcomes, CONFIGURED), outcomes))
        held_out.append(share((weights * differences).sum(axis=1), outcomes))
    assert np.mean(held_out) < np.mean(fitted)
    # 240 tosses of a coin: two standard deviations are 0.065.
    assert np.mean(held_out) < 0.565


def share(leads: Vector, outcomes: Vector) -> float:
    told = agreement(leads, outcomes)
    assert told is not None
    return told.value


def test_the_advantage_counts_the_votes_that_only_one_foresees() -> None:
    outcomes = np.array([1.0, 1.0, 0.0, 0.0, 0.5, 1.0])
    first = np.array([0.2, 0.1, -0.1, -0.3, 0.4, -0.1])
    second = np.array([0.1, -0.2, -0.2, 0.1, -0.4, 0.3])
    # They differ on the second, fourth and last: two to one; the undecided vote says nothing.
    found = advantage(first, second, outcomes)
    assert found == wilson_interval(2, 3)
    assert advantage(first, 3 * first, outcomes) is None
