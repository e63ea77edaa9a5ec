"""What a GPU makes of our training and scoring: figures and what is wanted of them, in minutes and without a network.

The models have the sizes of Stable Diffusion 1.5 and CLIP ViT-B/32 and random weights, which the benchmark draws
itself; so it says how fast, how large and how exact things are, and nothing of how good images become. Trainings and
scorings are those of a search, by the same job runner. Measurements come in order of importance, each within a time of
its own; a failed one is a row with its reason, and the others follow. On a machine without a GPU everything runs on
the CPU: `--quick` makes it small enough for that.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.checkpoint import checkpoint
from benchmarks.gpu.device import Device
from benchmarks.gpu.images import image_rate, same_images
from benchmarks.gpu.levers import compiled, levers
from benchmarks.gpu.numerics import against_float32, half_precision, repeats
from benchmarks.gpu.random_models import write_kit
from benchmarks.gpu.rows import Row, Table, measure, not_measured
from benchmarks.gpu.sharing import many_jobs, processes
from benchmarks.gpu.shortage import caps, shortage
from benchmarks.gpu.sizes import FULL, QUICK
from benchmarks.gpu.speed import no_sync, optimizers, step_time
from benchmarks.gpu.start import environment, start
from benchmarks.outcome import conclude
from trainer.models.loading import choose_device, set_threads


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A question to the device."""

    number: int
    title: str
    measure: Callable[[Bench], Iterator[Row]]
    seconds: float
    """It may take on a fast card, with a margin."""
    least: float
    """Without so many seconds it is not begun."""


def _failing_worker(bench: Bench) -> Iterator[Row]:
    yield not_measured("two workers, one made to fail", "the tests of search.workers hold it, with Ray")


MEASUREMENTS = (
    Measurement(number=1, title="environment", measure=environment, seconds=60, least=5),
    Measurement(number=2, title="a worker's start", measure=start, seconds=90, least=20),
    Measurement(number=6, title="time and memory of a step", measure=step_time, seconds=90, least=10),
    Measurement(number=7, title="images a second", measure=image_rate, seconds=80, least=10),
    Measurement(number=10, title="a full card", measure=shortage, seconds=80, least=15),
    Measurement(number=8, title="the same images", measure=same_images, seconds=60, least=10),
    Measurement(number=9, title="a checkpoint", measure=checkpoint, seconds=90, least=20),
    Measurement(number=3, title="16 bits against float32", measure=against_float32, seconds=80, least=15),
    Measurement(number=14, title="optimizers and states", measure=optimizers, seconds=60, least=10),
    Measurement(number=15, title="repeated and resumed", measure=repeats, seconds=50, least=10),
    Measurement(number=13, title="several processes", measure=processes, seconds=110, least=40),
    Measurement(number=16, title="levers", measure=levers, seconds=60, least=10),
    Measurement(number=12, title="many jobs", measure=many_jobs, seconds=45, least=10),
    Measurement(number=5, title="waiting for the device", measure=no_sync, seconds=20, least=5),
    Measurement(number=4, title="float16", measure=half_precision, seconds=40, least=10),
    Measurement(number=11, title="smaller cards", measure=caps, seconds=60, least=10),
    Measurement(number=16, title="torch.compile", measure=compiled, seconds=150, least=60),
    Measurement(number=17, title="a failing worker", measure=_failing_worker, seconds=5, least=0),
)
"""By importance."""


def main(
    minutes: Annotated[float, typer.Option(min=0.1, help="After which no measurement is begun or goes on.")] = 9.0,
    only: Annotated[list[int] | None, typer.Option(help="Numbers of the measurements wanted; all without it.")] = None,
    stand_in_faces: Annotated[
        bool, typer.Option("--stand-in-faces", help="Where DeepFace is not installed: a face model that costs nothing.")
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny models: that it runs, not how fast.")] = False,
    json_: Annotated[Path | None, typer.Option("--json", help="File that gets all rows, as they come.")] = None,
) -> None:
    """Measure what a GPU makes of training and scoring."""
    end = time.monotonic() + 60 * minutes
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what a Hopper card has anyway, and repeats itself
    sizes, device = QUICK if quick else FULL, choose_device()
    set_threads(1)
    table = Table(
        json_,
        {
            "benchmark": "gpu",
            "quick": quick,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "faces": "stand-in" if stand_in_faces else "Dlib",
        },
    )
    with tempfile.TemporaryDirectory(prefix="gpu-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rows say what matters
        logging.disable(logging.WARNING)
        began = time.perf_counter()
        setup = write_kit(Path(folder), sizes, device)
        table.add(0, Row(name="draw and write the models", value=time.perf_counter() - began, unit="s"))
        table.add(0, Row(name="faces", value="a stand-in, which takes no time" if stand_in_faces else setup.faces.name))
        bench = Bench(setup, sizes, Device(device), Path(folder), stands_in=stand_in_faces)
        for each in MEASUREMENTS:
            left = end - time.monotonic()
            if only and each.number not in only:
                continue
            if left < each.least:
                table.add(each.number, not_measured(each.title, f"{left:.0f} s are left of {minutes:g} minutes"))
                continue
            seconds = min(each.seconds * sizes.fraction, left)
            if not measure(table, each.number, each.title, lambda each=each: each.measure(bench), seconds=seconds):  # type: ignore[misc]
                bench.reset()
            bench.device.tidy()
    conclude(table.outcome(), json_)


if __name__ == "__main__":
    typer.run(main)
