"""The benchmark of scoring, run for real with two images a checkpoint, and its arithmetic; not for speed."""

import os
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from benchmarks.scoring.__main__ import Measured, Turn, evaluation_setup
from benchmarks.scoring.scored import Scored, largest, largest_difference, shares
from benchmarks.subprocess_object import Held
from evaluation.image_row import ImageRow
from evaluation.scores import Anchors
from tests.support import quick_benchmark

ROOT = Path(__file__).parents[2]
ANCHORS = Anchors.between(untuned_distance=1.0, real_distance=0.5, clip_score=30.0)


def scored(*distances: float | None, clip_score: float = 30.0, gray: int = 0) -> Scored:
    rows = tuple(ImageRow.of(n, 1, face_distance=d, clip_score=clip_score) for n, d in enumerate(distances))
    pixels = np.full((len(rows), 2, 2, 3), gray, dtype=np.uint8)
    return Scored(rows=rows, pixels=pixels, seconds={"generation": 3.0, "clip": 1.0})


def test_differences_by_hand() -> None:
    ours, theirs = scored(0.75, None, 0.5, None, gray=250), scored(0.5, None, None, 0.9, clip_score=29.0, gray=1)
    assert largest_difference(ours, theirs, ANCHORS) == {
        "face_distance": 0.25,
        "likeness": 0.5,  # 0.25 of a gap of 0.5
        "clip_score": 1.0,
        "faceless": 2.0,
        "pixels": 249.0,
    }
    same = largest_difference(ours, ours, ANCHORS)
    assert set(same.values()) == {0.0}
    assert largest([same, {**same, "likeness": 0.5}]) == {**same, "likeness": 0.5}
    with pytest.raises(ValueError, match="different prompts or seeds"):
        largest_difference(ours, replace(ours, rows=ours.rows[::-1]), ANCHORS)


def test_shares_are_of_all_checkpoints_together() -> None:
    first, second = scored(0.5), replace(scored(0.5), seconds={"generation": 1.0, "rest": 5.0})
    assert shares([first, second]) == {"generation": 0.4, "clip": 0.1, "rest": 0.5}


def test_ratios_are_of_median_rates() -> None:
    three = scored(0.5, 0.5, 0.5)

    def turns(*walls: float) -> tuple[Turn, ...]:
        return tuple(Turn(wall=wall, scored=(three, three)) for wall in walls)

    same = largest_difference(three, three, ANCHORS)
    measured = Measured(
        start=6.0,
        ours=turns(1.0, 2.0, 3.0),  # 6, 3 and 2 images a second
        homework=turns(6.0, 12.0, 3.0),  # 1, 0.5 and 2
        differences=same,
        same_images=same,
    )
    outcome = measured.outcome(evaluation_setup(ROOT, quick=True), 4)
    assert outcome["ratios"] == {"rate": 3.0, "rate_with_start": pytest.approx(18 / 12)}
    assert outcome["met"] == {"rate": True}
    assert (outcome["rounds"], outcome["checkpoints"], outcome["images"]) == (3, 2, 3)
    assert outcome["ours"]["rates"] == [6.0, 3.0, 2.0]
    assert outcome["same_scores"] is True
    apart = replace(measured, same_images={**same, "clip_score": 2e-4}).outcome(evaluation_setup(ROOT, quick=True), 4)
    assert apart["same_scores"] is False


def test_a_held_object_lives_in_a_process_of_its_own() -> None:
    with Held(1, list, [3, 1, 2]) as held:
        held.wait()
        held.call("sort")
        held.call("append", 4)
        assert [held.call("pop").result() for _ in range(4)] == [4, 3, 2, 1]
        with pytest.raises(IndexError, match="pop from empty list"):
            held.call("pop").result()


def test_a_held_object_has_an_environment_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("HELD", raising=False)
    with Held(3, import_module, "os", environment={"HELD": "yes"}) as held:
        assert [held.call("getenv", name).result() for name in ("OMP_NUM_THREADS", "HELD")] == ["3", "yes"]
    assert (os.environ["OMP_NUM_THREADS"], os.environ.get("HELD")) == ("7", None)


def test_quick_run_scores_alike_on_both_sides_and_ends_with_its_outcome(tmp_path: Path) -> None:
    done = quick_benchmark.finish("scoring", "--quick", json_file=tmp_path / "outcome.json")
    outcome = done.outcome
    assert done.heading.startswith(f"1 x {outcome['cores']} checkpoints of 2 images and 4 sampling steps a side")
    assert set(outcome) == {
        *("benchmark", "cores", "rounds", "checkpoints", "images", "steps", "batches", "ratios", "goals", "met"),
        *("largest_difference", "largest_difference_on_same_images", "same_scores", "ours", "homework"),
    }
    assert outcome["benchmark"] == "evaluation"
    assert outcome["batches"] == {"ours": 24, "homework": 1}
    assert outcome["goals"] == {"rate": 3.0}

    assert outcome["same_scores"], "the two sides do not measure the same"
    differences = outcome["largest_difference"]
    assert set(differences) == {"face_distance", "likeness", "clip_score", "faceless", "pixels"}
    assert differences["faceless"] == 0
    assert differences["pixels"] <= 2, "images made in other batches differ by more than rounding"

    ours, homework = outcome["ours"], outcome["homework"]
    assert set(ours["shares"]) == {"generation", "detection", "embedding", "clip", "rest"}
    assert set(homework["shares"]) == {"loading", "generation", "judging"}
    for side in (ours, homework):
        assert min(side["shares"].values()) > 0
        assert sum(side["shares"].values()) == pytest.approx(1)
        assert side["rates"] == pytest.approx([2 * outcome["cores"] / wall for wall in side["walls"]])
    assert outcome["ratios"]["rate"] == pytest.approx(median(ours["rates"]) / median(homework["rates"]))
    assert outcome["met"]["rate"] == (outcome["ratios"]["rate"] >= 3)
