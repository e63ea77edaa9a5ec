"""What a search comes to where the number of its trials is given, what it costs then, and how well that is predicted.

On the virtual clock and the surrogate of `benchmarks.search_cost`. The forecast is that of a search when two trials
have ended and two are under way, whose lengths are known; what a step and a score take is taken for known.
"""

from __future__ import annotations

import logging
import math
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, mean, stdev
from typing import Annotated

import optuna
import typer

from benchmarks.outcome import conclude, cores, print_table
from benchmarks.search_cost.__main__ import DEMO, METHODS, configured
from benchmarks.search_cost.recording import RECORDING, read_recording
from benchmarks.search_cost.surrogate import Surrogate
from benchmarks.search_cost.virtual_search import SEATS, Course, VirtualSearch
from search.config.search_config import SearchConfig, load_config
from search.storage.trial_record import TrialRecord, trial_id
from search.study.forecast import Workload

NAMES = ("random", "random, ASHA", "TPE, ASHA", "learning curves, ASHA")

ENDED = 2
"""Trials after which a search is predicted."""

NEAR = 0.15
"""Relative error that a forecast may have."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A method with a number of trials, over seeds."""

    method: str
    trials: int
    value: float
    """Mean of what the pick is truly worth."""
    error: float
    """Standard error of that."""
    cost: float
    """Mean of the processor's seconds of training and scoring."""
    lean: float
    """Mean relative error of the forecast: above 0 it is too long."""
    near: int
    """Seeds in which it was off by less than `NEAR`."""


def main(
    seeds: Annotated[int, typer.Option(min=2, help="Searches of each method and number.")] = 40,
    trials: Annotated[tuple[int, int, int], typer.Option(min=1, help="Three numbers of trials.")] = (12, 20, 30),
    recording: Annotated[Path, typer.Option(help="Recorded trials.")] = RECORDING,
    json_: Annotated[Path | None, typer.Option("--json", help="File that gets the last line, too.")] = None,
) -> None:
    """Compare what searches come to, and what they cost, in a given number of trials."""
    try:
        surrogate = Surrogate(read_recording(recording))
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    optuna.logging.set_verbosity(logging.ERROR)
    demo = load_config(DEMO)
    outcomes = [
        _outcome(name, configured(demo, METHODS[name], count), surrogate, seeds) for count in trials for name in NAMES
    ]
    print_table(
        [
            ("trials", "", "its pick is worth", "cost, s", "forecast leans by", f"within {NEAR:.0%}"),
            *(
                (
                    str(each.trials),
                    each.method,
                    f"{each.value:.3f} +- {each.error:.3f}",
                    f"{each.cost:.0f}",
                    f"{each.lean:+.1%}",
                    f"{each.near} of {seeds}",
                )
                for each in outcomes
            ),
        ]
    )
    conclude(
        {
            "benchmark": "given_trials",
            "cores": cores(),
            "seeds": seeds,
            "outcomes": [asdict(each) for each in outcomes],
        },
        json_,
    )


def _outcome(name: str, config: SearchConfig, surrogate: Surrogate, seeds: int) -> Outcome:
    courses = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as journal:
            courses.append(VirtualSearch(config, surrogate, seed, Path(journal)).run())
    errors = [forecast_error(course, config, surrogate) for course in courses]
    values = [course.value for course in courses]
    return Outcome(
        method=name,
        trials=config.trials,
        value=mean(values),
        error=stdev(values) / math.sqrt(seeds),
        cost=mean(course.cost for course in courses),
        lean=mean(errors),
        near=sum(abs(error) < NEAR for error in errors),
    )


def forecast_error(course: Course, config: SearchConfig, surrogate: Surrogate) -> float:
    """Relative error of what is predicted of the cost of a search's trials; above 0 it is too long.

    Args:
        course: Of the whole search.
        config: The search.
        surrogate: Knows the pace, of which the mean over what is adapted is taken.
    """
    step, scoring = fmean(surrogate.costs.step.values()), fmean(surrogate.costs.scoring.values())
    work = Workload(config, images=1, final_images=1)
    begun = [
        TrialRecord(id=trial_id(number), params={}, steps=steps[-1])
        for number, (steps, _) in enumerate(course.trainings[: ENDED + SEATS])
    ]
    true = sum(step * steps[done - 1] + scoring * done for steps, done in course.trainings)
    predicted = 0.0
    for record, (steps, done) in zip(begun, course.trainings, strict=False):
        if record.number < ENDED:
            expected: tuple[float, float] = steps[done - 1], done
        else:
            going_on = 1.0 if record.number < work.exempt else work.going_on()
            expected = work.expected(record.steps, going_on=going_on)
        predicted += step * expected[0] + scoring * expected[1]
    predicted += sum(step * steps + scoring * scored for steps, scored in work.coming(begun))
    return predicted / true - 1


if __name__ == "__main__":
    typer.run(main)
