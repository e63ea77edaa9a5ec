"""What a trial costs beside computing: our warm workers against a stock Ray trainer started for every trial.

Both sides run the same list of short trials with the same Tune settings, the same number at once and one thread each,
in one Ray instance; they take turns, half a list each, while our workers stay up. The same job runner trains and scores
in the workers of both sides, and measures its own computing. The peer is spared what it can be: the files it reads are
in memory, the data cache is built, Tune keeps its processes, a trial reserves no CPU core, and Ray Train asks for news
ten times as often as by default.
"""

from __future__ import annotations

import logging
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import ray
import typer

from benchmarks.outcome import conclude, cores, print_table, spread
from benchmarks.trial_overhead.round import Round, run_round
from benchmarks.trial_overhead.short_trials import STEPS, short_search, short_trials
from benchmarks.trial_overhead.stock_trainer import BEGAN, LOADED, run_stock_trial
from benchmarks.trial_overhead.timeline import Side, TrialTime
from search.config.run_layout import RunLayout
from search.storage.trial_record import CheckpointResult, JobState, trial_id
from search.study.trial import TrialSetup, run_trial, train_job
from search.workers.client import measure_anchors
from search.workers.jobs import AnchorJob
from search.workers.pool import Pool
from search.workers.setup import RunnerSetup

MAX_SLOTS = 2

SEATS, STOCK = "seats", "stock"
"""Folders of the two sides; each holds a folder a trial."""

GOALS = {"overhead": 0.05, "wall": 0.4}
"""Largest ratios of workers to stock trainers that we want to see."""


def main(
    trials: Annotated[int, typer.Option(min=2, help="Trials a side.")] = 12,
    quick: Annotated[bool, typer.Option("--quick", help="Two trials a side: that it runs, not how fast.")] = False,
    json_: Annotated[Path | None, typer.Option("--json", help="File that gets the last line, too.")] = None,
) -> None:
    """Compare warm workers with a stock TorchTrainer per trial."""
    trials = 2 if quick else trials
    with tempfile.TemporaryDirectory(prefix="trial-overhead-") as folder, redirect_stdout(sys.stderr):
        # Ray's remarks and ours along the way go to stderr, so that stdout holds nothing but the outcome.
        workers, stock, phases = _measure(trials, Path(folder), warm_up=not quick)
        same_scores = _same_scores(trials, Path(folder))
    ratios = _ratios(workers, stock)
    _show(workers, stock, phases, ratios)
    outcome: dict[str, Any] = {
        "benchmark": "trial_overhead",
        "cores": cores(),
        "slots": workers.slots,
        "trials": trials,
        "steps": STEPS,
        "same_scores": same_scores,
        "ratios": ratios,
        "goals": GOALS,
        "met": {name: ratios[name] <= goal for name, goal in GOALS.items()},
        "seats": workers.figures(),
        "stock": {**stock.figures(), **phases},
    }
    conclude(outcome, json_)


def _measure(trials: int, folder: Path, *, warm_up: bool) -> tuple[Side, Side, dict[str, list[float]]]:
    """Run all trials on our workers and on stock trainers, and say where the latter's overhead goes."""
    slots = min(MAX_SLOTS, cores())
    config, runner = short_search(folder, slots)
    with _ray(slots):
        if warm_up:
            typer.echo("loading everything once, so that neither side finds cold files")
            ray.get(ray.remote(max_calls=1)(_load).remote(runner))
        typer.echo(f"starting {slots} worker(s)")
        began = time.time()
        with Pool(config.seats, runner, folder / "ray", gpus=False, count=slots) as pool:
            _, anchors = measure_anchors(pool.client, RunLayout(folder), "validation")
            _wait_for_workers(pool, folder / "start")
            start = time.time() - began
            setup = TrialSetup(config=config, client=pool.client, anchors=anchors, layout=RunLayout(folder / SEATS))
            stock_setup = replace(setup, layout=RunLayout(folder / STOCK))
            worker_rounds, stock_rounds = [], []
            for part in _turns(trials):
                configurations = {number: short_trials(trials)[number] for number in part}
                typer.echo(f"{len(part)} trials on seats")
                trainable = partial(run_trial, setup=setup)
                tune_folder = folder / f"tune-workers-{part[0]}"
                # As in a search, one trial more waits in line.
                worker_rounds.append(run_round(trainable, configurations, slots=slots, waiting=1, folder=tune_folder))
                typer.echo(f"{len(part)} trials on stock trainers")
                jobs = {number: train_job(stock_setup, number, params) for number, params in configurations.items()}
                trainable = partial(run_stock_trial, jobs=jobs, runner=runner, folder=folder / "ray")
                tune_folder = folder / f"tune-stock-{part[0]}"
                # Ray's guide: no more trials than can train, for each holds processes.
                stock_rounds.append(run_round(trainable, configurations, slots=slots, waiting=0, folder=tune_folder))
    workers = _side(worker_rounds, setup.layout.folder, start)
    stock = _side(stock_rounds, stock_setup.layout.folder, 0.0)
    return workers, stock, _phases(stock_rounds)


def _turns(trials: int) -> list[range]:
    """Numbers of the trials of each turn: two turns where each then has at least two trials a slot."""
    half = trials // 2 if trials >= 4 * MAX_SLOTS else trials
    return [part for part in (range(half), range(half, trials)) if part]


@contextmanager
def _ray(slots: int) -> Iterator[None]:
    # The pool sets this for its workers; set before Ray starts, the peer's trials inherit it.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # Tune's newer output prints even when told not to
    for name in ("ray", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Twice the slots: workers keep theirs while the peer's trials run, though an idle worker only waits for a call.
    ray.init(num_cpus=2 * slots, num_gpus=0, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def _load(setup: RunnerSetup) -> None:
    from search.workers.runner import JobRunner

    JobRunner(setup)


def _wait_for_workers(pool: Pool, folder: Path) -> None:
    """Returns when every worker is up: as many small jobs as workers are kept under way until all of them run at once.

    Raises:
        RuntimeError: a job failed.
    """
    names = (f"start-{number}" for number in count())
    under_way: list[str] = []
    while True:
        statuses = [pool.client.status(name) for name in under_way]
        if failed := [status for status in statuses if status.state is JobState.FAILED]:
            raise RuntimeError(f"job {failed[0].id} failed: {failed[0].reason}")
        if sum(status.state is JobState.RUNNING for status in statuses) == pool.count:
            break
        under_way = [status.id for status in statuses if not status.ended]
        for name in [next(names) for _ in range(pool.count - len(under_way))]:
            pool.client.submit(AnchorJob(id=name, folder=folder / name, prompt_set="validation"))
            under_way.append(name)
        time.sleep(0.05)
    for name in under_way:
        while not pool.client.status(name, reports=1, timeout=10).ended:
            pass


def _report(folder: Path, number: int) -> CheckpointResult:
    return CheckpointResult.read(RunLayout(folder).checkpoint(trial_id(number), STEPS))


def _same_scores(trials: int, folder: Path) -> bool:
    """Whether every trial came to the same scores on both sides: a sign that both did the same work."""
    pairs = ((_report(folder / SEATS, number), _report(folder / STOCK, number)) for number in range(trials))
    return all(
        worker.metrics.keys() == stock.metrics.keys()
        and all(math.isclose(worker.metrics[name], stock.metrics[name], rel_tol=1e-5) for name in worker.metrics)
        for worker, stock in pairs
    )


def _side(rounds: Sequence[Round], folder: Path, start: float) -> Side:
    trials = []
    for each in rounds:
        for number, seconds in each.occupied.items():
            report = _report(folder, number)
            trials.append(TrialTime(occupied=seconds, computed=report.training_seconds + report.scoring_seconds))
    return Side(slots=rounds[0].slots, start=start, rounds=tuple(each.wall for each in rounds), trials=tuple(trials))


def _phases(rounds: Sequence[Round]) -> dict[str, list[float]]:
    """Seconds of every stock trial until its worker's function began, and of loading models and photos there."""
    phases: dict[str, list[float]] = {"starting": [], "loading": []}
    for each in rounds:
        for number, result in each.results.items():
            free = result.at - each.occupied[number]
            phases["starting"].append(result.metrics[BEGAN] - free)
            phases["loading"].append(result.metrics[LOADED] - result.metrics[BEGAN])
    return phases


def _ratios(workers: Side, stock: Side) -> dict[str, float]:
    def ratio(figure: Callable[[Side], float]) -> float:
        return figure(workers) / figure(stock)

    return {
        "overhead": ratio(lambda side: statistics.median(side.overhead)),
        "mean_overhead": ratio(lambda side: statistics.mean(side.overhead)),
        "overhead_with_start": ratio(lambda side: side.overhead_with_start),
        "computed": ratio(lambda side: statistics.median(side.computed)),
        "wall": ratio(lambda side: side.wall),
    }


def _show(workers: Side, stock: Side, phases: Mapping[str, Sequence[float]], ratios: Mapping[str, float]) -> None:
    def row(name: str, figure: Callable[[Side], str], ratio: str = "") -> tuple[str, str, str, str, str]:
        goal = f"<= {GOALS[ratio]}" if ratio in GOALS else ""
        return name, figure(workers), figure(stock), f"{ratios[ratio]:.3f}" if ratio else "", goal

    typer.echo(
        f"{len(workers.trials)} trials of {STEPS} steps a side, {workers.slots} at once, {cores()} cores, seconds:"
    )
    print_table(
        [
            ("", "warm seats", "stock trainers", "ratio", "goal"),
            row("overhead of a trial", lambda side: spread(side.overhead), "overhead"),
            row("  mean", lambda side: f"{statistics.mean(side.overhead):.2f}", "mean_overhead"),
            row("  mean, start included", lambda side: f"{side.overhead_with_start:.2f}", "overhead_with_start"),
            row("computing of a trial", lambda side: spread(side.computed), "computed"),
            row("wall of the search", lambda side: f"{side.wall:.1f}", "wall"),
            row("  starting the seats", lambda side: f"{side.start:.1f}"),
        ]
    )
    for name, values in phases.items():
        typer.echo(f"of a stock trial's overhead, {name}: {spread(values)}")


if __name__ == "__main__":
    typer.run(main)
