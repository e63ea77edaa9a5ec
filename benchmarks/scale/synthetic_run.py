"""A run folder of any number of trials without any training: everything is real but what workers answer, which is
drawn.

Pictures are smooth colours with noise, which weigh about what photos of their size do. What a trial scores follows from
its settings: best at a learning rate of 1e-3, and faceless far above it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from evaluation.config import PromptSet
from evaluation.grid import image_grid
from evaluation.image_row import ImageRow
from evaluation.measures import FACE_DISTANCE, REAL, VALIDATION_LOSS
from evaluation.objective import appraise, meter_lower_ends
from evaluation.scores import Anchors, candidate_metrics
from search.config.prompts import PromptSetName, prompt_sets
from search.config.run_layout import RunLayout
from search.config.search_config import SearchConfig, dump_config, load_config
from search.config.space import Value
from search.final.final import NoCandidateError, run_final
from search.final.strengths import sweep_strengths
from search.report.outcome import build_result
from search.report.tables import write_images
from search.storage.result import CHAMPION, SearchResult
from search.storage.result_schema import MlflowResult
from search.storage.trial_record import CheckpointResult, JobState, TrialRecord, trial_id
from search.study.trial import TrialSetup, train_job
from search.workers.client import WorkersClient, measure_anchors
from search.workers.jobs import AnchorJob, Job, JobStatus, JudgeJob, ScoreJob, TrainJob
from trainer.data.photos import CaptionedPhoto, load_photos
from trainer.files import write_file

ANCHORS = Anchors.between(untuned_distance=0.9, real_distance=0.4, clip_score=25.0)

FACELESS_QUALITY = -0.4
"""A candidate of this quality (its likeness, but for noise) or less draws no face."""

SHEETS = 12
"""Different sheets of pictures; the scores beside them are each trial's own."""

PROMPTS, FINAL_PROMPTS = 12, 8


class DrawingWorkers(WorkersClient):
    """Stands for dispatcher and seats: draws instead of training, at once.

    Args:
        sets: Prompts and seeds by name.
        config: The search.
        side: Width and height of a picture, pixels.
    """

    sets: Mapping[PromptSetName, PromptSet]
    config: SearchConfig
    known: dict[str, JobStatus]
    side: int
    sheets: dict[tuple[int, int, int], bytes]

    def __init__(self, sets: Mapping[PromptSetName, PromptSet], config: SearchConfig, side: int) -> None:
        super().__init__(handle=None)
        for name, value in {"sets": sets, "config": config, "known": {}, "side": side, "sheets": {}}.items():
            object.__setattr__(self, name, value)

    def submit(self, job: Job) -> None:
        if job.id not in self.known:
            self.known[job.id] = JobStatus(id=job.id, state=JobState.FINISHED, checkpoints=self._do(job))

    def status(self, job_id: str, *, reports: int = 0, timeout: float = 0.0) -> JobStatus:
        return self.known[job_id]

    def _do(self, job: Job) -> tuple[CheckpointResult, ...]:
        match job:
            case AnchorJob():
                return (self._draw(job.folder, self.sets[job.prompt_set], 0.0, 0),)
            case ScoreJob():
                whole = self.sets[job.prompt_set]
                few = (
                    whole
                    if job.prompts is None
                    else PromptSet(prompts=whole.prompts[: job.prompts], seeds=(whole.seeds[0],))
                )
                quality = CheckpointResult.read(job.adapter).metrics["likeness"] * job.strength
                return (self._draw(job.folder, few, quality, 0),)
            case TrainJob():
                return tuple(
                    self._draw(
                        job.folder / f"step-{step}",
                        self.sets[job.prompt_set],
                        _quality(job.config.learning_rate) * (1.0 - math.exp(-step / 100)),
                        step,
                    )
                    for step in job.score_at
                )
            case JudgeJob():
                raise ValueError("a synthetic run has no second judge")

    def _draw(self, folder: Path, prompts: PromptSet, quality: float, step: int) -> CheckpointResult:
        random = np.random.default_rng([len(str(folder)), step, int(1e6 * abs(quality))])
        rows = []
        for prompt_index, seed in prompts.pairs():
            found = quality > FACELESS_QUALITY
            distance = 0.9 - 0.5 * quality + random.normal(0.0, 0.04)
            rows.append(
                ImageRow.of(
                    prompt_index,
                    seed,
                    face_distance=float(np.clip(distance, 0.0, 2.0)) if found else None,
                    clip_score=float(25.0 - 4.0 * abs(quality) + random.normal(0.0, 0.6)),
                )
            )
        evaluation = self.config.evaluation
        metrics = candidate_metrics(rows, ANCHORS, evaluation.objective)
        lower_ends = meter_lower_ends(metrics, rows, (), ANCHORS)
        appraisal = appraise(metrics, lower_ends, evaluation.objective, evaluation.limits)
        report = CheckpointResult(
            step=step,
            metrics={
                **metrics,
                **appraisal.as_metrics(),
                REAL + FACE_DISTANCE: ANCHORS.real[FACE_DISTANCE],
                VALIDATION_LOSS: 0.1 + 0.02 * (1.0 - quality),
            },
            rows=tuple(rows),
            folder=folder,
            unfit=appraisal.unfit,
            training_seconds=float(step),
            scoring_seconds=1.0,
        )
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "grid.png").write_bytes(self._sheet(prompts, int(random.integers(SHEETS))))
        report.write(folder)
        return report

    def _sheet(self, prompts: PromptSet, number: int) -> bytes:
        """One of a few sheets, as PNG: drawing takes longer than all else."""
        lines, columns = len(prompts.prompts), len(prompts.seeds)
        if (lines, columns, number) not in self.sheets:
            random = np.random.default_rng([lines, columns, number])
            pictures = [draw_picture(self.side, random) for _ in range(lines * columns)]
            buffer = io.BytesIO()
            image_grid(pictures, columns=columns).save(buffer, "PNG")
            self.sheets[lines, columns, number] = buffer.getvalue()
        return self.sheets[lines, columns, number]


def draw_picture(side: int, random: np.random.Generator) -> Image.Image:
    """Smooth patches of colour under a little noise."""
    patches = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((side, side))
    noise = random.normal(0.0, 6.0, (side, side, 3))
    return Image.fromarray(np.clip(np.asarray(patches) + noise, 0, 255).astype(np.uint8))


def write_synthetic_run(
    home: Path, *, trials: int, side: int = 64, prompts: Sequence[str] = (), rates: Sequence[float] = ()
) -> tuple[SearchResult, SearchConfig, Sequence[CaptionedPhoto]]:
    """Write a run folder below `home`, all but its report.

    Args:
        home: An empty folder.
        trials: How many.
        side: Width and height of a picture, pixels.
        prompts: Of the validation; the first ones replace the usual ones.
        rates: Learning rates of the first trials; the others' are drawn.

    Returns:
        The result, the configuration, and the reference photos.
    """
    config, photos = _configuration(home, trials, side, prompts)
    folder = config.runs / config.name
    write_file(folder / "search.yaml", lambda path: path.write_text(dump_config(config), "utf-8"))
    sets = prompt_sets(config)
    layout = RunLayout(folder)
    workers = DrawingWorkers(sets, config, side)
    base, anchors = measure_anchors(workers, layout, "validation")
    setup = TrialSetup(config=config, client=workers, anchors=anchors, layout=layout)
    random = np.random.default_rng(0)
    records = []
    for number in range(trials):
        rate = rates[number] if number < len(rates) else float(10 ** random.uniform(-4, -2))
        rank = int(random.choice([4, 8, 16, 32]))
        steps = int(random.choice([200, 300]))
        records.append(_trial(setup, number, {"learning_rate": rate, "rank": rank, "steps": steps}))
    final = sweep = None
    status = CHAMPION
    try:
        final = run_final(workers, config, records, layout, say=lambda text: None)
        sweep = sweep_strengths(workers, config, final, layout)
    except NoCandidateError as error:
        status = str(error)
    write_images(
        layout.image_table,
        base=base,
        records=records,
        final=final,
        sweep=sweep,
        prompt_sets=sets,
        other_sets={},
        evaluation=config.evaluation,
    )
    result = build_result(
        config,
        folder,
        status=status,
        base=base,
        final=final,
        opinion=None,
        records=records,
        sweep=sweep,
        model_uri=None,
        seconds={"start": 30.0, "search": 60.0 * trials, "final": 200.0, "total": 60.0 * trials + 230.0},
        workers=2,
        mlflow=MlflowResult(tracking_uri="", experiment_id="", run_id=""),
    )
    result.write()
    return result, config, photos


def _trial(setup: TrialSetup, number: int, params: Mapping[str, Value]) -> TrialRecord:
    """Every third trial but the first is stopped at its first checkpoint."""
    job = train_job(setup, number, params)
    record = TrialRecord(id=trial_id(number), params=params, steps=job.config.steps, seconds=float(job.config.steps))
    stopped = number % 3 == 2
    setup.client.submit(job)
    for report in setup.client.status(job.id).checkpoints[: 1 if stopped else None]:
        record.add(report)
    record.state = JobState.STOPPED if stopped else JobState.FINISHED
    record.reason = "stopped early: two thirds of the trials were better at this step" if stopped else ""
    return record


def _quality(rate: float) -> float:
    """What a training reaches: 0.8 at 1e-3, below `FACELESS_QUALITY` near 1e-2."""
    return 0.8 - 1.6 * max(0.0, math.log10(rate / 1e-3)) ** 2 - 0.6 * max(0.0, math.log10(1e-3 / rate)) ** 2


def _configuration(
    home: Path, trials: int, side: int, prompts: Sequence[str]
) -> tuple[SearchConfig, Sequence[CaptionedPhoto]]:
    random = np.random.default_rng(1)
    (home / "photos").mkdir()
    for number in range(5):
        draw_picture(96, random).save(home / "photos" / f"{number}.png")
        (home / "photos" / f"{number}.txt").write_text("a photo of {trigger} man", "utf-8")
    (home / "base").mkdir()
    (home / "base" / "model_index.json").write_text("{}", "utf-8")
    validation = [*prompts, *(f"a photo of {{trigger}} man, scene {number}" for number in range(PROMPTS))][:PROMPTS]
    final = [f"a photo of {{trigger}} man, last scene {number}" for number in range(FINAL_PROMPTS)]
    (home / "validation.txt").write_text("\n".join(validation), "utf-8")
    (home / "final.txt").write_text("\n".join(final), "utf-8")
    content = {
        "name": "anna",
        "model": "base",
        "photos": {"folder": "photos"},
        "training": {"resolution": 64},
        "space": {
            "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
            "rank": {"values": [4, 8, 16, 32]},
            "steps": {"low": 100, "high": 300, "step": 100},
        },
        "trials": trials,
        "evaluation": {"prompts": "validation.txt", "generation": {"resolution": 64, "batch_size": 4}},
        "final": {"prompts": "final.txt", "retrain": 1},
        "runs": str(home / "runs"),
    }
    (home / "search.yaml").write_text(yaml.safe_dump(content), "utf-8")
    return load_config(home / "search.yaml"), load_photos(home / "photos", "sks", minimum_side=64)
