"""What a search costs until its pick is as good as what random search with full budgets ends with.

Searches run on a virtual clock (`benchmarks.search_cost.virtual_search`) with the real samplers and the real early
stopping; a surrogate fitted to recorded real trials of the demo's space (`benchmarks.search_cost.recording`) stands in
for training and scoring. What counts is what the pick is truly worth, which is the surrogate's mean, while the search
sees noise.

The target is the mean, over the seeds, of what random search with full budgets has picked after all of its trials. Each
method may spend in each seed what random search spends there in all, in trials of its own number. Cost is the
processor's seconds of training and scoring of all workers until the pick is first worth the target; where a method does
not come so far it counts as infinite.

It is compared with what random search spends in all: who runs one does not know when it has arrived. Beside it stands
what random search has spent when its pick is first worth the target, with its whole cost where it never is, which is
too little and speaks for it.
"""

from __future__ import annotations

import logging
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median
from typing import Annotated, Any

import numpy as np
import optuna
import typer

from benchmarks.outcome import conclude, cores, print_table
from benchmarks.search_cost.recording import RECORDING, read_recording
from benchmarks.search_cost.surrogate import Surrogate
from benchmarks.search_cost.virtual_search import Course, VirtualSearch
from search.config.search_config import SearchConfig, load_config
from search.config.sections import SamplerName

DEMO = Path(__file__).parents[2] / "demo" / "search.yaml"

TRIALS = 30
"""Of random search with full budgets."""

MOST_TRIALS = 8 * TRIALS
"""Of a method that stops trials early: more than it can pay."""

GOAL = 0.33

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to search."""

    sampler: SamplerName
    asha: bool


RANDOM, OURS = "random", "learning curves, ASHA"

METHODS: Mapping[str, Method] = {
    RANDOM: Method(sampler="random", asha=False),
    "random, ASHA": Method(sampler="random", asha=True),
    "TPE": Method(sampler="tpe", asha=False),
    "TPE, ASHA": Method(sampler="tpe", asha=True),
    "GP": Method(sampler="gp", asha=False),
    "GP, ASHA": Method(sampler="gp", asha=True),
    "learning curves": Method(sampler="learning_curves", asha=False),
    OURS: Method(sampler="learning_curves", asha=True),
}
"""By name; `OURS` is what a search does by default."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A method against random search with full budgets, paired by seed."""

    ratio: float | None
    """Median of its cost over all that random search spends; None where that is infinite."""
    lower: float | None
    upper: float | None
    """Ends of the median's bootstrap interval over the seeds."""
    first: float | None
    """The same over what random search has spent when it first is there."""
    reached: int
    """Seeds in which it reached the target."""
    seconds: float | None
    """Median cost to the target."""
    value: float
    """Mean of what its last pick is truly worth."""
    trials: float
    stopped: float
    """Means of the trials that it began and stopped."""


def main(
    seeds: Annotated[int, typer.Option(min=2, help="Paired searches of each method.")] = 20,
    recording: Annotated[Path, typer.Option(help="Recorded trials.")] = RECORDING,
    quick: Annotated[bool, typer.Option("--quick", help="Two seeds and few trials: that it runs, no figures.")] = False,
    json_: Annotated[Path | None, typer.Option("--json", help="File that gets the last line, too.")] = None,
) -> None:
    """Compare what ways to search cost until they are as good as random search."""
    try:
        trials = read_recording(recording)
        surrogate = Surrogate(trials)
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    optuna.logging.set_verbosity(logging.ERROR)
    count, seeds = (6, 2) if quick else (TRIALS, seeds)
    fit = surrogate.fit
    typer.echo(
        f"surrogate of {len(trials)} recorded trials; of trials held out: median error {fit.error:.3f}, over the "
        f"better half {fit.top_error:.3f}; rank correlation {fit.rank_correlation:.2f}"
    )
    began = time.perf_counter()
    courses = run_methods(surrogate, seeds=seeds, trials=count)
    target = mean(course.value for course in courses[RANDOM])
    compared = {name: compare(each, courses[RANDOM], target) for name, each in courses.items()}
    _show(compared, target, seeds, count)
    ratio = compared[OURS].ratio
    met = ratio is not None and ratio <= GOAL
    typer.echo(f"goal: {OURS} at most {GOAL} of all that {RANDOM} search spends: {'met' if met else 'not met'}")
    conclude(
        {
            "benchmark": "search_cost",
            "cores": cores(),
            "seconds": time.perf_counter() - began,
            "recorded_trials": len(trials),
            "fit": asdict(fit),
            "costs": asdict(surrogate.costs),
            "seeds": seeds,
            "trials": count,
            "target": target,
            "methods": {name: asdict(each) for name, each in compared.items()},
            "goals": {OURS: GOAL},
            "met": {OURS: met},
        },
        json_,
    )


def run_methods(surrogate: Surrogate, *, seeds: int, trials: int) -> dict[str, list[Course]]:
    """Every method's searches, by seed; random search with full budgets makes so many trials."""
    demo = load_config(DEMO)
    courses: dict[str, list[Course]] = {name: [] for name in METHODS}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            budget: float | None = None
            for place, (name, method) in enumerate(METHODS.items()):
                journal = Path(folder) / f"{seed}-{place}"
                journal.mkdir()
                limit = trials if budget is None else MOST_TRIALS
                search = VirtualSearch(configured(demo, method, limit), surrogate, seed, journal)
                courses[name].append(search.run(budget))
                if budget is None:
                    budget = courses[name][-1].cost
    return courses


def configured(demo: SearchConfig, method: Method, trials: int) -> SearchConfig:
    """The demo's search by a method."""
    stopping = demo.stopping.model_copy(update={"enabled": method.asha})
    sampler = demo.sampler.model_copy(update={"name": method.sampler})
    return demo.model_copy(update={"stopping": stopping, "sampler": sampler, "trials": trials})


def compare(courses: Sequence[Course], random: Sequence[Course], target: float) -> Comparison:
    """A method's searches against random search's, seed by seed.

    Args:
        courses: The method's.
        random: Of random search with full budgets, in the same order of seeds.
        target: What the pick is to be worth.
    """
    whole = np.array([course.cost for course in random])
    first = np.array([course.cost_to(target) or course.cost for course in random])
    reached = [course.cost_to(target) for course in courses]
    costs = np.array([math.inf if cost is None else cost for cost in reached])
    ratios = costs / whole
    generator = np.random.default_rng(0)
    # Quantiles without interpolation, which knows nothing of infinity.
    resampled = [_middle(generator.choice(ratios, len(ratios))) for _ in range(RESAMPLES)]
    lower, upper = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="nearest")
    return Comparison(
        ratio=_or_none(_middle(ratios)),
        lower=_or_none(lower),
        upper=_or_none(upper),
        first=1.0 if courses is random else _or_none(_middle(costs / first)),
        reached=sum(cost is not None for cost in reached),
        seconds=_or_none(_middle(costs)),
        value=mean(course.value for course in courses),
        trials=mean(course.trials for course in courses),
        stopped=mean(course.stopped for course in courses),
    )


def _middle(values: Any) -> float:
    return float(median(float(value) for value in values))


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _show(compared: Mapping[str, Comparison], target: float, seeds: int, trials: int) -> None:
    typer.echo(
        f"cost until the pick is truly worth {target:.3f}, as random search's is on average after {trials} whole "
        f"trials; {seeds} seeds:"
    )

    def number(value: float | None, digits: int) -> str:
        return "never" if value is None else f"{value:.{digits}f}"

    print_table(
        [
            (
                *("", "cost / random's", f"{LEVEL:.0%} interval", "/ its first arrival", "seconds"),
                *("reached", "trials", "stopped", "last pick"),
            ),
            *(
                (
                    name,
                    number(each.ratio, 2),
                    f"{number(each.lower, 2)} ... {number(each.upper, 2)}",
                    number(each.first, 2),
                    number(each.seconds, 0),
                    f"{each.reached} of {seeds}",
                    f"{each.trials:.1f}",
                    f"{each.stopped:.1f}",
                    f"{each.value:.3f}",
                )
                for name, each in compared.items()
            ),
        ]
    )


if __name__ == "__main__":
    typer.run(main)
