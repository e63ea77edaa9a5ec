"""How often votes and the objective agree: a share, with its interval. Pure."""

import numpy as np
from numpy.typing import NDArray

from evaluation.proportion import Estimate, wilson_interval

Vector = NDArray[np.float64]


def agreement(leads: Vector, outcomes: Vector, *, level: float = 0.95) -> Estimate | None:
    """Share of the decided votes that whoever leads has won, with its Wilson interval.

    A tie in the vote is not counted. A tie in the lead counts as half an agreement: the objective could only toss a
    coin.

    Args:
        leads: Objective of the first minus that of the second, [votes].
        outcomes: [votes].
        level: Probability that the interval is for.

    Returns:
        None if no vote is decided.
    """
    decided = outcomes != 0.5
    count = int(decided.sum())
    if count == 0:
        return None
    signs = np.sign(leads[decided]) * np.sign(outcomes[decided] - 0.5)
    return wilson_interval(float(((1.0 + signs) / 2.0).sum()), count, level=level)


def advantage(first: Vector, second: Vector, outcomes: Vector, *, level: float = 0.95) -> Estimate | None:
    """Of two objectives: the first one's share of the votes that only one of them foresees, with its Wilson interval.

    Paired, vote by vote (McNemar 1947): what both foresee, or neither, says nothing of which is better.

    Args:
        first: Leads under the first objective, [votes].
        second: Leads under the second, [votes].
        outcomes: As for `agreement`, [votes].
        level: Of the interval, in (0, 1).

    Returns:
        None where they foresee the same votes.
    """
    decided = outcomes != 0.5
    right = np.sign(outcomes[decided] - 0.5)
    gained = (np.sign(first[decided]) - np.sign(second[decided])) * right / 2.0
    count = int((gained != 0.0).sum())
    return (
        wilson_interval(float(((1.0 + np.sign(gained)) / 2.0)[gained != 0.0].sum()), count, level=level)
        if count
        else None
    )
