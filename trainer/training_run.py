"""One training run without a search: photos and a base model in, an adapter out, resumed from its own states."""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from torch import Tensor

from trainer.adapters.adapter_files import BASE_TEXT, TRIGGER_TEXT, save_adapter
from trainer.adapters.kohya import export_kohya
from trainer.config import READ_BY_DIFFUSERS_ONLY
from trainer.data.bucketed_cache import BucketedCache, build_bucketed_cache
from trainer.data.buckets import bucket_warnings
from trainer.data.cache import DataCache, remove_unused
from trainer.data.class_photos import load_class_photos
from trainer.data.photos import repeated
from trainer.data.prior import build_prior_cache
from trainer.data.views import Views
from trainer.files import put_back, step_name
from trainer.job.job import StepReport, TrainingJob
from trainer.job.state import OtherJobError
from trainer.models.loading import BaseModel, choose_device, load_base_model
from trainer.run_config import RunConfig
from trainer.storage import StorageError, storage_errors

STATE_FOLDER = "state"
CACHE_FOLDER = "cache"
TERMINAL_SECONDS = 0.5
PIPE_SECONDS = 10.0
"""Seconds between two reports of progress, on a terminal and in a file or pipe."""


class RunInputError(ValueError):
    """Photos, base model or a state to resume from cannot be used; the message names the remedy."""


class _Stopped(Exception):  # noqa: N818 - no error
    """The run should end while class images are drawn; those that exist stay."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How a run ended."""

    step: int
    """Optimizer steps done."""
    files: tuple[Path, ...]
    """The adapter for diffusers and, where they read its kind, the one for ComfyUI and A1111; () if the run was stopped
    before its last step."""


def run_training(config: RunConfig, console: Console, should_stop: Callable[[], bool]) -> RunResult:
    """Trains until the last step or until it should stop, from the newest state in the output folder if there is one.

    Writes `state/step-N/` every config.save_every steps and where it stops, each whole or not there, and at the end
    `pytorch_lora_weights.safetensors` and `NAME.safetensors`. A run resumed after a kill ends with the weights of an
    unbroken one, bit for bit (on one machine and with equal threads). Of damaged states the newest whole one is taken.
    No other process trains into the same folder meanwhile.

    Args:
        config: what to do.
        console: where progress is shown.
        should_stop: asked after every step.

    Raises:
        RunInputError: photos, model or state cannot be used, or another process trains into the output folder.
        TrainingDiverged: loss, gradients or weights are not finite any more.
        OutOfMemory: not even one photo at a time fits into memory.
        StorageError: something could not be written; the states before it are whole.
    """
    with _held(config.output):
        for folder in (config.output, config.output / CACHE_FOLDER, config.output / STATE_FOLDER):
            put_back(folder)
        try:
            base, cache, prior = _load(config, console, should_stop)
        except _Stopped:
            return RunResult(step=0, files=())
        with _start(config, base, cache, prior) as job:
            return _train(config, job, console, should_stop)


def _train(config: RunConfig, job: TrainingJob, console: Console, should_stop: Callable[[], bool]) -> RunResult:
    states = config.output / STATE_FOLDER
    for text in _resume(job, states):
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    saved = job.step_count
    with TrainingProgress(job.config.steps, job.step_count, console) as progress:
        while not job.finished and not should_stop():
            said = len(job.remarks)
            progress.stepped(job.step())
            for remark in job.remarks[said:]:
                progress.note(remark)
            if job.step_count % config.save_every == 0 or job.finished:
                job.save(states / step_name(job.step_count))
                saved = job.step_count
        if not job.finished:
            if job.step_count != saved:
                job.save(states / step_name(job.step_count))
            return RunResult(step=job.step_count, files=())
    texts = {TRIGGER_TEXT: config.photos.trigger, BASE_TEXT: job.base.sha256}
    with job.evaluation_mode():  # where weights are averaged, the average is what is exported
        diffusers_file = save_adapter(job.adapter, config.output, metadata=texts)
    other_file = f"{config.name}.safetensors"
    if reason := READ_BY_DIFFUSERS_ONLY.get(config.training.adapter):
        text = f"no {other_file} for ComfyUI and A1111: {reason}"
        console.print(text, markup=False, highlight=False, soft_wrap=True)
        return RunResult(step=job.step_count, files=(diffusers_file,))
    return RunResult(
        step=job.step_count, files=(diffusers_file, export_kohya(config.output, config.output / other_file))
    )


def _resume(job: TrainingJob, states: Path) -> list[str]:
    """Puts the newest state that is whole into the job; what to tell of it.

    Raises:
        RunInputError: they are another job's, or there are states but none of them is whole.
    """
    remedy = f"to begin anew, remove {states} or name another output"
    refused: list[str] = []
    for state in saved_states(states):
        try:
            job.restore(state)
        except OtherJobError as error:
            raise RunInputError(f"{error}; {remedy}") from error
        except ValueError as error:
            refused.append(f"cannot resume from {state.name}: {error}")
        else:
            return [*refused, f"resumed from {state}"]
    if refused:
        raise RunInputError("\n".join([*refused, f"no state is left to resume from; {remedy}"]))
    return []


def saved_states(states: Path) -> list[Path]:
    """The folders `step-N`, the highest N first."""
    steps = {int(match[1]): path for path in states.glob("*") if (match := re.fullmatch(r"step-(\d+)", path.name))}
    return [steps[step] for step in sorted(steps, reverse=True)]


@contextmanager
def _held(output: Path) -> Iterator[None]:
    """Makes the folder if it is missing and keeps other processes out of it, until the block ends or this process dies.

    Raises:
        RunInputError: another process holds it, or it cannot be made.
        StorageError: there is no room for it.
    """
    made = not output.exists()
    try:
        with storage_errors(output):
            output.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(output, os.O_RDONLY)
    except StorageError:
        raise
    except OSError as error:
        raise RunInputError(f"output: {output} cannot be a folder ({error.strerror}); name another") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunInputError(
                f"another process is training into {output}; wait for its end, or name another output"
            ) from None
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        if made:
            with suppress(OSError):  # something is in it
                output.rmdir()
        os.close(descriptor)


def _load(
    config: RunConfig, console: Console, should_stop: Callable[[], bool]
) -> tuple[BaseModel, BucketedCache, DataCache | None]:
    began = time.time()
    try:
        photos = config.photos.load()
        buckets, training = config.photos.buckets, config.training
        for warning in (
            *config.photos.warnings(photos, training.resolution),
            *bucket_warnings(repeated(photos), buckets, training.resolution, training.batch_size),
        ):
            console.print(f"photos: {warning}", markup=False, highlight=False, soft_wrap=True)
        class_photos = load_class_photos(
            config.photos.prior,
            photos,
            trigger=config.photos.trigger,
            maximum_pixels=config.photos.maximum_pixels,
        )
        base = load_base_model(config.model, device=choose_device())
        folder = config.output / CACHE_FOLDER
        cache = build_bucketed_cache(
            repeated(photos),
            base,
            resolution=config.training.resolution,
            folder=folder,
            views=Views.needed_by([config.training]),
            buckets=buckets,
        )
        if config.photos.prior is None:
            remove_unused(folder, before=began)
            return base, cache, None
        with console.status("class images") as status:

            def on_drawn(done: int, count: int) -> None:
                status.update(f"class images: {done} of {count} drawn")
                if should_stop():
                    raise _Stopped

            prior = build_prior_cache(
                config.photos.prior,
                class_photos,
                base,
                resolution=config.training.resolution,
                folder=folder,
                on_drawn=on_drawn,
            )
        remove_unused(folder, before=began)
        return base, cache, prior
    except StorageError:
        raise
    except (ValueError, OSError) as error:
        raise RunInputError(str(error)) from error


def _start(config: RunConfig, base: BaseModel, cache: BucketedCache, prior: DataCache | None) -> TrainingJob:
    try:
        return TrainingJob(base, cache, config.training, Views.needed_by([config.training]), prior)
    except ValueError as error:
        raise RunInputError(str(error)) from error


class TrainingProgress:
    """Shows step, loss, learning rate, steps a second and time left.

    The loss is averaged over the steps since it was last shown, since one step's says little. Only when something is
    shown does it wait for the device.

    Args:
        steps: of the whole run.
        first_step: steps done before this process began, 0 unless it resumes.
        console: where to write.
        clock: seconds from any moment on.
    """

    def __init__(
        self, steps: int, first_step: int, console: Console, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._steps = steps
        self._first_step = first_step
        self._console = console
        self._clock = clock
        self._began = self._shown = clock()
        self._losses: list[Tensor] = []
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        if console.is_terminal:
            self._bar = Progress(BarColumn(), TextColumn("{task.description}", markup=False), console=console)
            self._task = self._bar.add_task("measuring", total=steps, completed=first_step)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def stepped(self, report: StepReport) -> None:
        """A step was done."""
        self._losses.append(report.loss_tensor)
        wait = PIPE_SECONDS if self._bar is None else TERMINAL_SECONDS
        if report.step < self._steps and self._clock() - self._shown < wait:
            return
        text = self._line(report)
        self._shown = self._clock()
        self._losses.clear()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=report.step, description=text)
        else:
            self.note(text)

    def note(self, text: str) -> None:
        """Something to know, on a line of its own."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _line(self, report: StepReport) -> str:
        loss = sum(float(loss) for loss in self._losses) / len(self._losses)
        rates = ", ".join(f"{part} {rate:.2e}" for part, rate in report.learning_rates.items())
        speed = (report.step - self._first_step) / max(self._clock() - self._began, 1e-9)
        left = timedelta(seconds=round((self._steps - report.step) / speed))
        return f"step {report.step}/{self._steps}  loss {loss:.4f}  rate {rates}  {speed:.2f} steps/s  {left} left"
