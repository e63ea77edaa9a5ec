"""The benchmark of killed workers: what it holds against a search, when it strikes, and what is searched."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from benchmarks.faults.__main__ import EARLIEST, LATEST, check, draw_moments, figures
from benchmarks.faults.killed_workers import Outcome, adapters, is_scored, write_search
from search.config.search_config import load_config
from search.config.space import IntRange

KILLED = ("lost its worker after step 130: worker 0: died", "lost its worker after step 12: worker 0: died")


def outcome(remarks: tuple[str, ...] = ()) -> Outcome:
    trials: list[dict[str, Any]] = [
        {
            "id": f"{number:03d}",
            "state": "finished",
            "params": {"rank": 4 + number},
            "remarks": [],
            "checkpoints": [{"step": 100, "objective": 0.5}],
        }
        for number in range(3)
    ]
    trials[1]["remarks"] = ["out of memory with 24 images at once: from there on 12 at a time", *remarks]
    result: dict[str, Any] = {
        "trials": trials,
        "champion": {"trial": "001", "step": 100, "final": {"seconds": 3.0}},
        "seconds": {"search": 60.0},
        "cost": {"optimizer_steps": 300},
    }
    blows = tuple(10.04 * (number + 1) for number in range(len(remarks)))
    return Outcome(result=result, seconds=80.0 + 10 * len(remarks), adapters={"champion": "a1"}, blows=blows)


def failed(struck: Outcome) -> list[str]:
    return [name for name, holds in check(outcome(), struck, trials=3, kills=2).items() if not holds]


def test_a_search_that_came_to_the_same_end() -> None:
    struck = outcome(KILLED)
    assert failed(struck) == []
    assert figures(struck) == {
        "seconds": 100.0,
        "trials_seconds": 60.0,
        "optimizer_steps": 300,
        "blows": [10.0, 20.1],
        "lost_after_step": [130, 12],
    }


def test_each_thing_that_may_go_wrong_is_told() -> None:
    assert failed(outcome(KILLED[:1])) == ["killed_as_often"]
    assert failed(replace(outcome(KILLED), adapters={"champion": "b2"})) == ["same_adapters"]
    worse = outcome(KILLED)
    worse.result["trials"][2] |= {"state": "failed", "params": {"rank": 9}, "checkpoints": []}
    worse.result["champion"]["trial"] = "000"
    assert failed(worse) == ["all_trials_finished", "same_configurations", "same_scores", "same_champion"]


def test_one_moment_lies_in_each_part_of_the_time() -> None:
    moments = draw_moments(100.0, 4, random.Random(7))
    part = (LATEST - EARLIEST) * 100 / 4
    assert [int((moment - EARLIEST * 100) / part) for moment in moments] == [0, 1, 2, 3]
    assert moments == draw_moments(100.0, 4, random.Random(7)) != draw_moments(100.0, 4, random.Random(8))


@pytest.mark.parametrize(
    ("there", "scored"),
    [
        ((), False),
        (("state/step-75",), False),
        (("state/step-75", "state/step-100"), True),
        (("state/step-75", "state/step-100.0a1b.tmp"), False),
        (("state/step-75", "state/step-100", "step-100"), False),
        (("state/step-100", "step-100", "state/step-125"), False),
        (("state/step-125", "step-100", "state/step-200"), True),
    ],
)
def test_a_trial_is_scored_between_a_checkpoints_state_and_the_checkpoint(
    there: tuple[str, ...], scored: bool, tmp_path: Path
) -> None:
    for name in there:
        (tmp_path / name).mkdir(parents=True)
    assert is_scored(tmp_path, 100) is scored


def test_its_search_is_the_demos_without_anything_that_depends_on_who_comes_first(tmp_path: Path) -> None:
    config = load_config(write_search(tmp_path, 12), ["name=killed"])
    assert (config.trials, config.sampler.name, config.stopping.enabled) == (12, "random", False)
    assert config.space["steps"] == IntRange(low=100, high=300, step=100)
    assert config.first_trials[0]["steps"] == 300
    assert (config.final.candidates, config.final.retrain, config.evaluation.second_judge) == (1, 0, None)


def test_adapters_are_told_apart_by_their_content(tmp_path: Path) -> None:
    """By that of the tensors: what else a file says, and in which order, is no weight."""
    names = ("trials/000/step-100", "trials/000/step-200", "champion")
    for number, (name, weight) in enumerate(zip(names, (1.0, 1.0 + 1e-7, 1.0 + 1e-7), strict=True)):
        (tmp_path / name).mkdir(parents=True)
        tensors = {"up": np.array([weight], np.float32), "down": np.zeros(2, np.float32)}
        save_file(tensors, tmp_path / name / "pytorch_lora_weights.safetensors", metadata={"step": f"{number}"})
    found = adapters(tmp_path)
    assert sorted(found) == sorted(names)
    assert found["champion"] == found["trials/000/step-200"] != found["trials/000/step-100"]
