"""The job runner does its jobs with the demo's real models: interrupted and resumed, by either protocol."""

import importlib
import itertools
import json
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.numpy import load_file

from evaluation.config import FaceConfig, GenerationConfig, LimitsConfig, ObjectiveConfig, PromptSet
from evaluation.hw10 import SEED, hw10_generation
from evaluation.scores import OBJECTIVE, VALIDATION_LOSS, Anchors
from search.config.run_layout import ANCHORS_FILE, STATE_FOLDER
from search.config.search_config import SearchConfig
from search.photos.split import read_split
from search.storage.trial_record import CheckpointResult
from search.workers.checkpointing import SPENT_FILE
from search.workers.jobs import AnchorJob, Job, JudgeJob, ScoreJob, TrainJob
from search.workers.runner import JobRunner
from search.workers.setup import RunnerSetup
from search.workers.worker import _Service
from tests.support.full_disk import files_of_at_most
from trainer.adapters.adapter_files import WEIGHTS_FILE
from trainer.config import TrainingConfig
from trainer.data.bucketed_cache import build_bucketed_cache
from trainer.data.buckets import AspectBuckets
from trainer.data.photos import load_photos, split_photos
from trainer.files import write_file
from trainer.job.job import TrainingJob

if TYPE_CHECKING:
    from search.workers.client import WorkersClient

DEMO = Path(__file__).resolve().parents[3] / "demo"


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> RunnerSetup:
    return RunnerSetup(
        model=str(DEMO / "base"),
        clip=str(DEMO / "clip"),
        split=split_photos(load_photos(DEMO / "photos", "sks"), 0.3, 0),
        trigger="sks",
        resolution=64,
        cache=tmp_path_factory.mktemp("cache"),
        faces=FaceConfig(recognizer="Dlib", detector="dlib"),
        generation=GenerationConfig(steps=6, guidance_scale=3.0, resolution=64, batch_size=4),
        objective=ObjectiveConfig(),
        limits=LimitsConfig(),
        prompt_sets={
            "validation": PromptSet(prompts=("a photo of {trigger} man, blue background",), seeds=(1, 2)),
            "final": PromptSet(prompts=("a photo of {trigger} man, sad",), seeds=(101,)),
        },
        other_sets={"validation": PromptSet(prompts=("a photo of a woman, happy",), seeds=(1,))},
        threads=1,
        hw10=False,
    )


@pytest.fixture(scope="module")
def runner(setup: RunnerSetup) -> JobRunner:
    return JobRunner(setup)


def do(
    bench: JobRunner, job: Job, go_on: Callable[[int], bool] = lambda step: True, *, keeps_state: bool = False
) -> list[CheckpointResult]:
    reports: list[CheckpointResult] = []

    def keep(report: CheckpointResult | None) -> bool:
        assert report is not None
        reports.append(report)
        return True

    bench.do(job, report=keep, go_on=go_on, keeps_state=lambda: keeps_state)
    return reports


@pytest.fixture(scope="module")
def anchors(runner: JobRunner, tmp_path_factory: pytest.TempPathFactory) -> Anchors:
    folder = tmp_path_factory.mktemp("anchors")
    (report,) = do(runner, AnchorJob(id="base", folder=folder / "base", prompt_set="validation"))
    assert report.metrics["likeness"] == pytest.approx(0, abs=1e-9)
    assert report.metrics["fidelity"] == pytest.approx(1)
    assert report.metrics["leakage"] == pytest.approx(0, abs=1e-9)
    assert {path.name for path in (folder / "base").iterdir()} == {
        "grid.png",
        "others.png",
        "report.json",
        "anchors.json",
    }
    return Anchors.from_metrics(report.metrics)


def test_the_pairings_of_the_anchors_are_written_down(setup: RunnerSetup, runner: JobRunner, tmp_path: Path) -> None:
    (report,) = do(runner, AnchorJob(id="base", folder=tmp_path / "base", prompt_set="final"))
    pairings = json.loads((tmp_path / "base" / ANCHORS_FILE).read_text("utf-8"))
    reference = [photo.path.name for photo in setup.split.reference]
    assert pairings["generated"]["reference_photos"] == reference
    assert {frozenset(pair[:2]) for pair in pairings["real"]["pairs"]} == {
        frozenset(pair) for pair in itertools.combinations(reference, 2)
    }
    assert np.mean([pair[2] for pair in pairings["real"]["pairs"]]) == pytest.approx(
        report.metrics["real_distance"], abs=1e-6
    )
    assert pairings["copies"]["training_photos"] == [photo.path.name for photo in setup.split.training]
    assert pairings["anchors"]["base_distance"] == report.metrics["base_distance"]


@pytest.fixture
def job(anchors: Anchors, tmp_path: Path) -> TrainJob:
    return short_job(anchors, tmp_path / "000")


@pytest.fixture(scope="module")
def unbroken(runner: JobRunner, anchors: Anchors, tmp_path_factory: pytest.TempPathFactory) -> list[CheckpointResult]:
    """What the same job reports where nothing goes wrong."""
    return do(runner, short_job(anchors, tmp_path_factory.mktemp("unbroken")))


def short_job(anchors: Anchors, folder: Path) -> TrainJob:
    config = TrainingConfig(
        learning_rate=3e-3, rank=4, alpha=4, steps=8, batch_size=2, lr_warmup_steps=2, resolution=64, seed=3
    )
    return TrainJob(id="000", folder=folder, config=config, score_at=(4, 8), anchors=anchors)


def test_a_training_cut_off_anywhere_ends_as_if_it_had_not_been(
    runner: JobRunner, job: TrainJob, tmp_path: Path
) -> None:
    whole = do(runner, job)
    assert [report.step for report in whole] == [4, 8]
    assert not (job.folder / STATE_FOLDER).exists(), "nothing is left to go on from"

    again = replace(job, folder=tmp_path / "again")
    first = do(runner, again, go_on=lambda step: step < 6)
    assert [report.step for report in first] == [4]
    second = do(runner, again)
    assert [report.step for report in second] == [4, 8], "what was reported before is told again, not done again"
    assert second[0] == first[0]
    assert [report.metrics for report in second] == [report.metrics for report in whole]
    expected, found = (load_file(folder / "step-8" / WEIGHTS_FILE) for folder in (job.folder, again.folder))
    assert expected.keys() == found.keys()
    assert all((expected[name] == found[name]).all() for name in expected)


def test_a_paused_training_goes_on_at_its_step_and_its_seconds_add_up(runner: JobRunner, job: TrainJob) -> None:
    steps: list[int] = []

    def until(last: int) -> Callable[[int], bool]:
        def go_on(step: int) -> bool:
            steps.append(step)
            return step < last

        return go_on

    assert [report.step for report in do(runner, job, until(6), keeps_state=True)] == [4]
    file = job.folder / STATE_FOLDER / "step-6" / SPENT_FILE
    spent = json.loads(file.read_text("utf-8"))
    assert spent["training_seconds"] > 0
    assert spent["training_cpu_seconds"] > 0
    text = '{"training_seconds": 100, "training_cpu_seconds": 200}'
    write_file(file, lambda path: path.write_text(text))
    before, after = do(runner, job, until(99))
    assert steps == [1, 2, 3, 4, 5, 6, 7, 8], "no step twice"
    assert (before.step, before.training_seconds < 100) == (4, True)
    assert (after.step, after.training_seconds > 100) == (8, True)
    assert before.training_cpu_seconds is not None
    assert after.training_cpu_seconds is not None
    assert after.scoring_cpu_seconds is not None
    assert before.training_cpu_seconds < 200 < after.training_cpu_seconds
    assert after.scoring_cpu_seconds > 0


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def zeroes(content: bytes) -> bytes:
    return bytes(len(content))


class NotedDispatch:
    """Stands for `search.workers.client.WorkersClient`: notes what the worker says of one job, which nobody wants to
    stop.

    Args:
        at: The step after which something happens.
        then: What happens.
    """

    keeps_state = False

    def __init__(self, at: int, then: Callable[[], object]) -> None:
        self._at = at
        self._then = then
        self._asked = 0
        self.checkpoints: list[CheckpointResult] = []
        self.finished: list[tuple[str, str]] = []

    @property
    def made(self) -> bool:
        """Whether the wish to stop has come; asked after every step."""
        self._asked += 1
        if self._asked == self._at:
            self._then()
        return False

    def stop_requested(self, job_id: str, token: str) -> "NotedDispatch":
        return self

    def call(self, method: Callable[..., object], *args: Any, **kwargs: Any) -> Any:
        """As of the client: the method here stands for that of the dispatcher."""
        return getattr(self, method.__name__)(*args, **kwargs)

    send = call

    def progress(self, job_id: str, token: str, step: int) -> None:
        pass

    def report(self, job_id: str, token: str, report: CheckpointResult) -> bool:
        self.checkpoints.append(report)
        return True

    def finish(self, job_id: str, token: str, *, failure: str = "") -> None:
        self.finished.append((job_id, failure))


DAMAGES: dict[str, tuple[list[str], Callable[[bytes], bytes], int, str]] = {
    "half an optimizer": (["state/step-6/optimizer.safetensors"], half, 5, "state step-6 and resumed from step-4: "),
    "a zeroed state": (["state/step-6/training_state.json"], zeroes, 5, "state step-6 and resumed from step-4: "),
    "half a report": (["step-4/report.json"], half, 5, "the report of step 4 is missing or damaged"),
    "no whole state": (
        ["state/step-6/pytorch_lora_weights.safetensors", "state/step-4/optimizer.safetensors"],
        zeroes,
        1,
        "state step-4 and started again: ",
    ),
}
"""Of each: the files that are damaged, how, the step with which the training goes on, what is said of it."""


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_costs_its_steps_and_no_more(
    damage: str, runner: JobRunner, job: TrainJob, unbroken: list[CheckpointResult]
) -> None:
    do(runner, job, lambda step: step < 6, keeps_state=True)
    files, left, first, said = DAMAGES[damage]
    for file in (job.folder / name for name in files):
        file.write_bytes(left(file.read_bytes()))
    steps: list[int] = []
    reports = do(runner, job, lambda step: not steps.append(step))  # type: ignore[func-returns-value]
    assert steps == list(range(first, 9)), "from the last whole state, once"
    assert [report.metrics for report in reports] == [report.metrics for report in unbroken]
    assert CheckpointResult.find(job.folder / "step-4") == reports[0]
    assert said in reports[-1].remarks[-1]
    assert not (job.folder / STATE_FOLDER).exists()


def test_a_full_disk_fails_the_job_with_a_reason_and_leaves_all_that_was_whole(
    runner: JobRunner, job: TrainJob, unbroken: list[CheckpointResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the sixth step on no file may grow beyond 1,000 bytes: the checkpoint after the eighth fails."""
    monkeypatch.setattr("ray.train.get_context", lambda: SimpleNamespace(get_world_size=lambda: 1))
    with ExitStack() as disk:
        client = NotedDispatch(at=6, then=lambda: disk.enter_context(files_of_at_most(1000)))
        _Service(cast("WorkersClient", client), "token", job, leads=True).run(runner)
    state = job.folder / STATE_FOLDER / "step-8"
    assert client.finished == [
        ("000", f"StorageError: {state} could not be written: File too large; make room there, or mend it")
    ]
    assert [report.step for report in client.checkpoints] == [4]
    assert sorted(str(path.relative_to(job.folder)) for path in job.folder.rglob("*") if path.is_dir()) == [
        "state",
        "state/step-4",
        "step-4",
    ]
    # There is room again, and the worker goes on: with other jobs, or with this one from its last whole state.
    steps: list[int] = []
    reports = do(runner, job, lambda step: not steps.append(step))  # type: ignore[func-returns-value]
    assert steps == [5, 6, 7, 8]
    assert [report.metrics for report in reports] == [report.metrics for report in unbroken]


def test_a_job_ends_after_its_last_checkpoint_though_the_schedule_is_longer(
    runner: JobRunner, job: TrainJob, tmp_path: Path
) -> None:
    """As a finalist is trained again: up to the candidate's step, on the final's prompts, exactly as far as before."""
    whole = do(runner, job)
    again = replace(job, folder=tmp_path / "again", score_at=(4,), prompt_set="final")
    (report,) = do(runner, again)
    assert report.step == 4
    assert [row.seed for row in report.rows] == [101]
    assert not (again.folder / STATE_FOLDER).exists()
    expected, found = (load_file(folder / "step-4" / WEIGHTS_FILE) for folder in (job.folder, again.folder))
    assert all((expected[name] == found[name]).all() for name in expected)
    assert report.metrics[VALIDATION_LOSS] == whole[0].metrics[VALIDATION_LOSS]


def test_a_worker_lost_while_scoring_costs_no_training(
    runner: JobRunner, job: TrainJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []

    def count(step: int) -> bool:
        steps.append(step)
        return True

    with monkeypatch.context() as broken:
        broken.setattr(runner, "_report", _lost)
        with pytest.raises(RuntimeError, match="lost"):
            do(runner, job, go_on=count)
    assert [report.step for report in do(runner, job, go_on=count)] == [4, 8]
    assert steps == [1, 2, 3, 4, 5, 6, 7, 8], "no step twice"


def _lost(*args: object, **kwargs: object) -> CheckpointResult:
    raise RuntimeError("lost")


def test_a_saved_adapter_scores_as_it_did_in_training(runner: JobRunner, job: TrainJob, tmp_path: Path) -> None:
    trained = do(runner, job)[-1]
    (scored,) = do(
        runner,
        ScoreJob(
            id="score",
            folder=tmp_path / "score",
            adapter=trained.folder,
            prompt_set="validation",
            anchors=job.anchors,
        ),
    )
    expected = {name: value for name, value in trained.metrics.items() if name != VALIDATION_LOSS}
    assert scored.metrics == pytest.approx(expected, abs=1e-6)
    assert CheckpointResult.read(tmp_path / "score") == scored


def test_an_adapter_is_drawn_at_the_strength_that_is_asked_for(
    setup: RunnerSetup, runner: JobRunner, job: TrainJob, tmp_path: Path
) -> None:
    """At 0 it is the untuned model, at 1 what was trained; only the first seed is drawn, and nobody else."""
    (base,) = do(runner, AnchorJob(id="base", folder=tmp_path / "base", prompt_set="validation"))
    trained = do(runner, job)[-1]
    drawn = {}
    for strength in (0.0, 0.5, 1.0):
        score = ScoreJob(
            id="score",
            folder=tmp_path / f"{strength}",
            adapter=trained.folder,
            prompt_set="validation",
            anchors=job.anchors,
            strength=strength,
            prompts=1,
        )
        (drawn[strength],) = do(runner, score)
    for strength, whole in ((0.0, base), (1.0, trained)):
        assert len(drawn[strength].rows) == 1
        assert drawn[strength].other_rows == ()
        # Other batches round otherwise; CLIP scores go up to 100.
        assert asdict(drawn[strength].rows[0]) == pytest.approx(asdict(whole.rows[0]), abs=5e-4)
    distances = [drawn[strength].rows[0].picture_distance for strength in (0.0, 0.5, 1.0)]
    assert len(set(distances)) == 3


def test_the_homeworks_numbers_come_besides_the_others(setup: RunnerSetup, tmp_path: Path) -> None:
    prompt_set = replace(setup.prompt_sets["validation"], seeds=(SEED,))
    bench = JobRunner(
        replace(
            setup,
            generation=hw10_generation(setup.generation),
            prompt_sets={"validation": prompt_set},
            hw10=True,
        )
    )
    (report,) = do(bench, AnchorJob(id="base", folder=tmp_path / "base", prompt_set="validation"))
    assert {"hw10_face_score", "hw10_clip_score", "hw10_faceless", OBJECTIVE} <= report.metrics.keys()
    faceless = sum(not row.face_found for row in report.rows)
    assert report.metrics["hw10_faceless"] == faceless


def test_a_second_judge_like_the_first_sees_the_same_in_the_stored_images(
    setup: RunnerSetup, runner: JobRunner, tmp_path: Path
) -> None:
    (first,) = do(runner, AnchorJob(id="base", folder=tmp_path / "base", prompt_set="validation"))
    files = sorted(path.name for path in first.folder.iterdir())
    bench = JobRunner(replace(setup, second_judge=setup.faces))
    (judged,) = do(bench, JudgeJob(id="judge", folder=first.folder))
    assert judged.metrics["real_distance"] == pytest.approx(first.metrics["real_distance"])
    assert judged.metrics["face_distance"] == pytest.approx(first.metrics["face_distance"], abs=1e-6)
    assert (judged.metrics["faceless"], judged.metrics["faceless_rate"]) == (0, 0)
    names = ("prompt_index", "seed", "face_found", "face_distance", "nearest_distance", "face_confidence")
    for row, expected in zip(judged.rows, first.rows, strict=True):
        seen, known = asdict(row), asdict(expected)
        assert {name: seen[name] for name in names} == {name: pytest.approx(known[name], abs=1e-6) for name in names}
        assert (row.clip_score, row.picture_distance) == (expected.clip_score, expected.picture_distance)
    assert sorted(path.name for path in first.folder.iterdir()) == files, "nothing is written"

    (first.folder / "grid.png").unlink()
    with pytest.raises(ValueError, match=r"the images of .*base cannot be read"):
        do(bench, JudgeJob(id="again", folder=first.folder))
    with pytest.raises(ValueError, match=r"no second judge; set evaluation.second_judge"):
        do(runner, JudgeJob(id="none", folder=first.folder))


def test_a_second_judge_whose_weights_are_missing_is_a_reason_not_a_crash(
    setup: RunnerSetup, runner: JobRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(url: str) -> None:
        raise ConnectionError("the network is down")

    monkeypatch.setattr(importlib.import_module("deepface.commons.weight_utils"), "ensure_source_is_reachable", refuse)
    monkeypatch.setenv("DEEPFACE_HOME", str(tmp_path))
    openface = replace(setup, second_judge=FaceConfig(recognizer="OpenFace", detector="opencv"))
    monkeypatch.setattr(runner, "_setup", openface)
    with pytest.raises(ValueError, match=r"recognizer 'OpenFace' cannot be loaded"):
        do(runner, JudgeJob(id="judge", folder=tmp_path))


def test_a_worker_trains_and_validates_on_photos_of_several_shapes(
    setup: RunnerSetup, anchors: Anchors, tmp_path: Path
) -> None:
    """The demo's photos, every other one cut to 3:4: encoded once a bucket, compared as squares."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, path in enumerate(sorted((DEMO / "photos").glob("*.png"))):
        with Image.open(path) as picture:
            picture.crop((16, 0, 112, 128) if number % 2 else (0, 0, 128, 128)).save(photos / path.name)
        shutil.copy(path.with_suffix(".txt"), photos)
    split = split_photos(load_photos(photos, "sks"), 0.3, 0)
    own = replace(setup, split=split, cache=tmp_path / "cache", buckets=AspectBuckets(step=8))
    bench = JobRunner(own)
    cached = [load_file(path)["latent_mean"].shape for path in own.cache.iterdir()]
    expected = Counter(
        ((18, 14) if photo.size == (96, 128) else (16, 16), side)
        for side, of_side in (("training", split.training), ("reference", split.reference))
        for photo in of_side
    )
    assert sorted((shape[2:], shape[0]) for shape in cached) == sorted(
        (shape, count) for (shape, _), count in expected.items()
    )
    config = TrainingConfig(rank=4, alpha=4, steps=4, batch_size=2, resolution=64)
    (report,) = do(bench, TrainJob(id="000", folder=tmp_path / "000", config=config, score_at=(4,), anchors=anchors))
    training, reference = (
        build_bucketed_cache(photos_of_side, bench._base, resolution=64, folder=own.cache, buckets=own.buckets)
        for photos_of_side in (split.training, split.reference)
    )
    with TrainingJob(bench._base, training, config) as job:
        for _ in range(4):
            job.step()
        assert report.metrics[VALIDATION_LOSS] == job.validation_loss(reference)


def test_a_worker_trains_on_photos_cut_repeated_and_shown_in_every_form(
    setup: RunnerSetup, anchors: Anchors, tmp_path: Path
) -> None:
    """What a configuration says of photos and captions, from its text to two checkpoints, cut off in between."""
    document = yaml.safe_load((DEMO / "search.yaml").read_text("utf-8"))
    document["photos"].update(repeats={"happy*": 3}, face_crop=1.3, nearest=9)
    document["training"].update(caption_dropout=0.3, horizontal_flip=0.5, face_loss_weight=3, lr_warmup_steps=0)
    document["space"]["caption_shuffle"] = {"low": 0, "high": 1}
    config = SearchConfig.model_validate({**document, "runs": tmp_path})
    photos = config.photos.model_copy(update={"folder": DEMO / "photos"})
    split = read_split(photos, config.evaluation.faces, find_faces=True)
    own = RunnerSetup.of(config, split, setup.prompt_sets, {})
    bench = JobRunner(replace(own, model=setup.model, clip=setup.clip, generation=setup.generation))
    cached = [load_file(path) for path in (tmp_path / ".cache").iterdir()]
    repeats = sum(photo.repeats for photo in split.training)
    assert sorted(len(cache["latent_mean"]) for cache in cached) == sorted([len(split.reference), repeats * 2 * 5])
    training = config.training_config({"caption_shuffle": 0.5, "rank": 4, "steps": 4}, seed=1)
    job = TrainJob(id="000", folder=tmp_path / "000", config=training, score_at=(2, 4), anchors=anchors)
    whole = do(bench, job)
    again = replace(job, folder=tmp_path / "again")
    do(bench, again, go_on=lambda step: step < 3)
    assert [report.metrics for report in do(bench, again)] == [report.metrics for report in whole]
