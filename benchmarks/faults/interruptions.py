"""Whether a search that is broken off again and again comes to the same end as an unbroken one.

Three searches of the demo's photos with the same configuration: one unbroken, one killed with SIGKILL at random moments
and one ended with SIGTERM at random moments, each resumed each time. A moment is a number of lines in the journal,
drawn evenly from those that the unbroken search has written, so that every phase can be hit.
"""

from __future__ import annotations

import random
import signal
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.faults.interrupted_search import Outcome, run_interrupted, write_search
from benchmarks.outcome import conclude, cores, print_table, spread

SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM}

ENDED = {"finished", "stopped"}


def main(
    trials: Annotated[int, typer.Option(min=3, help="Trials of each search.")] = 30,
    interruptions: Annotated[int, typer.Option(min=1, help="Interruptions of each broken search.")] = 5,
    seed: Annotated[int, typer.Option(help="Seed of the moments.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Three trials, one interruption each.")] = False,
    json_: Annotated[Path | None, typer.Option("--json", help="File that gets the last line, too.")] = None,
) -> None:
    """Compare interrupted and resumed searches with an unbroken one."""
    if quick:
        trials, interruptions = 3, 1
    randomness = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="interruptions-") as folder, redirect_stdout(sys.stderr):
        home = Path(folder)
        write_search(home, trials)
        typer.echo("unbroken")
        outcomes = {"unbroken": run_interrupted(home, "unbroken", signal.SIGTERM, ())}
        for name, number in SIGNALS.items():
            moments = sorted(randomness.sample(range(1, outcomes["unbroken"].journal), interruptions))
            typer.echo(f"{name} at lines {moments} of {outcomes['unbroken'].journal}")
            outcomes[name] = run_interrupted(home, name, number, moments)
    unbroken = outcomes.pop("unbroken")
    checks = {name: check(outcome, unbroken, trials, interruptions) for name, outcome in outcomes.items()}
    _show({"unbroken": unbroken, **outcomes}, checks)
    conclude(
        {
            "benchmark": "interruptions",
            "cores": cores(),
            "trials": trials,
            "interruptions": interruptions,
            "seed": seed,
            "unbroken": figures(unbroken),
            **{name: {**figures(outcome), "checks": checks[name]} for name, outcome in outcomes.items()},
            "met": all(all(check.values()) for check in checks.values()),
        },
        json_,
    )


def figures(outcome: Outcome) -> dict[str, Any]:
    """What is told of a search: its champion's objective over all trainings in the final, with the interval."""
    result = outcome.result
    objective = result["champion"]["across_seeds"]["objective"] if result["champion"] else None
    return {
        "objective": objective,
        "seconds": result["seconds"]["total"],
        "optimizer_steps": result["cost"]["optimizer_steps"],
        "codes": list(outcome.codes),
        "leaving": [round(seconds, 2) for seconds in outcome.leaving],
    }


def check(outcome: Outcome, unbroken: Outcome, trials: int, interruptions: int) -> dict[str, bool]:
    """What has to hold of a search that was interrupted."""
    told = outcome.result["trials"]
    steps = [[point["step"] for point in trial["checkpoints"]] for trial in told]
    own, other = figures(outcome)["objective"], figures(unbroken)["objective"]
    return {
        "interrupted_as_often": len(outcome.codes) == interruptions + 1 and all(outcome.codes[:-1]),
        "all_trials_and_none_twice": [trial["id"] for trial in told] == [f"{number:03d}" for number in range(trials)],
        "all_trials_ended": {trial["state"] for trial in told} <= ENDED,
        "no_checkpoint_twice": all(each == sorted(set(each)) for each in steps),
        "champion_within_noise": bool(
            own and other and own["lower"] <= other["upper"] and other["lower"] <= own["upper"]
        ),
        "no_orphans": outcome.orphans == 0,
    }


def _show(outcomes: dict[str, Outcome], checks: dict[str, dict[str, bool]]) -> None:
    rows = [("", "exit codes", "champion's objective", "seconds", "signal to end, s", "fails")]
    for name, outcome in outcomes.items():
        objective = figures(outcome)["objective"]
        told = f"{objective['mean']:.3f} ({objective['lower']:.3f} to {objective['upper']:.3f})" if objective else "-"
        failed = [check for check, holds in checks.get(name, {}).items() if not holds]
        rows.append(
            (
                name,
                " ".join(map(str, outcome.codes)),
                told,
                f"{figures(outcome)['seconds']:.0f}",
                spread(outcome.leaving) if outcome.leaving else "-",
                ", ".join(failed) or "-",
            )
        )
    print_table(rows)


if __name__ == "__main__":
    typer.run(main)
