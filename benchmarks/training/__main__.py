"""Samples a second in training: our loop on a warm model against a plain loop in the way of diffusers' examples.

Both sides train LoRA of the same rank on the same layers of the demo's model with the same photos, batch, loss and
schedule, and take turns. One job is compared with one job, a thread each; then the machine: as many of our processes at
once as it has cores, a thread each, as a search's workers are, with the plain loop on all threads. That both learn the
same is seen by their mean loss and by the loss on held-out photos afterwards, which our side measures for both.

On a machine that has other work, too, threads wait for each other and the plain loop on all of them says nothing; one
job a second of processor time is then the figure to look at.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from scipy.stats import ttest_ind

from benchmarks.outcome import conclude, cores, print_table, spread
from benchmarks.subprocess_object import Held
from benchmarks.training.plain_training import PlainTraining
from benchmarks.training.training_run import Run, Work
from benchmarks.training.warm_training import WarmTraining
from benchmarks.trial_overhead.short_trials import DEMO
from search.config.search_config import load_config
from trainer.data.photos import load_photos, split_photos
from trainer.job.heap import heap_environment

GOALS = {"one_job": 1.3, "machine": 2.0}
"""How many times as many samples a second as the plain loop's we want to train."""

RATES = {
    "one_job": "samples a second, one job",
    "one_job_processor": "  a second of processor time",
    "machine": "samples a second, the machine",
}
"""What is compared, and its name in the table."""

LEARNING_RATE = 1e-3
"""At which a hundred steps lower the loss on held-out photos visibly."""

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One training of one side, on one thread in a new process."""

    cold: float
    """Seconds from the start of the process to the end of the first step."""
    run: Run
    validation_loss: float
    """On the held-out photos, after training."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Both sides' turns; those of a round have the same seed."""

    untuned: float
    """Validation loss without an adapter."""
    ours: tuple[Turn, ...]
    plain: tuple[Turn, ...]
    warm: tuple[float, ...]
    """Seconds of our next job on the same process to the end of its first step."""
    our_machine: tuple[float, ...]
    """Samples a second of all our processes together."""
    plain_machine: tuple[float, ...]
    """Samples a second of the plain loop on all threads."""

    def outcome(self, work: Work) -> dict[str, Any]:
        """Everything that the benchmark has to say."""
        ours, plain = _figures(self.ours, self.our_machine), _figures(self.plain, self.plain_machine)
        ratios = {name: statistics.median(ours[name]) / statistics.median(plain[name]) for name in RATES}
        return {
            "benchmark": "training",
            "cores": cores(),
            "rounds": len(self.ours),
            "steps": work.config.steps,
            "batch": work.config.batch_size,
            "rank": work.config.rank,
            "targets": work.config.targets,
            "text_encoder": work.config.trains_text_encoder,
            "ratios": ratios,
            "goals": GOALS,
            "met": {name: ratios[name] >= goal for name, goal in GOALS.items()},
            "loss": compared(*([turn.run.mean_loss for turn in turns] for turns in (self.ours, self.plain))),
            "validation_loss": {
                "untuned": self.untuned,
                **compared(*([turn.validation_loss for turn in turns] for turns in (self.ours, self.plain))),
            },
            "ours": {**ours, "warm_start": list(self.warm)},
            "plain": plain,
        }


def compared(ours: Sequence[float], plain: Sequence[float]) -> dict[str, Any]:
    """Losses of both sides, the difference of their means, and its interval (Welch): None with one value a side."""
    interval = None
    if min(len(ours), len(plain)) > 1:
        found = ttest_ind(ours, plain, equal_var=False).confidence_interval(CONFIDENCE)
        interval = [float(found.low), float(found.high)]
    return {
        "ours": list(ours),
        "plain": list(plain),
        "difference": statistics.mean(ours) - statistics.mean(plain),
        "interval": interval,
        "same": None if interval is None else interval[0] <= 0 <= interval[1],
    }


def milliseconds(runs: Sequence[Run]) -> dict[str, float]:
    """Time of a step by phase, over all steps of `runs`."""
    steps = sum(run.steps for run in runs)
    return {phase: 1000 * sum(run.phases[phase] for run in runs) / steps for phase in runs[0].phases}


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Turns a side, each with another seed.")] = 5,
    steps: Annotated[int, typer.Option(min=2, help="Optimizer steps of a training.")] = 100,
    text_encoder: Annotated[bool, typer.Option("--text-encoder", help="Train the text encoder, too.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="One round of two steps: that it runs, not how fast.")] = False,
    json_: Annotated[Path | None, typer.Option("--json", help="File that gets the last line, too.")] = None,
) -> None:
    """Compare our training with the way of diffusers' examples."""
    rounds, steps = (1, 2) if quick else (rounds, steps)
    with tempfile.TemporaryDirectory(prefix="training-") as folder, redirect_stdout(sys.stderr):
        # Libraries' remarks go to stderr, so that stdout holds nothing but the outcome.
        work = training_work(steps, text_encoder=text_encoder)
        measured = _measure(work, rounds, Path(folder))
    outcome = measured.outcome(work)
    _show(outcome)
    conclude(outcome, json_)


def training_work(steps: int, *, text_encoder: bool) -> Work:
    """The demo's model, photos and settings, with the default rank and targets."""
    search = load_config(DEMO / "search.yaml")
    config = replace(
        search.training,
        learning_rate=LEARNING_RATE,
        text_encoder_learning_rate=None if text_encoder else 0.0,
        steps=steps,
        lr_warmup_steps=min(search.training.lr_warmup_steps, steps - 1),
    )
    photos = load_photos(search.photos.folder, search.photos.trigger)
    split = split_photos(photos, search.photos.reference_share, search.photos.seed)
    return Work(model=search.model, split=split, config=config)


def _our_process(work: Work, cache: Path) -> Held:
    return Held(1, WarmTraining, work, 1, cache, environment=heap_environment())


def _measure(work: Work, rounds: int, folder: Path) -> Measured:
    ours, plain, warm, our_machine, plain_machine = [], [], [], [], []
    for seed in range(rounds):
        typer.echo(f"round {seed + 1} of {rounds}: one job on one thread")
        began = time.perf_counter()
        with _our_process(work, folder / f"cache-{seed}") as our:
            our.call("start", seed).result()
            cold = time.perf_counter() - began
            run = our.call("run").result()
            loss = our.call("validation_loss", our.call("weights").result()).result()
            ours.append(Turn(cold=cold, run=run, validation_loss=loss))
            began = time.perf_counter()
            with Held(1, PlainTraining, work, 1) as their:
                their.call("start", seed).result()
                cold = time.perf_counter() - began
                run = their.call("run").result()
                loss = our.call("validation_loss", their.call("weights").result()).result()
            plain.append(Turn(cold=cold, run=run, validation_loss=loss))
            untuned = our.call("validation_loss", {}).result()
            warm.append(our.call("start", seed).result())
            typer.echo(f"round {seed + 1} of {rounds}: the machine")
            with ExitStack() as stack:
                others = [stack.enter_context(_our_process(work, folder / f"cache-{seed}")) for _ in range(cores() - 1)]
                our_machine.append(_machine_rate([our, *others], seed))
        with Held(cores(), PlainTraining, work, cores()) as their:
            plain_machine.append(_machine_rate([their], seed))
    return Measured(
        untuned=untuned,
        ours=tuple(ours),
        plain=tuple(plain),
        warm=tuple(warm),
        our_machine=tuple(our_machine),
        plain_machine=tuple(plain_machine),
    )


def _machine_rate(processes: Sequence[Held], seed: int) -> float:
    """Samples a second of all processes together, each past its first step when the clock starts."""
    started = [process.call("start", seed + number) for number, process in enumerate(processes)]
    for future in started:
        future.result()
    began = time.perf_counter()
    runs: list[Run] = [future.result() for future in [process.call("run") for process in processes]]
    return sum(run.samples for run in runs) / (time.perf_counter() - began)


def _figures(turns: Sequence[Turn], machine: Sequence[float]) -> dict[str, Any]:
    return {
        "one_job": [turn.run.rate for turn in turns],
        "one_job_processor": [turn.run.processor_rate for turn in turns],
        "machine": list(machine),
        "cold_start": [turn.cold for turn in turns],
        "step": milliseconds([turn.run for turn in turns]),
        "memory": [turn.run.memory for turn in turns],
    }


def _show(outcome: dict[str, Any]) -> None:
    ours, plain, ratios = outcome["ours"], outcome["plain"], outcome["ratios"]
    parts = "UNet and text encoder" if outcome["text_encoder"] else "UNet"
    typer.echo(
        f"{outcome['rounds']} x {outcome['steps']} steps of {outcome['batch']} photos a side, rank {outcome['rank']} "
        f"on the {outcome['targets']} of the {parts}, {outcome['cores']} cores:"
    )
    rows = [
        (
            name,
            spread(ours[key]),
            spread(plain[key]),
            f"{ratios[key]:.2f}",
            f">= {GOALS[key]:g}" if key in GOALS else "",
        )
        for key, name in RATES.items()
    ]
    rows.append(("start to first step, seconds", spread(ours["cold_start"]), spread(plain["cold_start"]), "", ""))
    rows.append(("  next job on a warm model", spread(ours["warm_start"]), "the same again", "", ""))
    if None not in (*ours["memory"], *plain["memory"]):
        rows.append(("memory above the models, MiB", spread(ours["memory"]), spread(plain["memory"]), "", ""))
    print_table([("", "ours", "plain loop", "ratio", "goal"), *rows])
    for name, side in (("our", ours), ("the plain loop's", plain)):
        whole = sum(side["step"].values())
        told = ", ".join(f"{phase} {part:.1f} ({part / whole:.0%})" for phase, part in side["step"].items())
        typer.echo(f"where {name} step goes, {whole:.1f} ms: {told}")
    for name, key in (("loss in training", "loss"), ("loss on held-out photos", "validation_loss")):
        losses = outcome[key]
        apart = "one round has no interval"
        if losses["interval"] is not None:
            apart = "{:+.4f} ... {:+.4f}, 95 %".format(*losses["interval"])
        typer.echo(
            f"{name}: {statistics.mean(losses['ours']):.4f} and {statistics.mean(losses['plain']):.4f}, "
            f"difference {losses['difference']:+.4f} ({apart})"
        )
    typer.echo(f"loss on held-out photos of the untuned model: {outcome['validation_loss']['untuned']:.4f}")


if __name__ == "__main__":
    typer.run(main)
