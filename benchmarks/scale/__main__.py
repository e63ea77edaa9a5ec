"""What a trial costs the driver as a search grows: processor seconds by part, and memory, trial after trial.

A whole search of the demo's space runs with everything that is real about it: Tune, sampler and journal, dispatcher,
callback, MLflow's record in sqlite, progress, final, result and report. Only the workers' work is simulated
(`benchmarks.scale.simulated_worker`), so that nothing but the search itself takes time.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.outcome import conclude, cores, print_table
from benchmarks.scale.driver_parts import DriverParts
from benchmarks.scale.growth import GROWN, Sample, Window, windows
from search.config.search_config import load_config
from search.config.sections import SamplerConfig
from search.photos.split import read_split
from search.report.figures import draw_figures
from search.report.report_page import write_report
from search.search import run_search
from search.storage.result import SearchResult
from search.storage.run_folder import read_config

DEMO = Path(__file__).parents[2] / "demo" / "search.yaml"

MARKS = (20, 100, 300, 1000)
"""Trials ended at which the driver is looked at; before the first, Tune starts the processes of its trials."""

QUICK_MARKS = (3, 6, 9)

MEBIBYTE = 2**20


def main(
    trials: Annotated[int | None, typer.Option(min=3, help="Trials of the search.")] = None,
    sampler: Annotated[str, typer.Option(help="Who proposes, as sampler.name.")] = SamplerConfig().name,
    quick: Annotated[bool, typer.Option("--quick", help="A few trials: that it runs, no figures.")] = False,
    json_: Annotated[Path | None, typer.Option("--json", help="File that gets the last line, too.")] = None,
) -> None:
    """Measure what a trial costs the driver while a simulated search grows."""
    marks: tuple[int, ...] = QUICK_MARKS if quick else MARKS
    if trials is not None:
        marks = (*(mark for mark in marks if mark < trials), trials)
    # Beside the working folder, for the search's files may be too many for a memory disk.
    with tempfile.TemporaryDirectory(prefix="scale-", dir=Path.cwd()) as folder:
        conclude(measure(marks, Path(folder), sampler), json_)


def measure(marks: Sequence[int], folder: Path, sampler: str) -> dict[str, Any]:
    """Run the search, show what it took, and return the outcome.

    Args:
        marks: Numbers of trials to look at, ascending; the last is the search's.
        folder: Gets the run and MLflow's database.
        sampler: Who proposes.
    """
    overrides = (
        "name=scale",
        f"sampler.name={sampler}",
        f"trials={marks[-1]}",
        f"runs={folder / 'runs'}",  # MLflow's database comes beside it
        "evaluation.others.prompts=null",
        "evaluation.second_judge=null",
    )
    config = load_config(DEMO, overrides)
    parts = DriverParts(marks)
    began = time.perf_counter()
    with (folder / "progress.txt").open("w", encoding="utf-8") as progress:
        result = run_search(config, console=Console(file=progress, width=200))
    seconds = time.perf_counter() - began
    if not result.has_champion:
        raise RuntimeError(f"the simulated search has no champion: {result.values['status']}")
    samples, conclusion = parts.samples, parts.conclusion()
    grown = windows(samples)
    files = _files(result, read_split(config.photos, config.evaluation.faces, find_faces=False).reference, marks)
    _show(samples, grown, files)
    for name, taken in conclusion.items():
        typer.echo(f"at the end, {name}: {taken.wall:.1f} s, of which {taken.cpu:.1f} at work")
    phases: dict[str, float] = result.values["seconds"]
    typer.echo(
        f"the search took {seconds:.0f} s: start {phases['start']:.0f}, trials {phases['search']:.0f}, "
        f"final {phases['final']:.0f}, result and the rest {seconds - sum(phases[name] for name in PHASES):.0f}"
    )
    return {
        "benchmark": "scale",
        "sampler": sampler,
        "cores": cores(),
        "trials": marks[-1],
        "checkpoints": sum(len(trial["checkpoints"]) for trial in result.values["trials"]),
        "states": _count([trial["state"] for trial in result.values["trials"]]),
        "seconds": phases,
        "windows": [asdict(window) for window in grown],
        "conclusion": {name: asdict(taken) for name, taken in conclusion.items()},
        "files": files,
    }


PHASES = ("start", "search", "final")


def _files(result: SearchResult, photos: Sequence[Any], marks: Sequence[int]) -> list[dict[str, float]]:
    """What result and report of the first trials weigh and take to write; the last are those of the whole search."""
    config, rows = read_config(result.folder), []
    for mark in marks:
        part = SearchResult(
            folder=result.folder, outcome=result.outcome.model_copy(update={"trials": result.outcome.trials[:mark]})
        )
        row: dict[str, float] = {"trials": mark}

        def report(part: SearchResult = part) -> Path:
            return write_report(part, config, photos, draw_figures(part, config))

        for name, write in (("result", part.write), ("report", report)):
            began = time.process_time()
            path = write()
            row[f"{name}_cpu_seconds"] = time.process_time() - began
            row[f"{name}_bytes"] = path.stat().st_size
        rows.append(row)
    rows[-1] |= {
        "journal_bytes": (result.folder / "journal.log").stat().st_size,
        "database_bytes": (result.folder.parents[1] / "mlflow.db").stat().st_size,
    }
    return rows


def _show(samples: Sequence[Sample], grown: Sequence[Window], files: Sequence[dict[str, float]]) -> None:
    heads = [f"{window.first}-{window.last}" for window in grown]
    names = sorted({name for window in grown for name in window.parts}, key=lambda name: -grown[-1].parts[name])
    typer.echo(f"{grown[-1].last} trials, {cores()} cores; processor milliseconds of the driver for a trial, by part:")

    def row(name: str, values: Sequence[float], digits: int = 1) -> tuple[str, ...]:
        ratio = f"{values[-1] / values[0]:.2f}" if values[0] > 0 else "-"
        return name, *(f"{value:.{digits}f}" for value in values), ratio

    print_table(
        [
            ("trials", *heads, "last / first"),
            *(row(name, [1000 * window.parts[name] for window in grown]) for name in names),
            row("the whole process", [1000 * window.cpu for window in grown]),
            row("wall milliseconds", [1000 * window.wall for window in grown]),
            row("memory of the driver, KiB", [window.driver_memory / 1024 for window in grown]),
            row("memory of the dispatcher, KiB", [window.dispatcher_memory / 1024 for window in grown]),
        ]
    )
    if grew := [name for name in names if grown[-1].grew(name, grown[0])]:
        typer.echo(f"grown by more than {GROWN:.0%} of a trial's whole cost: {', '.join(grew)}")
    else:
        typer.echo(f"no part has grown by more than {GROWN:.0%} of a trial's whole cost")
    print_table(
        [
            ("trials", "driver MiB", "dispatcher MiB"),
            *(
                (
                    str(sample.trials),
                    f"{sample.driver_memory / MEBIBYTE:.0f}",
                    f"{sample.dispatcher_memory / MEBIBYTE:.0f}",
                )
                for sample in samples
            ),
        ]
    )
    print_table(
        [
            ("trials", "result.json KiB", "CPU s", "report.html KiB", "CPU s"),
            *(
                (
                    f"{row['trials']:.0f}",
                    f"{row['result_bytes'] / 1024:.0f}",
                    f"{row['result_cpu_seconds']:.2f}",
                    f"{row['report_bytes'] / 1024:.0f}",
                    f"{row['report_cpu_seconds']:.2f}",
                )
                for row in files
            ),
        ]
    )
    last = files[-1]
    typer.echo(
        f"journal {last['journal_bytes'] / last['trials']:.0f} bytes a trial, MLflow's database "
        f"{last['database_bytes'] / last['trials']:.0f}"
    )


def _count(words: Sequence[str]) -> dict[str, int]:
    return {word: len(list(group)) for word, group in itertools.groupby(sorted(words))}


if __name__ == "__main__":
    typer.run(main)
