"""Does the search's choice hold up? Searches replayed on adapters that were trained for real, and judged by what they
never saw: other prompts, other seeds and other photos.

`python -m benchmarks.truth.candidates` trains and draws the candidates, once. Each repeat then deals prompts, seeds,
photos and configurations anew, chooses as a search does, and looks up what the choice is worth: repeats share trainings
and images, so that they differ less than searches from the beginning would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.random import Generator

from benchmarks.outcome import conclude, cores, print_table
from benchmarks.truth.candidates import FOLDER, collect_candidates
from benchmarks.truth.coverage import Coverage, coverage, drawn_finals
from benchmarks.truth.draws import draw_configurations, draw_slices
from benchmarks.truth.meters import Meter, meters
from benchmarks.truth.rank_agreement import Agreement, rank_agreement
from benchmarks.truth.records import Records
from benchmarks.truth.replay import Replay, replay

CONFIDENCE = 0.95

TRIALS = 12
"""Configurations that a repeat's search tries, as many as the demo's."""

COSTS = ((3, 1), (6, 1), (12, 1), (12, 2), (24, 2))
"""Prompts and seeds of a cheap score."""

FINAL = {"prompts": 8, "seeds": 2}
"""Of a final whose intervals are checked."""

GOALS = {"wins": 0.95, "tau": 0.8}
"""Least values that we want to see: of 20 winners, 19 that beat the default; and of the search's default cost."""


def main(
    repeats: Annotated[int, typer.Option(min=1, help="Searches replayed.")] = 200,
    folder: Annotated[Path, typer.Option(help="Folder of the candidates.")] = FOLDER,
    quick: Annotated[bool, typer.Option("--quick", help="A few short trainings: that it runs, no truth.")] = False,
    json_: Annotated[Path | None, typer.Option("--json", help="File that gets the last line, too.")] = None,
) -> None:
    """Replay searches on collected candidates, and compare their choices with the truth."""
    try:
        records = Records.read(collect_candidates(folder, quick=True) if quick else folder)
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    random = np.random.default_rng(0)
    repeats, draws = (4, 2) if quick else (repeats, 40)
    replays = _replays(records, repeats, random)
    intervals = _intervals(records, draws, random)
    agreements = _agreements(records, repeats, random)
    _show_replays(replays)
    _show_intervals(intervals)
    _show_agreements(agreements)
    measured = meters(records)
    _show_meters(measured)
    conclude(
        {
            "benchmark": "truth",
            "cores": cores(),
            "repeats": repeats,
            "configurations": len(records.runs),
            "trainings": len(records.candidates),
            "wins": _share([each.won for each in replays]),
            "gap": {name: _gaps(replays, name) for name in ("objective", "likeness")},
            "coverage": {
                "objective": _share([each.holds for each in replays]),
                "lead": _share([each.lead_holds for each in replays]),
            },
            "intervals": {
                case: {name: asdict(each) for name, each in methods.items()} for case, methods in intervals.items()
            },
            "tau": [asdict(each) for each in agreements],
            "meters": {name: asdict(each) for name, each in measured.items()},
            "goals": GOALS,
        },
        json_,
    )


def _replays(records: Records, repeats: int, random: Generator) -> list[Replay]:
    runs = records.runs
    several = [number for number in runs if number and len(runs[number]) == len(runs[0])]
    single = [number for number in runs if number and number not in several]
    return [
        replay(
            records,
            draw_configurations(several, single, TRIALS, random),
            draw_slices(records.shape, random),
            confidence=CONFIDENCE,
            seed=seed,
        )
        for seed in range(repeats)
    ]


def _intervals(records: Records, draws: int, random: Generator) -> dict[str, Mapping[str, Coverage]]:
    """Coverage of each way to compute intervals: of one training's score, of a configuration's, and of differences."""
    runs = records.runs
    several = [runs[number] for number in runs if number and len(runs[number]) == len(runs[0]) > 1]
    first = [trainings[:1] for trainings in runs.values()]
    cases = {"one adapter": (first, None, 1), "one adapter minus the default": (first[1:], runs[0][:1], 1)}
    if several:
        most = len(runs[0])
        cases["a configuration"] = (several, None, most)
        cases["a configuration minus the default"] = (several, runs[0], most)
    return {
        case: coverage(
            drawn_finals(records, configurations, against=against, runs=trainings, **FINAL, draws=draws, random=random),
            level=CONFIDENCE,
            random=random,
        )
        for case, (configurations, against, trainings) in cases.items()
    }


def _agreements(records: Records, repeats: int, random: Generator) -> list[Agreement]:
    prompts, seeds, _ = records.shape
    candidates = [trainings[0] for trainings in records.runs.values()]
    return [
        rank_agreement(records, candidates, prompts=cost[0], seeds=cost[1], draws=repeats, random=random)
        for cost in COSTS
        if cost[0] <= prompts and cost[1] <= seeds and cost[0] * cost[1] < prompts * seeds
    ]


def _share(values: Sequence[bool]) -> float:
    return float(np.mean(values))


def _gaps(replays: Sequence[Replay], measure: str) -> dict[str, float]:
    """Mean of what the search and the final said, minus what is true."""
    standings = [getattr(each, measure) for each in replays]
    return {
        "search": float(np.mean([each.search - each.true for each in standings])),
        "reported": float(np.mean([each.reported - each.true for each in standings])),
        "reported_same_photos": float(np.mean([each.reported - each.true_same_photos for each in standings])),
    }


def _show_replays(replays: Sequence[Replay]) -> None:
    won = sum(each.won for each in replays)
    typer.echo(f"{won} of {len(replays)} winners are truly better than the default (goal: {GOALS['wins']:.0%})")

    def row(name: str, figure: Callable[[Replay], float]) -> tuple[str, str, str, str]:
        values = [figure(each) for each in replays]
        lower, upper = np.quantile(values, [0.05, 0.95])
        return name, f"{np.mean(values):.3f}", f"{lower:.3f}", f"{upper:.3f}"

    print_table(
        [
            ("over the repeats", "mean", "5 %", "95 %"),
            row("winner's true objective", lambda each: each.objective.true),
            row("  beyond the default's", lambda each: each.objective.true - each.default.true),
            row("  short of the best that could enter", lambda each: each.best_true - each.objective.true),
            row("winner's true likeness", lambda each: each.likeness.true),
            row("search minus true, objective", lambda each: each.objective.search - each.objective.true),
            row("reported minus true, objective", lambda each: each.objective.reported - each.objective.true),
            row("  with the same photos", lambda each: each.objective.reported - each.objective.true_same_photos),
            row("search minus true, likeness", lambda each: each.likeness.search - each.likeness.true),
            row("reported minus true, likeness", lambda each: each.likeness.reported - each.likeness.true),
            row("  with the same photos", lambda each: each.likeness.reported - each.likeness.true_same_photos),
        ]
    )
    holds, leads = (_share([getattr(each, name) for each in replays]) for name in ("holds", "lead_holds"))
    typer.echo(
        f"reported intervals that hold the truth: {holds:.0%} of objectives, {leads:.0%} of leads on the default"
    )


def _show_intervals(intervals: Mapping[str, Mapping[str, Coverage]]) -> None:
    typer.echo(f"intervals at {CONFIDENCE:.0%} of a final of {FINAL['prompts']} prompts x {FINAL['seeds']} seeds:")
    rows = [
        (case, name, f"{each.held:.1%}", f"{each.width:.3f}")
        for case, methods in intervals.items()
        for name, each in methods.items()
    ]
    print_table([("of", "resampled", "held", "width"), *rows])


def _show_agreements(agreements: Sequence[Agreement]) -> None:
    typer.echo(f"Kendall's tau of a cheap score with the full one (goal: {GOALS['tau']}):")
    rows = [
        (
            f"{each.prompts} x {each.seeds}",
            f"{each.tau:.2f}",
            f"{each.lower:.2f} ... {each.upper:.2f}",
            f"{each.other_photos:.2f}",
            f"{each.seconds:.1f}",
        )
        for each in agreements
    ]
    print_table([("prompts x seeds", "tau", "5 ... 95 %", "other photos", "seconds"), *rows])


def _show_meters(measured: Mapping[str, Meter]) -> None:
    typer.echo("meters over all configurations:")
    rows = [
        (
            name,
            *(f"{value:.3f}" for value in (each.base, each.least, each.lower, each.median, each.upper, each.greatest)),
            "-" if each.with_likeness is None else f"{each.with_likeness:.2f}",
        )
        for name, each in measured.items()
    ]
    print_table([("", "untuned", "least", "25 %", "median", "75 %", "greatest", "tau with likeness"), *rows])


if __name__ == "__main__":
    typer.run(main)
