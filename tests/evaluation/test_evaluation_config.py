"""The configuration of an evaluation: its defaults, its bounds, and that it loads no model library."""

import dataclasses
import subprocess
import sys
from typing import Any

import pytest

from evaluation.config import FaceConfig, GenerationConfig, ObjectiveConfig, PromptSet, with_trigger, without_trigger


def test_pure_modules_do_not_load_torch_or_deepface() -> None:
    program = (
        "import sys, evaluation.config, evaluation.scores, evaluation.objective, evaluation.bootstrap\n"
        "print(sorted({'torch', 'diffusers', 'transformers', 'deepface', 'cv2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("steps", 0, "steps is 0"),
        ("steps", 2.5, "steps is 2.5"),
        ("steps", True, "steps is True"),
        ("guidance_scale", -1.0, "guidance_scale is -1.0"),
        ("guidance_scale", float("nan"), "guidance_scale is nan"),
        ("resolution", 0, "resolution is 0"),
        ("resolution", 500, "resolution is 500; give a multiple of 8, such as 504"),
        ("batch_size", 0, "batch_size is 0"),
        ("scheduler", "euler", "scheduler is 'euler'; give one of dpmsolver[+]{2}, ddim, as-is"),
    ],
)
def test_generation_config_names_the_bad_value(field: str, value: Any, message: str) -> None:
    good: dict[str, Any] = {"resolution": 64, "batch_size": 4}
    with pytest.raises(ValueError, match=message):
        GenerationConfig(**(good | {field: value}))


def test_defaults_are_the_published_ones() -> None:
    assert dataclasses.asdict(GenerationConfig(resolution=512, batch_size=4)) == {
        "steps": 30,
        "guidance_scale": 7.5,
        "resolution": 512,
        "batch_size": 4,
        "scheduler": "dpmsolver++",
        "negative_prompt": "",
        "shared_noise": False,
    }
    assert dataclasses.asdict(FaceConfig()) == {
        "recognizer": "GhostFaceNet",
        "detector": "ssd",
        "minimum_confidence": 0.0,
        "minimum_face": 0.05,
        "minimum_side": 128,
    }
    assert dataclasses.asdict(ObjectiveConfig()) == {
        "likeness": 0.5,
        "fidelity": 0.3,
        "faceless": 0.2,
        "leakage": 0.05,
        "mode": "weighted",
        "minimum_likeness": None,
        "maximum_faceless_rate": 0.1,
    }


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("recognizer", "", "recognizer is empty"),
        ("detector", "skip", "detector is 'skip', which finds no faces"),
        ("minimum_confidence", 1.0, "minimum_confidence is 1.0, which no face exceeds"),
        ("minimum_confidence", -0.1, "minimum_confidence is -0.1"),
        ("minimum_face", 1.1, "minimum_face is 1.1"),
        ("minimum_side", -1, "minimum_side is -1"),
    ],
)
def test_face_config_names_the_bad_value(field: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FaceConfig(**{field: value})


@pytest.mark.parametrize(("detector", "reason"), [("opencv", "surer faces get LESS"), ("dlib", "a margin")])
def test_a_minimum_confidence_is_refused_where_it_means_something_else(detector: str, reason: str) -> None:
    message = (
        f"minimum_confidence is 0.5, but the confidence of detector '{detector}' is .*{reason}.*; leave .* such as"
    )
    with pytest.raises(ValueError, match=message):
        FaceConfig(detector=detector, minimum_confidence=0.5)
    assert FaceConfig(detector=detector).minimum_confidence == 0.0
    assert FaceConfig(detector="ssd", minimum_confidence=0.5).minimum_confidence == 0.5


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"likeness": -0.1}, "weight of likeness is -0.1"),
        ({"fidelity": 1.5}, "weight of fidelity is 1.5"),
        ({"faceless": float("inf")}, "weight of faceless is inf"),
        ({"likeness": 0.0, "fidelity": 0.0}, "both 0"),
    ],
)
def test_objective_config_names_the_bad_weight(weights: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ObjectiveConfig(**weights)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "both"}, "mode is 'both'; give one of weighted, pareto"),
        ({"minimum_likeness": 0.5}, r"minimum_likeness is 0.5, but mode is 'weighted'.*; set mode to pareto"),
        ({"mode": "pareto", "minimum_likeness": 1.5}, "minimum_likeness is 1.5; give a number from 0.0 to 1.0"),
        ({"mode": "pareto", "minimum_likeness": float("nan")}, "minimum_likeness is nan"),
        ({"mode": "pareto", "maximum_faceless_rate": -0.1}, "maximum_faceless_rate is -0.1"),
        ({"maximum_faceless_rate": 1.0}, "maximum_faceless_rate is 1.0, which no model exceeds"),
    ],
)
def test_what_the_front_asks_for_is_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ObjectiveConfig(**settings)


def test_the_bounds_themselves_may_be_asked_for() -> None:
    for minimum in (0.0, 1.0, 1):
        assert ObjectiveConfig(mode="pareto", minimum_likeness=minimum).minimum_likeness == minimum
    assert ObjectiveConfig(maximum_faceless_rate=0.0).maximum_faceless_rate == 0.0


@pytest.mark.parametrize(
    ("prompts", "seeds", "message"),
    [
        ((), (1,), "no prompts"),
        (("a man", "a man"), (1,), "'a man' is given twice"),
        (("{trigger} ",), (1,), "says nothing beside the trigger"),
        (("a {triger} man",), (1,), "holds {triger}; only {trigger} is filled in"),
        (("a man",), (), "no seeds"),
        (("a man",), (3, 3), "the seed 3 is given twice"),
        (("a man",), (-1,), "a seed is -1"),
        (("a man",), (2**63,), "too large"),
    ],
)
def test_prompt_set_names_the_bad_entry(prompts: tuple[str, ...], seeds: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PromptSet(prompts=prompts, seeds=seeds)


def test_pairs_go_prompt_by_prompt() -> None:
    assert PromptSet(prompts=("a", "b"), seeds=(7, 5)).pairs() == ((0, 7), (0, 5), (1, 7), (1, 5))


@pytest.mark.parametrize(
    ("prompt", "generated", "scored"),
    [
        ("a photo of {trigger} man, smiling", "a photo of sks man, smiling", "a photo of man, smiling"),
        ("{trigger} man", "sks man", "man"),
        ("portrait of {trigger}, angry", "portrait of sks, angry", "portrait of, angry"),
        ("a man", "a man", "a man"),
    ],
)
def test_trigger_is_filled_in_for_images_and_left_out_for_clip(prompt: str, generated: str, scored: str) -> None:
    assert with_trigger(prompt, "sks") == generated
    assert without_trigger(prompt) == scored
    assert with_trigger(prompt, "") == scored
