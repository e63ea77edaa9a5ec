"""One training run without a search: photos and a base model in, an adapter out, resumed from its own states."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from trainer.adapters.adapter_files import BASE_TEXT, TRIGGER_TEXT, export_kohya, save_adapter
from trainer.data.bucketed_cache import BucketedCache, build_bucketed_cache
from trainer.data.buckets import bucket_warnings
from trainer.data.cache import DataCache
from trainer.data.class_photos import load_class_photos
from trainer.data.photos import load_photos, repeated
from trainer.data.prior import build_prior_cache
from trainer.data.views import Views
from trainer.files import step_name
from trainer.job.job import TrainingJob
from trainer.models.loading import BaseModel, choose_device, load_base_model
from trainer.progress import TrainingProgress
from trainer.run_config import RunConfig

STATE_FOLDER = "state"
CACHE_FOLDER = "cache"


class RunInputError(ValueError):
    """Photos, base model or a state to resume from cannot be used; the message names the remedy."""


class _Stopped(Exception):  # noqa: N818 - no error
    """The run is to end while class images are drawn; those that are there stay."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How a run ended."""

    step: int
    """Optimizer steps done."""
    files: tuple[Path, ...]
    """The adapter for diffusers and the one with kohya's keys; () if the run was stopped before its last step."""


def run_training(config: RunConfig, console: Console, should_stop: Callable[[], bool]) -> RunResult:
    """Trains until the last step or until it should stop, from the newest state in the output folder if there is one.

    Writes `state/step-N/` every config.save_every steps and where it stops, each whole or not there, and at the end
    `pytorch_lora_weights.safetensors` and `NAME.safetensors`. A run resumed after a kill ends with the weights of an
    unbroken one, bit for bit (on one machine and with equal threads).

    Args:
        config: what to do.
        console: where progress is shown.
        should_stop: asked after every step.

    Raises:
        RunInputError: photos, model or state cannot be used.
        TrainingDiverged: the loss is not finite any more.
        OutOfMemory: not even one photo at a time fits into memory.
    """
    states = config.output / STATE_FOLDER
    try:
        base, cache, prior = _load(config, console, should_stop)
    except _Stopped:
        return RunResult(step=0, files=())
    with _start(config, base, cache, prior) as job:
        newest = newest_state(states)
        if newest is not None:
            try:
                job.restore(newest)
            except ValueError as error:
                raise RunInputError(f"{error}; to begin anew, remove {states} or name another output") from error
        with TrainingProgress(job.config.steps, job.step_count, console) as progress:
            if newest is not None:
                progress.note(f"resumed from {newest}")
            while not job.finished and not should_stop():
                said = len(job.remarks)
                progress.stepped(job.step())
                for remark in job.remarks[said:]:
                    progress.note(remark)
                if job.step_count % config.save_every == 0 or job.finished:
                    job.save(states / step_name(job.step_count))
            if not job.finished:
                if job.step_count:
                    job.save(states / step_name(job.step_count))
                return RunResult(step=job.step_count, files=())
        texts = {TRIGGER_TEXT: config.photos.trigger, BASE_TEXT: base.sha256}
        with job.evaluation_mode():  # where weights are averaged, the average is what is exported
            diffusers_file = save_adapter(job.adapter, config.output, metadata=texts)
        kohya_file = export_kohya(config.output, config.output / f"{config.name}.safetensors")
        return RunResult(step=job.step_count, files=(diffusers_file, kohya_file))


def newest_state(states: Path) -> Path | None:
    """The folder `step-N` of the highest N, or None; removes what a kill left half written."""
    if not states.is_dir():
        return None
    steps: dict[int, Path] = {}
    for path in states.iterdir():
        if match := re.fullmatch(r"step-(\d+)", path.name):
            steps[int(match.group(1))] = path
        elif re.fullmatch(r"step-\d+\.[0-9a-f]{32}\.(tmp|old)", path.name):
            shutil.rmtree(path)
    return steps[max(steps)] if steps else None


def _load(
    config: RunConfig, console: Console, should_stop: Callable[[], bool]
) -> tuple[BaseModel, BucketedCache, DataCache | None]:
    try:
        photos = load_photos(
            config.photos.folder,
            config.photos.trigger,
            maximum_pixels=config.photos.maximum_pixels,
            caption_template=config.photos.caption_template,
            repeats=config.photos.repeats,
        )
        buckets, training = config.photos.buckets, config.training
        for warning in bucket_warnings(repeated(photos), buckets, training.resolution, training.batch_size):
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
            return base, cache, None
        with console.status("class images") as status:

            def made(done: int, count: int) -> None:
                status.update(f"class images: {done} of {count} drawn")
                if should_stop():
                    raise _Stopped

            prior = build_prior_cache(
                config.photos.prior,
                class_photos,
                base,
                resolution=config.training.resolution,
                folder=folder,
                made=made,
            )
        return base, cache, prior
    except (ValueError, OSError) as error:
        raise RunInputError(str(error)) from error


def _start(config: RunConfig, base: BaseModel, cache: BucketedCache, prior: DataCache | None) -> TrainingJob:
    try:
        return TrainingJob(base, cache, config.training, Views.needed_by([config.training]), prior)
    except ValueError as error:
        raise RunInputError(str(error)) from error
