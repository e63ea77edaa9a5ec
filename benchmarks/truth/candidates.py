"""Collects what `benchmarks.truth` needs: some 50 adapters of the demo, trained for real, and 192 images of each.

Every configuration is trained once: the demo's first trial, and 32 more that cover its space. The best of them, by the
mean objective on the demo's validation prompts with its two seeds against all held-out photos, and the first trial are
then trained again with other seeds. It can be stopped at any time; the same command goes on where it was.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.outcome import cores
from benchmarks.truth.candidate import Candidate, candidate_file, candidate_id, is_done
from benchmarks.truth.collection import BASE, Collection, demo_collection
from benchmarks.truth.collector import collect
from benchmarks.truth.records import Records

FOLDER = Path("build/truth")

CHEAP_PROMPTS, CHEAP_SEEDS = 12, 2
"""The first of the collection, which are the demo's validation: what a search would have seen."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One candidate to collect: the untuned model, if there is no number."""

    number: int | None = None
    run: int = 0

    @property
    def id(self) -> str:
        return BASE if self.number is None else candidate_id(self.number, self.run)


def main(
    folder: Annotated[Path, typer.Option(help="Folder of the candidates.")] = FOLDER,
    quick: Annotated[bool, typer.Option("--quick", help="A few short trainings, into FOLDER/quick.")] = False,
) -> None:
    """Train and draw the candidates of benchmarks.truth; go on with a collection that was stopped."""
    try:
        collect_candidates(folder, quick=quick)
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


def collect_candidates(folder: Path, *, quick: bool) -> Path:
    """Collect what is missing, with one process a core.

    Returns:
        The folder that holds the candidates.

    Raises:
        ValueError: the folder holds another collection.
    """
    folder = (folder / "quick" if quick else folder).resolve()
    collection = demo_collection(quick=quick)
    collection.check_folder(folder)
    first = [Task(), *(Task(number=number) for number in range(len(collection.configurations)))]
    # Processes start when there is something to do, and load the models once for both stages.
    with ProcessPoolExecutor(cores(), mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            _collect(first, pool, folder, quick=quick, later=(1 + collection.again) * (collection.runs - 1))
            best = best_configurations(Records.read(folder), collection)
            again = [Task(number=number, run=run) for run in range(1, collection.runs) for number in (0, *best)]
            _collect(again, pool, folder, quick=quick, later=0)
        except BaseException:
            pool.shutdown(cancel_futures=True, wait=False)
            raise
    return folder


def best_configurations(records: Records, collection: Collection) -> list[int]:
    """Numbers of the best configurations beside the default, by the cheap score of their first run, best first."""
    cheap = records.first(CHEAP_PROMPTS, CHEAP_SEEDS)
    scores = {
        record.number: float(records.objective(record, cheap).mean())
        for record in records.candidates
        if record.run == 0 and record.number != 0
    }
    return sorted(scores, key=lambda number: -scores[number])[: collection.again]


def _collect(tasks: Sequence[Task], pool: ProcessPoolExecutor, folder: Path, *, quick: bool, later: int) -> None:
    """Do what is missing of `tasks`, with a line for each; `later` more will follow, and count in the estimate."""
    missing = [task for task in tasks if not is_done(folder, task.id)]
    typer.echo(f"{len(missing)} of {len(tasks)} candidates to collect, {later} later, {cores()} at once")
    began = time.monotonic()
    futures = {pool.submit(collect, folder, quick, task.number, task.run): task for task in missing}
    for done, future in enumerate(as_completed(futures), 1):
        future.result()
        left = (time.monotonic() - began) / done * (len(missing) - done + later) / 60
        typer.echo(f"{done}/{len(missing)} {_line(folder, futures[future].id)}; about {left:.0f} min left")


def _line(folder: Path, id: str) -> str:
    """What became of a candidate."""
    if not candidate_file(folder, id).exists():
        return f"{id} failed: {(folder / f'{id}.failed').read_text('utf-8')}"
    about = Candidate.read(folder, id).about
    params = " ".join(
        f"{name}={value:.2g}" if isinstance(value, float) else f"{name}={value}" for name, value in about.params.items()
    )
    times = f"{about.training_seconds:.0f} + {about.generating_seconds:.0f} + {about.judging_seconds:.0f} s"
    scored = ""
    if about.number is not None and candidate_file(folder, BASE).exists():
        records = Records.read(folder, (id,))
        part = records.first(CHEAP_PROMPTS, CHEAP_SEEDS)
        (record,) = records.candidates
        likeness, objective = (float(score(record, part).mean()) for score in (records.likeness, records.objective))
        scored = f", likeness {likeness:.2f}, objective {objective:.2f}"
    return f"{id} {params}: {times} (training, images, judging){scored}"


if __name__ == "__main__":
    typer.run(main)
