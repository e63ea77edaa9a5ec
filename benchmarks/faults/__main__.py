"""What it costs a search that training workers are killed, and whether it comes to the same end, bit for bit.

Two searches of the demo's photos with the same configuration: one undisturbed, one whose workers are killed (SIGKILL)
in the middle of training steps. The moments are drawn evenly from the time that the undisturbed search took for its
trials, and so is the worker. A worker takes a quarter of a minute to come back, whatever a search's length; the
reference is the demo's own size, twelve trials of 100 to 300 steps.
"""

from __future__ import annotations

import random
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.faults.killed_workers import Outcome, run_struck, write_search
from benchmarks.outcome import conclude, cores, print_table

MOST = 1.25
"""How much longer than undisturbed a search with three kills may take."""

EARLIEST, LATEST = 0.1, 0.8
"""Shares of the trials' time between which the moments lie."""


def main(
    trials: Annotated[int, typer.Option(min=2, help="Trials of each search.")] = 12,
    kills: Annotated[int, typer.Option(min=1, help="Workers that are killed.")] = 3,
    seed: Annotated[int, typer.Option(help="Seed of the moments and of the choice of workers.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Four short trials, one kill.")] = False,
    json_: Annotated[Path | None, typer.Option("--json", help="File that gets the last line, too.")] = None,
) -> None:
    """Compare a search whose workers are killed with an undisturbed one."""
    steps = (100, 300)
    if quick:
        trials, kills, steps = 4, 1, (50, 100)
    randomness = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="faults-") as folder, redirect_stdout(sys.stderr):
        home = Path(folder)
        write_search(home, trials, steps)
        typer.echo("undisturbed")
        clean = run_struck(home, "undisturbed", (), randomness)
        moments = draw_moments(clean.result["seconds"]["search"], kills, randomness)
        typer.echo(f"killed at {', '.join(f'{moment:.0f} s' for moment in moments)}")
        struck = run_struck(home, "killed", moments, randomness)
    checks = check(clean, struck, trials, kills)
    ratio = struck.seconds / clean.seconds
    _show(clean, struck, checks)
    conclude(
        {
            "benchmark": "faults",
            "cores": cores(),
            "trials": trials,
            "kills": kills,
            "seed": seed,
            "undisturbed": figures(clean),
            "killed": figures(struck),
            "ratios": {"wall": ratio},
            "seconds_a_kill": (struck.seconds - clean.seconds) / kills,
            "checks": checks,
            "met": all(checks.values()) and ratio <= MOST,
        },
        json_,
    )


def draw_moments(seconds: float, count: int, randomness: random.Random) -> list[float]:
    """Ascending moments, seconds from the first trial on, one in each of as many equal parts of the time: a worker that
    is killed while it comes back would be no other fault."""
    part = (LATEST - EARLIEST) * seconds / count
    return [EARLIEST * seconds + (number + randomness.random()) * part for number in range(count)]


def figures(outcome: Outcome) -> dict[str, Any]:
    """What is told of a search."""
    return {
        "seconds": outcome.seconds,
        "trials_seconds": outcome.result["seconds"]["search"],
        "optimizer_steps": outcome.result["cost"]["optimizer_steps"],
        "blows": [round(blow, 1) for blow in outcome.blows],
        "lost_after_step": outcome.losses,
    }


def check(clean: Outcome, struck: Outcome, trials: int, kills: int) -> dict[str, bool]:
    """What has to hold of a search whose workers were killed."""
    told = struck.result["trials"]
    return {
        "killed_as_often": len(struck.blows) == len(struck.losses) == kills and not clean.losses,
        "all_trials_finished": [(trial["id"], trial["state"]) for trial in told]
        == [(f"{number:03d}", "finished") for number in range(trials)],
        "same_configurations": [trial["params"] for trial in told]
        == [trial["params"] for trial in clean.result["trials"]],
        "same_adapters": struck.adapters == clean.adapters,
        "same_scores": [trial["checkpoints"] for trial in told]
        == [trial["checkpoints"] for trial in clean.result["trials"]],
        "same_champion": all(
            struck.result["champion"][name] == clean.result["champion"][name] for name in ("trial", "step")
        ),
    }


def _show(clean: Outcome, struck: Outcome, checks: dict[str, bool]) -> None:
    print_table(
        [
            ("", "undisturbed", "killed", "ratio"),
            *(
                (name, f"{ours:.1f}", f"{theirs:.1f}", f"{theirs / ours:.3f}")
                for name, ours, theirs in (
                    ("the command, seconds", clean.seconds, struck.seconds),
                    ("of it the trials", clean.result["seconds"]["search"], struck.result["seconds"]["search"]),
                )
            ),
            ("workers lost after step", "-", " ".join(map(str, struck.losses)) or "-", ""),
        ]
    )
    typer.echo(
        f"adapters compared: {len(clean.adapters)}; fails: {', '.join(n for n in checks if not checks[n]) or '-'}"
    )


if __name__ == "__main__":
    typer.run(main)
