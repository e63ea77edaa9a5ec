"""The sampler over learning curves: what it learns from parts of trainings, what it pays for, and its mathematics."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from scipy.stats import norm, spearmanr

from search.config.space import Choice, FloatRange, IntRange, Space
from search.study.samplers.distributions import SAME_AS, suggest
from search.study.samplers.learning_curves import (
    MOST_ROWS,
    CurveSampler,
    _fitted,
    _kept,
    log_expected_improvement,
    warped,
)
from search.study.samplers.unit_cube import UnitCube

SPACE: Space = {
    "learning_rate": FloatRange(low=1e-5, high=1e-1, log=True),
    "targets": Choice(values=("few", "many")),
    "steps": IntRange(low=100, high=300, step=100),
}


def study_of(space: Space = SPACE, *, seed: int = 0, startup_trials: int = 4) -> optuna.Study:
    sampler = CurveSampler(space, seed=seed, startup_trials=startup_trials, steps=300)
    return optuna.create_study(direction="maximize", sampler=sampler)


def ask(study: optuna.Study, space: Space = SPACE) -> tuple[optuna.Trial, dict[str, Any]]:
    trial = study.ask()
    return trial, {name: suggest(trial, name, dimension) for name, dimension in space.items()}


def worth(params: dict[str, Any], share: float = 1.0) -> float:
    """Best at a rate of 1e-3 with many targets, better the longer, and half of it after a tenth of the training."""
    far = (math.log10(params["learning_rate"]) + 3) ** 2
    best = 0.4 + 0.1 * (params["targets"] == "many") + 0.02 * params["steps"] / 300 - 0.1 * far
    return float(best * (0.45 + 0.55 * share))


def run(
    study: optuna.Study, trials: int, stop: Callable[[int], float] = lambda number: 1.0, noise: float = 0.0
) -> list[dict[str, Any]]:
    """Trials that are worth what `worth` says; each ends at a share of its training."""
    random = np.random.default_rng(0)
    proposed = []
    for number in range(trials):
        trial, params = ask(study)
        until = round(stop(number) * params["steps"])
        for step in range(50, until + 1, 50):
            trial.report(worth(params, step / params["steps"]) + random.normal(0, noise), step)
        if until < params["steps"]:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, worth(params))
        proposed.append(params)
    return proposed


def test_it_finds_what_is_best_sooner_than_random_draws() -> None:
    ours = [max(worth(params) for params in run(study_of(seed=seed), 14, noise=0.01)) for seed in range(4)]
    random = np.random.default_rng(0)
    drawn = [
        {
            "learning_rate": 10 ** random.uniform(-5, -1),
            "targets": random.choice(["few", "many"]),
            "steps": random.choice([100, 200, 300]),
        }
        for _ in range(4 * 14)
    ]
    theirs = [max(worth(params) for params in drawn[14 * place : 14 * place + 14]) for place in range(4)]
    assert min(ours) > 0.505, "the best there is comes to 0.52"
    assert np.mean(ours) > np.mean(theirs)


def test_stopped_trials_teach_as_much_as_they_have_shown() -> None:
    """No trial but the first ran to its end, and still it knows where to go."""
    proposed = run(study_of(), 16, stop=lambda number: 1.0 if number == 0 else 0.5)
    late = proposed[-8:]
    assert sum(params["targets"] == "many" for params in late) >= 5
    assert np.median([math.log10(params["learning_rate"]) for params in late]) == pytest.approx(-3, abs=0.5)


def expected_ends(step: int) -> list[float]:
    """What is expected of whole trainings, in the model's units, where curves fall.

    Four low rates and the highest ran to their ends; three between them were stopped with the highest values of all,
    told as of `step`.
    """
    space: Space = {"learning_rate": FloatRange(low=1e-5, high=1e-1, log=True)}
    rates = (1e-5, 3e-5, 1e-4, 2e-4, 1e-3, 3e-3, 1e-2, 1e-1)
    curves = []
    for number, rate in enumerate(rates):
        end = 0.4 if rate < 5e-4 else 0.25
        whole = {at: end * (3 - 2 * at / 300) for at in (75, 150, 225, 300)}
        curves.append(
            optuna.trial.create_trial(
                value=end,
                params={"learning_rate": rate},
                distributions={"learning_rate": optuna.distributions.FloatDistribution(1e-5, 1e-1, log=True)},
                intermediate_values=whole if rate < 5e-4 or rate > 5e-2 else {step: whole[75]},
            )
        )
        curves[-1].number = number
    sampler = CurveSampler(space, seed=0, startup_trials=2, steps=300)
    pending = optuna.trial.create_trial(state=TrialState.RUNNING)
    pending.number = 99
    assert all(sampler._counts(curve, pending) for curve in curves)
    model = _fitted(*sampler._rows(curves))
    points = np.array([UnitCube(space).point({"learning_rate": rate}) for rate in rates])
    return [float(value) for value in model.predict(sampler._at_their_ends(points))]


def test_the_value_of_a_part_is_not_taken_for_that_of_a_whole() -> None:
    for part, whole in zip(expected_ends(75)[4:7], expected_ends(300)[4:7], strict=True):
        assert part < whole - 0.3, "in standard deviations of all values"


def test_it_starts_with_short_trainings_that_are_apart() -> None:
    study = study_of()
    starts = [ask(study)[1] for _ in range(4)]
    assert {params["steps"] for params in starts} == {100}
    assert {params["targets"] for params in starts} == {"few", "many"}
    assert np.ptp([math.log10(params["learning_rate"]) for params in starts]) > 1


def test_trials_under_way_keep_proposals_apart() -> None:
    study = study_of()
    run(study, 5)
    waiting = [ask(study)[1] for _ in range(4)]
    places = {(params["targets"], params["steps"], round(math.log10(params["learning_rate"]), 1)) for params in waiting}
    assert len(places) >= 3


def test_duplicates_and_half_drawn_trials_teach_nothing() -> None:
    known, cluttered = study_of(), study_of()
    for study in (known, cluttered):
        run(study, 6)
    for study in (known, cluttered):
        trial, params = ask(study)  # a duplicate in one study, a failed trial in the other: both have their number
        if study is cluttered:
            trial.set_user_attr(SAME_AS, 0)
            trial.report(99.0, params["steps"])
            study.tell(trial, 99.0)
        else:
            study.tell(trial, state=TrialState.FAIL)
        half = study.ask()
        half.suggest_categorical("targets", ("few", "many"))
    assert ask(known)[1] == ask(cluttered)[1]


def test_a_space_that_is_used_up_is_proposed_again() -> None:
    space: Space = {"targets": Choice(values=("few", "many"))}
    study = study_of(space, startup_trials=1)
    seen = []
    for _ in range(3):
        trial, params = ask(study, space)
        trial.report(0.5, 300)
        study.tell(trial, 0.5)
        seen.append(params["targets"])
    assert sorted(seen[:2]) == ["few", "many"], "each once before any twice"
    assert seen[2] in ("few", "many")


def test_of_many_values_the_best_half_is_kept_and_of_the_others_an_even_choice() -> None:
    values = np.random.default_rng(0).permutation(1000).astype(float)
    kept = sorted(values[_kept(values)].tolist(), reverse=True)
    assert len(set(kept)) == MOST_ROWS
    assert kept[: MOST_ROWS // 2] == [float(value) for value in range(999, 899, -1)]
    gaps = np.diff(kept[MOST_ROWS // 2 :])
    assert kept[-1] == 0
    assert set(gaps.tolist()) <= {-9.0, -10.0}, "899 values among 99 gaps"
    few = np.array([0.1, 0.3, 0.2])
    assert sorted(_kept(few).tolist()) == [0, 1, 2]


def test_short_starts_are_apart_where_hardly_two_points_have_the_same_steps() -> None:
    space: Space = {**SPACE, "steps": IntRange(low=100, high=3000)}
    study = study_of(space)
    starts = [ask(study, space)[1] for _ in range(4)]
    assert max(params["steps"] for params in starts) < 200
    assert {params["targets"] for params in starts} == {"few", "many"}


def test_with_more_checkpoints_than_it_takes_it_still_knows_where_to_go() -> None:
    study = study_of()
    proposed = run(study, 60)
    assert sum(len(trial.intermediate_values) for trial in study.trials) > MOST_ROWS
    # Any one of them may look elsewhere, and which does hangs on the machine's last digits. Of random draws, which are
    # uniform from 1e-5 to 1e-1, half would lie a whole decade away.
    away = [abs(math.log10(params["learning_rate"]) + 3) for params in proposed[-20:]]
    assert np.median(away) < 0.3


def test_values_below_the_median_count_by_rank() -> None:
    values = np.array([-60.0, 0.3, 0.1, 0.5, 0.4, 0.2, -1.0])
    told = warped(values)
    assert told[values >= 0.2].tolist() == values[values >= 0.2].tolist()
    assert spearmanr(values, told).statistic == pytest.approx(1)
    deviation = math.sqrt(np.mean((np.array([0.2, 0.3, 0.4, 0.5]) - 0.2) ** 2))
    assert told[0] == pytest.approx(0.2 + deviation * norm.ppf(0.5 * 0.5 / 3.5))
    assert warped(np.array([0.3, 0.3])).tolist() == [0.3, 0.3]


@pytest.mark.parametrize("distance", [-60.0, -30.0, -20.01, -19.99, -8.0, -1.0, 0.0, 3.0])
def test_expected_improvement_far_below_the_best_is_still_a_number(distance: float) -> None:
    (told,) = log_expected_improvement(np.array([1 + 0.5 * distance]), np.array([0.5]), 1.0)
    assert math.isfinite(told)
    if distance > -30:
        exact = math.log(0.5 * (norm.pdf(distance) + distance * norm.cdf(distance)))
        assert told == pytest.approx(exact, abs=0.01), "the asymptote joins where it is near enough"
    lower = log_expected_improvement(np.array([1 + 0.5 * (distance - 0.01)]), np.array([0.5]), 1.0)[0]
    assert lower < told
