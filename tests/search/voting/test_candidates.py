"""What a run folder offers to vote on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from search.storage.run_folder import RunFolderError
from search.voting.candidates import read_run
from search.voting.preference import as_vector
from search.voting.votes import CheckpointName
from trainer.data.photos import PhotoFolderError

MakeRun = Callable[..., Path]
Colour = Callable[[int, int], tuple[int, int, int]]

PAIRS = ((0, 1), (0, 2), (1, 1), (1, 2))
SIDE = 8

GOOD = [(0.5, 25.0)] * 4
BAD = [(0.8, 25.0)] * 4
NOBODY = [(None, 30.0)] * 4


def test_the_best_checkpoint_of_each_trial_that_draws_a_face(make_run: MakeRun) -> None:
    folder = make_run({"000": {100: BAD, 200: GOOD, 300: GOOD}, "001": {100: GOOD}, "002": {100: NOBODY}})
    run = read_run(folder)
    assert [candidate.name for candidate in run.candidates] == [
        CheckpointName(trial="000", step=200),
        CheckpointName(trial="001", step=100),
    ]
    assert len(run.checkpoints) == 5, "a vote may be about any of them"


def test_measures_are_of_the_image_and_their_mean_gives_the_objective(run_folder: Path) -> None:
    run = read_run(run_folder)
    third = run.candidates[2]
    np.testing.assert_allclose(third.measures[0, 1], [0.1, 26 / 25, 0.0])
    np.testing.assert_allclose(third.measures[1, 1], [0.0, 25.5 / 25, -1.0])
    for candidate in run.candidates:
        weighed = candidate.mean_measures @ as_vector(run.config.evaluation.objective)
        assert weighed == pytest.approx(candidate.objective)


def test_pictures_are_cut_from_the_sheet(run_folder: Path, colour: Colour) -> None:
    for number, candidate in enumerate(read_run(run_folder).candidates):
        for image, pair in enumerate(PAIRS):
            picture = candidate.picture(*pair)
            assert picture.size == (SIDE, SIDE)
            assert picture.getcolors() == [(SIDE * SIDE, colour(number, image))]


def test_prompts_read_as_they_were_drawn_and_photos_are_those_never_trained_on(run_folder: Path) -> None:
    run = read_run(run_folder)
    assert run.prompts() == ("a photo of sks man", "a photo of sks man, happy")
    photos = run.reference_photos(32)
    assert [photo.size for photo in photos] == [(32, 32)] * 2, "at least two of four are kept from training"


def test_an_interrupted_search_can_be_voted_on(run_folder: Path) -> None:
    (run_folder / "trials" / "crimson-3").mkdir()
    half = run_folder / "trials" / "crimson-3" / "step-100.1f.tmp"
    shutil.copytree(run_folder / "trials" / "crimson-0" / "step-77077", half)
    (half / "report.json").write_text("{")
    assert not (run_folder / "result.json").exists()
    assert len(read_run(run_folder).checkpoints) == 3


def test_a_moved_base_model_is_no_obstacle(run_folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "base")
    assert len(read_run(run_folder).candidates) == 3


def test_what_cannot_be_used_is_named(run_folder: Path, tmp_path: Path) -> None:
    run = read_run(run_folder)
    with pytest.raises(RunFolderError, match=r"nowhere is not a run folder: it holds no search\.yaml"):
        read_run(tmp_path / "nowhere")

    report = run_folder / "trials" / "crimson-0" / "step-77077" / "report.json"
    whole = report.read_text()
    report.write_text(whole[:100])
    with pytest.raises(RunFolderError, match=r"step-77077/report\.json is damaged"):
        read_run(run_folder)
    report.write_text(whole)

    (report.parent / "grid.png").write_bytes(b"")
    with pytest.raises(RunFolderError, match=r"grid\.png cannot be read"):
        run.candidates[0].picture(0, 1)

    (tmp_path / "validation.txt").write_text("a photo of {trigger} man\n")
    with pytest.raises(RunFolderError, match="holds 1 prompts, but the images show 2"):
        run.prompts()
    (tmp_path / "validation.txt").unlink()
    with pytest.raises(RunFolderError, match=r"the prompts .* are gone"):
        run.prompts()

    shutil.rmtree(tmp_path / "photos")
    with pytest.raises(PhotoFolderError, match="there is no such folder"):
        run.reference_photos(32)

    (run_folder / "search.yaml").write_text("name: [")
    with pytest.raises(RunFolderError, match="is not the configuration that a search wrote"):
        read_run(run_folder)


def test_anchors_that_are_gone_are_named(run_folder: Path) -> None:
    report = run_folder / "base-validation" / "report.json"
    values = json.loads(report.read_text())
    del values["metrics"]["real_face_distance"]
    report.write_text(json.dumps(values))
    with pytest.raises(
        RunFolderError,
        match=r"base-validation/report\.json holds no usable anchors: face_distance has no value on the real",
    ):
        read_run(run_folder)


def test_a_choice_needs_two(make_run: MakeRun) -> None:
    folder = make_run({"000": {100: GOOD, 200: GOOD}, "001": {100: NOBODY}})
    with pytest.raises(RunFolderError, match=r"has 1 candidate\(s\)"):
        read_run(folder)


def test_a_search_that_has_measured_nothing_yet(run_folder: Path) -> None:
    shutil.rmtree(run_folder / "base-validation")
    with pytest.raises(RunFolderError, match="no measurement of the untuned model yet"):
        read_run(run_folder)


def test_the_anchors_are_those_that_the_search_measured(run_folder: Path) -> None:
    report = run_folder / "base-validation" / "report.json"
    values = json.loads(report.read_text())
    for row in values["rows"]:
        row["measures"].update(face_distance=0.65, clip_score=10.0)
    report.write_text(json.dumps(values))
    # (0.65 - 0.45) / (0.65 - 0.4) and 20 / 10
    np.testing.assert_allclose(read_run(run_folder).candidates[0].measures[0, 1], [0.8, 2.0, 0.0])
