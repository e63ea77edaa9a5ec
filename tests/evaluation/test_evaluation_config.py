"""The configuration of an evaluation: its defaults, its bounds, and that it loads no model library."""

import dataclasses
import subprocess
import sys
from typing import Any

import pytest

from evaluation.config import (
    Anchor,
    FaceConfig,
    GenerationConfig,
    LimitsConfig,
    MeasureConfig,
    ObjectiveConfig,
    PromptSet,
    as_read_by_clip,
    with_trigger,
)


def test_pure_modules_do_not_load_torch_or_deepface() -> None:
    program = (
        "import sys, evaluation.config, evaluation.measures, evaluation.terms, evaluation.judges, evaluation.scores\n"
        "import evaluation.objective, evaluation.bootstrap\n"
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
        "fidelity": 0.4,
        "faceless": 0.5,
        "leakage": 0.05,
        "measures": {},
        "mode": "weighted",
        "minimum_likeness": None,
        "maximum_faceless_rate": 0.1,
    }
    assert dataclasses.asdict(LimitsConfig()) == {
        "memorisation": 0.1,
        "leakage": None,
        "likeness_spread": 0.5,
        "others_faceless": 0.25,
    }
    assert dataclasses.asdict(MeasureConfig(weight=0.1)) == {
        "weight": 0.1,
        "zero": "untuned",
        "one": "real",
        "low": -1.0,
        "high": 1.0,
        "missing": 0.0,
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
        ("portrait of {trigger}, angry", "portrait of sks, angry", "portrait of person, angry"),
        ("{trigger}", "sks", "person"),
        ("a photo of {trigger}  Woman", "a photo of sks  Woman", "a photo of Woman"),
        ("{trigger} person and {trigger}", "sks person and sks", "person and person"),
        ("{trigger} mankind", "sks mankind", "person mankind"),
        ("{trigger} in a man's coat", "sks in a man's coat", "person in a man's coat"),
        ("a man", "a man", "a man"),
        (" a man ", " a man ", "a man"),
    ],
)
def test_the_trigger_is_filled_in_for_images_and_clip_reads_the_noun_in_its_place(
    prompt: str, generated: str, scored: str
) -> None:
    """CLIP has never seen the trigger; without the person in it, a prompt such as `portrait of, angry` is none."""
    assert with_trigger(prompt, "sks") == generated
    assert as_read_by_clip(prompt) == scored
    assert with_trigger(prompt, "") == scored


@pytest.mark.parametrize(
    ("prompt", "class_word", "scored"),
    [
        ("portrait of {trigger}, angry", "man", "portrait of man, angry"),
        ("a photo of {trigger} man, smiling", "man", "a photo of man, smiling"),
        ("a photo of {trigger} Man, smiling", "man", "a photo of Man, smiling"),
        ("a photo of {trigger} old man, smiling", "old man", "a photo of old man, smiling"),
        ("a photo of {trigger}, smiling", "old man", "a photo of old man, smiling"),
        ("{trigger} manager", "man", "man manager"),
        ("a photo of {trigger} man, smiling", "person", "a photo of man, smiling"),
        ("a photo of {trigger} old man", "", "a photo of old man"),
        ("{trigger} with a woman", "", "person with a woman"),
        ("{trigger} and woman", "man", "man and woman"),
        ("{trigger} and {trigger} man", "man", "man and man"),
        ("a photo of {trigger}", "c++", "a photo of c++"),
        ("a photo of {trigger} c++ coder", "c++", "a photo of c++ coder"),
        ("a photo of {trigger}", r"a\1", r"a photo of a\1"),
        ("a woman", "man", "a woman"),
    ],
)
def test_a_class_word_stands_in_the_triggers_place_and_is_not_said_twice(
    prompt: str, class_word: str, scored: str
) -> None:
    assert as_read_by_clip(prompt, class_word) == scored


def test_other_people_are_asked_for_by_the_class_word() -> None:
    prompts = PromptSet(
        prompts=("{trigger} man, happy", "portrait of {trigger}", "{trigger}, happy", "{trigger} man, sad"),
        seeds=(1, 2),
    )
    assert prompts.of_others(9, (5,), "man") == PromptSet(
        prompts=("man, happy", "portrait of man", "man, sad"), seeds=(5,)
    )
    assert prompts.of_others(9, (5,)).prompts == ("man, happy", "portrait of person", "person, happy", "man, sad")
    assert prompts.of_others(2, (5,)).prompts == ("man, happy", "person, happy"), "spread evenly"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight": 1.5}, "weight is 1.5; give a number from -1.0 to 1.0"),
        ({"weight": float("nan")}, "weight is nan"),
        ({"low": float("-inf")}, "low is -inf"),
        ({"high": 101.0}, "high is 101.0"),
        ({"missing": float("nan")}, "missing is nan"),
        ({"missing": 2.0}, r"missing is 2; give a number from low \(-1\) to high \(1\)"),
        ({"low": 1.0}, "low is 1 and high 1; give a high above the low"),
        ({"low": 2.0, "high": 1.0}, "low is 2 and high 1"),
        ({"zero": Anchor.REAL}, "zero and one are both real, so the measure has no scale"),
        ({"zero": 0.5, "one": 0.5}, "zero and one are both 0.5"),
        ({"zero": Anchor.MISMATCHED}, "mismatched is an end of the CLIP score only; give untuned, real or a number"),
        ({"one": Anchor.MISMATCHED}, "mismatched is an end of the CLIP score only"),
    ],
)
def test_the_scale_of_a_measure_is_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MeasureConfig(**({"weight": 0.1} | settings))


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        ("memorisation", 1.5, "limit of memorisation is 1.5; give a number from 0.0 to 1.0"),
        ("memorisation", -0.1, "limit of memorisation is -0.1"),
        ("leakage", float("nan"), "limit of leakage is nan"),
        ("likeness_spread", float("inf"), "limit of likeness_spread is inf"),
        ("others_faceless", 1.1, "limit of others_faceless is 1.1; give a number from 0.0 to 1.0"),
    ],
)
def test_limits_config_names_the_bad_limit(limit: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LimitsConfig(**{limit: value})
    assert getattr(LimitsConfig(**{limit: None}), limit) is None
