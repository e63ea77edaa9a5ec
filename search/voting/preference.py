"""What people prefer, as weights of the objective: Bradley and Terry (1952) with covariates. Pure.

Legend: votes = number of votes; measures = 3: likeness, fidelity and -faceless of an image, in this order, so that more
is better in each; outcomes are 1 where the first of two won, 0 where the second did, 0.5 where nobody could tell.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from evaluation.config import ObjectiveConfig
from evaluation.image_row import ImageRow
from evaluation.proportion import Estimate
from evaluation.scores import Anchors
from evaluation.terms import FIDELITY_TERM, LIKENESS_TERM
from search.voting.agreement import Vector

DECISIVENESS = 10.0
"""Guess before any vote at the log odds that one unit of an objective whose weights sum to 1 is worth: a lead of 0.1
wins 73 % of the votes."""

DECISIVENESS_DEVIATION = 2.0
"""How wrong that guess may well be: a standard deviation, as the logarithm of a factor. Wide, since how sure of
themselves people are says nothing about which measure they care for."""

WEIGHT_DEVIATION = 1.0
"""How far a weight may well be from the configured one: a standard deviation, as the logarithm of a factor. Mild."""

LEAST_WEIGHT = 0.05
"""Share of the configured weights' sum that the prior takes a weight of 0 for: no logarithm starts from 0."""

FOLDS = 20
"""Most folds of a cross-validation; with fewer pairs of images than that each is left out by itself."""

STRENGTH_DEVIATION = 2.0
"""Standard deviation of the prior of a candidate's strength, log odds. It keeps who won every vote below infinity."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Strengths:
    """Candidates as people rank them. The odds that one beats another are exp(difference of their strengths)."""

    values: Vector
    """[candidates], log odds; their mean is 0."""
    standard_errors: Vector
    """[candidates], of the distance to the mean, from the curvature at the maximum."""


def image_measures(row: ImageRow, anchors: Anchors) -> Vector:
    """Likeness, fidelity and -faceless (0 or -1) of one image, [measures].

    Their product with the weights of an objective is the image's share of that objective.
    """
    likeness, fidelity = LIKENESS_TERM.share(row, anchors), FIDELITY_TERM.share(row, anchors)
    return np.array([likeness, fidelity, 0.0 if row.face_found else -1.0])


def as_vector(weights: ObjectiveConfig) -> Vector:
    """The weights in the order of the measures, [measures]."""
    return np.array([weights.likeness, weights.fidelity, weights.faceless])


def fit_decisions(differences: Vector, outcomes: Vector, configured: ObjectiveConfig) -> Vector:
    """How much each measure sways the votes: log odds a unit, [measures], all positive.

    P(first beats second) = sigmoid(w . (x_first - x_second)); a tie counts as half a win for each. `x` are the measures
    of the two IMAGES that were shown, not the means of their candidates: a vote is about what was seen, and a mean over
    other prompts and seeds says little about it. Candidates' means are also few (one a trial) and move together along
    a search, so they cannot tell three weights apart, while images of one candidate differ widely. The objective is
    the mean of its images' shares, so weights found on images are weights for candidates. What remains is that a face
    distance of one image is a noisy measure of what people see in it, which makes w smaller; as objective weights
    only the proportions of w count.

    The prior is Gaussian in the logarithms of the weights, around the configured ones: wide in what all have in common
    (how sure people are), mild in each by itself (what they care for). So no weight is negative; few votes, or many
    that follow no measure, leave the proportions as they are configured; and a measure in which no two images differed
    keeps about its proportion to the others.

    Args:
        differences: [votes, measures], first minus second.
        outcomes: [votes].
        configured: The weights that the search was run with.
    """
    mean, covariance = _prior(configured)
    return _most_probable(differences, outcomes, mean, _inverse(covariance))


def as_objective(decisions: Vector, configured: ObjectiveConfig) -> ObjectiveConfig:
    """Weights of an objective in the proportions of `decisions`, which sum to what the configured ones do.

    Where that would put one above 1, which no configuration may, all are scaled down alike.
    """
    weights = _normalised(decisions, configured)
    likeness, fidelity, faceless = (min(1.0, float(weight)) for weight in weights / max(1.0, weights.max()))
    return replace(configured, likeness=likeness, fidelity=fidelity, faceless=faceless)


def weight_intervals(
    differences: Vector,
    outcomes: Vector,
    configured: ObjectiveConfig,
    *,
    seed: int,
    level: float = 0.95,
    resamples: int = 400,
) -> tuple[Estimate, Estimate, Estimate]:
    """The weights, normalised, with percentile intervals of a bootstrap over votes (Efron and Tibshirani 1993).

    For every resample of the votes the centre of the prior is drawn from the prior, too (randomise, then optimise:
    Bardsley et al. 2014). Otherwise a weight that the votes hardly touch would stay at its configured value in every
    resample and look certain; so it keeps the width of the prior.

    Raises:
        ValueError: there are no votes.
    """
    if not len(outcomes):
        raise ValueError("there are no votes to resample; vote first")
    generator = np.random.default_rng(seed)
    mean, covariance = _prior(configured)
    precision = _inverse(covariance)
    fits = []
    for centre in generator.multivariate_normal(mean, covariance, size=resamples):
        chosen = generator.integers(0, len(outcomes), size=len(outcomes))
        fit = _most_probable(differences[chosen], outcomes[chosen], centre, precision)
        fits.append(_normalised(fit, configured))
    lower, upper = np.quantile(fits, [(1.0 - level) / 2.0, (1.0 + level) / 2.0], axis=0)
    values = _normalised(fit_decisions(differences, outcomes, configured), configured)
    likeness, fidelity, faceless = (
        Estimate(value=float(value), lower=float(low), upper=float(high))
        for value, low, high in zip(values, lower, upper, strict=True)
    )
    return likeness, fidelity, faceless


def fit_strengths(pairs: Sequence[tuple[int, int]], outcomes: Sequence[float], count: int) -> Strengths:
    """Plain Bradley-Terry: one strength a candidate, whatever was measured.

    Args:
        pairs: Who was compared, as indexes below `count`, one pair a vote.
        outcomes: One a pair.
        count: Number of candidates.
    """
    design = np.zeros((len(pairs), count))
    for vote, (first, second) in enumerate(pairs):
        design[vote, first], design[vote, second] = 1.0, -1.0
    decided, precision = np.asarray(outcomes, dtype=np.float64), 1.0 / STRENGTH_DEVIATION**2

    def loss(strengths: Vector) -> tuple[float, Vector]:
        surprise, slope = _surprise(design, decided, strengths)
        return surprise + 0.5 * precision * float(strengths @ strengths), slope + precision * strengths

    def curvature(strengths: Vector) -> Vector:
        return _curvature(design, strengths) + precision * np.eye(count)

    values = _minimum(loss, curvature, np.zeros(count))
    # Votes know differences only; how far all lie from 0 together is the prior's business, so it is taken out.
    centre = np.eye(count) - 1.0 / count
    covariance = centre @ _inverse(curvature(values)) @ centre
    return Strengths(values=values, standard_errors=np.sqrt(np.diag(covariance)))


def _prior(configured: ObjectiveConfig) -> tuple[Vector, Vector]:
    """Mean and covariance of the logarithms of the decisions, [measures] and [measures, measures]."""
    weights = as_vector(configured)
    shares = np.maximum(weights / weights.sum(), LEAST_WEIGHT)
    mean = np.log(DECISIVENESS * shares / shares.sum())
    return mean, WEIGHT_DEVIATION**2 * np.eye(len(mean)) + DECISIVENESS_DEVIATION**2


def _most_probable(differences: Vector, outcomes: Vector, mean: Vector, precision: Vector) -> Vector:
    """The decisions at the maximum of likelihood times prior; the prior's precision is [measures, measures]."""

    def loss(logarithms: Vector) -> tuple[float, Vector]:
        sway = np.exp(logarithms)
        surprise, slope = _surprise(differences, outcomes, sway)
        pull = precision @ (logarithms - mean)
        return surprise + 0.5 * float((logarithms - mean) @ pull), slope * sway + pull

    def curvature(logarithms: Vector) -> Vector:
        sway = np.exp(logarithms)
        _, slope = _surprise(differences, outcomes, sway)
        return np.outer(sway, sway) * _curvature(differences, sway) + np.diag(slope * sway) + precision

    # In the logarithms the likelihood is not concave: from a configured weight near 0 the way up can lead over a pass.
    # So the search begins at the prior's centre and at equal weights, and the better end counts.
    equal = np.full(len(mean), np.log(DECISIVENESS / len(mean)))
    ends = [_minimum(loss, curvature, start) for start in (mean, equal)]
    return np.exp(min(ends, key=lambda end: loss(end)[0]))


def _surprise(design: Vector, outcomes: Vector, weights: Vector) -> tuple[float, Vector]:
    """Negative log likelihood of the votes, and its gradient in the weights, [weights]; design is [votes, weights]."""
    log_odds = design @ weights
    surprise = np.logaddexp(0.0, log_odds) - outcomes * log_odds
    return float(surprise.sum()), design.T @ (expit(log_odds) - outcomes)


def _curvature(design: Vector, weights: Vector) -> Vector:
    """Second derivatives of the negative log likelihood in the weights, [weights, weights]."""
    wins = expit(design @ weights)
    second: Vector = design.T @ ((wins * (1.0 - wins))[:, None] * design)
    return second


def _minimum(
    loss: Callable[[Vector], tuple[float, Vector]], curvature: Callable[[Vector], Vector], start: Vector
) -> Vector:
    # Newton's steps within a trusted region: a few of them end at a gradient of rounding errors, and none is so long
    # that an exponential overflows.
    result = minimize(
        loss,
        start,
        jac=True,
        hess=curvature,
        method="trust-exact",
        options={"gtol": 1e-5, "initial_trust_radius": 1.0, "max_trust_radius": 4.0},
    )
    # Every loss here is smooth and grows without bound in all directions, so it has a minimum.
    assert result.success, result.message
    return np.asarray(result.x, dtype=np.float64)


def _normalised(decisions: Vector, configured: ObjectiveConfig) -> Vector:
    normalised: Vector = decisions * (as_vector(configured).sum() / decisions.sum())
    return normalised


def _inverse(matrix: Vector) -> Vector:
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)


def held_out_decisions(
    differences: Vector, outcomes: Vector, pairs: Sequence[Hashable], configured: ObjectiveConfig, *, seed: int
) -> Vector:
    """For each vote the weights that the OTHER votes give, [votes, measures], so that judging them flatters nobody.

    Votes on the same two images are left out together: one of them would give the other's answer away.

    Args:
        differences: [votes, measures].
        outcomes: [votes].
        pairs: Which two images each vote is about, one a vote.
        configured: See `fit_decisions`.
        seed: Of the assignment to folds.
    """
    groups = {pair: number for number, pair in enumerate(dict.fromkeys(pairs))}
    shuffled = np.random.default_rng(seed).permutation(len(groups)) % FOLDS
    folds = np.array([shuffled[groups[pair]] for pair in pairs], dtype=int)
    weights = np.zeros_like(differences)
    for fold in np.unique(folds):
        left_out = folds == fold
        weights[left_out] = fit_decisions(differences[~left_out], outcomes[~left_out], configured)
    return weights
