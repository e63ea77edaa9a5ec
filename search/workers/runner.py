"""The job runner: models, photos and judges, loaded once, on which one job after the other is done. Knows no Ray."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import torch.distributed
from PIL import Image, ImageOps

from evaluation.clip_score import ClipScorer
from evaluation.evaluate import Evaluation, Evaluator, Measurement
from evaluation.faces import FaceModel
from evaluation.generate import CudaMemory, ImageBatch
from evaluation.grid import image_grid
from evaluation.judges import load_judges
from evaluation.measures import VALIDATION_LOSS
from evaluation.objective import appraise
from evaluation.person import measure_person
from evaluation.scores import Anchors, anchor_warnings
from search.config.run_layout import ANCHORS_FILE, BASE_SUM, GRID_FILE, OTHERS_FILE, STATE_FOLDER, checkpoint_folder
from search.storage.trial_record import CheckpointResult
from search.workers.checkpointing import STATE_SECONDS, RestoredTraining, StateSaver, restore
from search.workers.jobs import AnchorJob, Job, JudgeJob, ScoreJob, TrainJob
from search.workers.second_judge import SecondJudge
from search.workers.setup import RunnerSetup
from search.workers.stopwatch import NO_EFFORT, Effort, Stopwatch
from trainer.adapters.adapter_files import BASE_TEXT, TRIGGER_TEXT, load_adapter, save_adapter
from trainer.adapters.merged import drawing_weights
from trainer.data.bucketed_cache import build_bucketed_cache
from trainer.data.photos import CaptionedPhoto, open_photo, repeated
from trainer.data.prior import build_prior_cache
from trainer.data.views import Views
from trainer.files import write_file, written_folder
from trainer.job.acceleration import choose_precision
from trainer.job.fitting_batches import FittingBatches
from trainer.job.job import TrainingJob
from trainer.models.device import UnusableGpuError, allow_fast_arithmetic, device_in_words
from trainer.models.loading import choose_device, load_base_model, set_threads
from trainer.out_of_memory import halved

Send = Callable[[CheckpointResult | None], bool]
"""Takes a result (None from a process that does not score); False: leave the job."""
GoOn = Callable[[int], bool]
"""Called with the step after every optimizer step; False: leave the job."""


class JobRunner:
    """Does jobs. One a process, used by one thread.

    Args:
        setup: What it loads.
        device: Where it computes; by default on a GPU if there is one.

    Raises:
        ValueError: a model or photo that cannot be used, by name.
        UnusableGpuError: the device cannot do what some trial may ask for.
        OSError: a model could not be fetched, or a file not be written, here and now.
    """

    def __init__(self, setup: RunnerSetup, *, device: torch.device | None = None) -> None:
        set_threads(setup.threads)
        device = device or choose_device()
        allow_fast_arithmetic(device)
        self._setup = setup
        self._fitting = FittingBatches()
        self._base = load_base_model(setup.model, device=device)
        self.device = device_in_words(device, self._base.dtype)
        for precision in setup.precisions:
            try:
                choose_precision(precision, device, self._base.dtype)
            except ValueError as error:
                raise UnusableGpuError(f"{error}, or leave it out of the space") from error
        self._training, self._reference_cache = (
            build_bucketed_cache(
                photos,
                self._base,
                resolution=setup.resolution,
                folder=setup.cache,
                views=views,
                buckets=setup.buckets,
            )
            for photos, views in ((repeated(setup.split.training), setup.views), (setup.split.reference, Views()))
        )
        self._prior = (
            build_prior_cache(
                setup.prior, setup.class_photos, self._base, resolution=setup.resolution, folder=setup.cache
            )
            if setup.prior is not None
            else None
        )
        # Of several processes only the first generates and judges.
        self._scores = not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0
        if not self._scores:
            return
        self._pipeline = self._base.pipeline()
        face_model = FaceModel(setup.faces)
        clip_scorer = ClipScorer(setup.clip, device)
        judges = load_judges(setup.judges)
        self._evaluators = {
            name: Evaluator(
                prompt_set,
                setup.trigger,
                setup.generation,
                face_model,
                clip_scorer,
                others=setup.other_sets.get(name),
                class_word=setup.class_word,
                judges=judges,
            )
            for name, prompt_set in setup.prompt_sets.items()
        }
        self._person = measure_person(
            face_model, reference=self._photos(setup.split.reference), training=self._photos(setup.split.training)
        )
        # The homework compares with all photos as they are, not cropped to the model's square.
        photos = (*setup.split.training, *setup.split.reference)
        self._hw10_photos = face_model.represent([_whole(photo.path) for photo in photos]) if setup.hw10 else []

    def do(self, job: Job, *, report: Send, go_on: GoOn, keeps_state: Callable[[], bool] = lambda: False) -> None:
        """Do one job to its end, or until `report` or `go_on` answers False.

        Args:
            job: What to do.
            report: Is given every report.
            go_on: Is asked after every optimizer step.
            keeps_state: Is asked where `go_on` has answered False: whether the state of the training is saved, so that
                it can be resumed from there.

        Raises:
            TrainingDiverged: the loss left the finite numbers.
            ValueError: the job cannot be done as asked.
        """
        match job:
            case TrainJob():
                self._train(job, report, go_on, keeps_state)
            case _ if not self._scores:
                report(None)
            case ScoreJob():
                report(self._score(job))
            case AnchorJob():
                report(self._anchor(job))
            case JudgeJob():
                report(self._second_judge.judge(job.folder))

    @cached_property
    def _second_judge(self) -> SecondJudge:
        """Loaded at its first job: most of a search does without it."""
        return SecondJudge(self._setup)

    def _train(self, job: TrainJob, send: Send, go_on: GoOn, keeps_state: Callable[[], bool]) -> None:
        job.folder.mkdir(parents=True, exist_ok=True)
        if all(CheckpointResult.find(checkpoint_folder(job.folder, step)) for step in job.score_at):
            # Done before, by a worker that was lost before it could report the end.
            for step in job.score_at:
                if not send(self._saved_report(job, step)):
                    return
            return
        photos = self._fitting.start(job.config, job.halvings)

        def begin() -> TrainingJob:
            data = (self._base, self._training, job.config, self._setup.views, self._prior)
            return TrainingJob(*data, micro_batch=photos.size)

        restored = restore(job, begin)
        restored = replace(restored, remarks=(*restored.remarks, *photos.remarks))
        training, batch, seconds = restored.training, self._image_batch(job), STATE_SECONDS[self._base.device.type]
        saver = StateSaver(job, leads=self._scores, step=training.step_count, seconds=seconds)
        try:
            for step in job.score_at:
                if step < training.step_count and not send(self._saved_report(job, step)):
                    return
            watch = Stopwatch(restored.spent)
            while True:
                step = training.step_count
                if step in job.score_at:
                    if not send(self._checkpoint(job, restored, saver, batch, watch.read())):
                        return
                    watch = Stopwatch()
                if step == job.score_at[-1]:
                    break
                training.step()
                if not go_on(training.step_count):
                    if keeps_state():
                        saver.save(training, watch.read())
                    return
                if training.step_count not in job.score_at:
                    saver.save_if_due(training, watch.read())
        finally:
            training.close()
        shutil.rmtree(job.folder / STATE_FOLDER, ignore_errors=True)

    def _saved_report(self, job: TrainJob, step: int) -> CheckpointResult | None:
        """What was reported before the job was resumed."""
        return CheckpointResult.read(checkpoint_folder(job.folder, step)) if self._scores else None

    def _checkpoint(
        self, job: TrainJob, restored: RestoredTraining, saver: StateSaver, batch: ImageBatch, spent: Effort
    ) -> CheckpointResult | None:
        """Save first, then score: a worker lost while scoring costs no training."""
        training = restored.training
        self._fitting.learn(training)
        folder = checkpoint_folder(job.folder, training.step_count)
        if self._scores and (known := CheckpointResult.find(folder)) is not None:
            return known
        saver.save(training, spent)
        watch = Stopwatch()
        with training.evaluation_mode():
            validation_loss = training.validation_loss(self._reference_cache)
            if not self._scores:
                return None
            batch.stay_within(training.peak_memory)
            with drawing_weights(training.adapter):
                evaluation = self._evaluators[job.prompt_set].evaluate(self._pipeline, self._person, job.anchors, batch)
        texts = {
            "step": str(training.step_count),
            TRIGGER_TEXT: self._setup.trigger,
            BASE_TEXT: self._base.sha256,
        }
        with written_folder(folder) as temporary:
            with training.evaluation_mode():  # where weights are averaged, the average is what was scored
                save_adapter(training.adapter, temporary, metadata=texts)
            return self._write(
                evaluation,
                self._evaluators[job.prompt_set],
                temporary,
                folder,
                step=training.step_count,
                parameters=training.adapter.parameter_count,
                extra={VALIDATION_LOSS: validation_loss},
                remarks=(*restored.remarks, *training.remarks, *batch.remarks),
                training_effort=spent,
                scoring_effort=watch.read(),
            )

    def _score(self, job: ScoreJob) -> CheckpointResult:
        watch, batch = Stopwatch(), self._image_batch(job)
        evaluator = self._evaluators[job.prompt_set]
        if job.prompts is not None:
            evaluator = evaluator.excerpt(job.prompts)
        adapter = load_adapter(self._base, job.adapter)
        try:
            adapter.scale(job.strength)
            with drawing_weights(adapter):
                evaluation = evaluator.evaluate(self._pipeline, self._person, job.anchors, batch)
        finally:
            adapter.detach()
        with written_folder(job.folder) as temporary:
            return self._write(
                evaluation, evaluator, temporary, job.folder, remarks=tuple(batch.remarks), scoring_effort=watch.read()
            )

    def _anchor(self, job: AnchorJob) -> CheckpointResult:
        watch, batch = Stopwatch(), self._image_batch(job)
        evaluator = self._evaluators[job.prompt_set]
        baseline = evaluator.measure_anchors(self._pipeline, self._person, batch)
        with written_folder(job.folder) as temporary:
            report = self._write(
                baseline,
                evaluator,
                temporary,
                job.folder,
                extra=baseline.ends,
                remarks=(*batch.remarks, *anchor_warnings(baseline.person.rows, baseline.anchors)),
                scoring_effort=watch.read(),
            )
        measured = {
            **self._person.pairings(),
            BASE_SUM: self._base.sha256,
            "anchors": _plain(baseline.anchors),
        }
        text = json.dumps(measured, indent=1, allow_nan=False)
        write_file(job.folder / ANCHORS_FILE, lambda path: path.write_text(text, "utf-8"))
        return report

    def _image_batch(self, job: Job) -> ImageBatch:
        """Of one job: what is learnt of memory holds for its rest."""
        device, generation = self._base.device, self._setup.generation
        # With shared noise the images depend on the size of the batches, which therefore follows memory only in need.
        counted = device.type == "cuda" and not generation.shared_noise
        most = halved(generation.batch_size, job.halvings)
        return ImageBatch(most, CudaMemory(device, own=self._setup.own_gpu) if counted else None)

    def _write(
        self,
        evaluation: Evaluation,
        evaluator: Evaluator,
        temporary: Path,
        folder: Path,
        *,
        step: int = 0,
        parameters: int = 0,
        extra: Mapping[str, float] = MappingProxyType({}),
        remarks: tuple[str, ...],
        training_effort: Effort = NO_EFFORT,
        scoring_effort: Effort,
    ) -> CheckpointResult:
        """Write images and values into a temporary folder, which will take the name of `folder`."""
        metrics = evaluation.metrics(self._setup.objective)
        appraisal = appraise(metrics, evaluation.lower_ends(metrics), self._setup.objective, self._setup.limits)
        hw10 = evaluator.hw10(evaluation, self._hw10_photos).as_metrics() if self._hw10_photos else {}
        report = CheckpointResult(
            step=step,
            metrics={**metrics, **appraisal.as_metrics(), **extra, **hw10},
            rows=tuple(evaluation.person.rows),
            other_rows=tuple(evaluation.others.rows),
            unfit=appraisal.unfit,
            remarks=remarks,
            folder=folder,
            parameters=parameters,
            training_seconds=training_effort.seconds,
            scoring_seconds=scoring_effort.seconds,
            training_cpu_seconds=training_effort.cpu_seconds,
            scoring_cpu_seconds=scoring_effort.cpu_seconds,
        )
        _write_sheet(evaluation.person, temporary / GRID_FILE)
        if evaluation.others.images:
            _write_sheet(evaluation.others, temporary / OTHERS_FILE)
        report.write(temporary)
        return report

    def _photos(self, photos: Sequence[CaptionedPhoto]) -> dict[str, Image.Image]:
        """Photos by file name, as generated images are: cut as for training, at the same size."""
        side = self._setup.generation.resolution
        return {photo.path.name: open_photo(photo, side) for photo in photos}


def _write_sheet(measurement: Measurement, path: Path) -> None:
    """A line a prompt, a column a seed."""
    prompts = len({row.prompt_index for row in measurement.rows})
    sheet = image_grid(measurement.images, columns=len(measurement.images) // prompts)
    write_file(path, lambda temporary: sheet.save(temporary, "PNG"))


def _plain(anchors: Anchors) -> dict[str, Any]:
    """As JSON holds them."""
    values = {name: value for name, value in asdict(anchors).items() if value is not None}
    return {**values, "faceless_prompts": sorted(anchors.faceless_prompts)}


def _whole(path: Path) -> Image.Image:
    with Image.open(path) as photo:
        return ImageOps.exif_transpose(photo).convert("RGB")
