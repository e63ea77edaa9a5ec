"""Judges of one's own: how they are found, what they must keep to, and what becomes of what they say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evaluation.config import MeasureConfig, ObjectiveConfig
from evaluation.judges import Pictures, check_measures, judged, known_metrics, load_judges
from evaluation.measures import METRICS, Measure, Value, printed

IMAGES = [Image.new("RGB", (8, 8), colour) for colour in ("black", "white", "gray")]
PICTURES = Pictures(images=IMAGES, texts=("a man", "a woman"), prompts=(0, 0, 1))


@dataclass(frozen=True, kw_only=True)
class Says:
    """A judge that says given things."""

    answers: Sequence[Mapping[str, Value]]
    measures: Sequence[Measure] = (Measure(name="brightness", meaning="mean of the pixels"),)
    asked: list[Pictures] = field(default_factory=list)

    def judge(self, pictures: Pictures) -> Sequence[Mapping[str, Value]]:
        self.asked.append(pictures)
        return self.answers


BRIGHTNESS = """
from evaluation.measures import Measure

class Brightness:
    measures = (Measure(name="brightness", meaning="mean of the pixels", direction="maximize", upper=255.0),)

    def judge(self, pictures):
        return [{"brightness": float(image.convert("L").getpixel((0, 0)))} for image in pictures.images]

class Colours:
    measures = (
        Measure(name="warmth", meaning="red less blue", lower=-255.0, upper=255.0),
        Measure(name="tint", meaning="the colour's name", kind=str),
    )

    def judge(self, pictures):
        return [{"tint": "none"} for image in pictures.images]

class Greedy:
    def __init__(self, size):
        self.measures = ()

class Nothing:
    pass

class Silent:
    measures = ()

class Settled:
    measures, judge = (), 0.5

def taking(name):
    return type("Taking", (Brightness,), {"measures": (Measure(name=name, meaning=""),)})

Likeness, Distance, Copies = taking("likeness"), taking("face_distance"), taking("copy_distance")
Verification, Real, Anchored = taking("verification_rate"), taking("real_glasses"), taking("anchored_glasses")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module with judges that Python finds; its name is the test's own, for modules stay imported."""
    name = f"judges_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(BRIGHTNESS, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_what_all_judges_say_comes_together_image_by_image() -> None:
    tint = Measure(name="tint", meaning="the colour's name", kind=str)
    first = Says(answers=[{"brightness": 0.0}, {"brightness": 1.0}, {}])
    second = Says(answers=[{"tint": "none"}, {}, {"tint": "gray"}], measures=(tint,))
    assert judged([first, second], PICTURES) == [
        {"brightness": 0.0, "tint": "none"},
        {"brightness": 1.0},
        {"tint": "gray"},
    ]
    assert first.asked == second.asked == [PICTURES], "each looks at all pictures once"
    assert judged([], PICTURES) == [{}, {}, {}]


@pytest.mark.parametrize("count", [0, 2, 4])
def test_a_judge_that_does_not_measure_each_image_is_named(count: int) -> None:
    with pytest.raises(ValueError, match=f"Says measured {count} of 3 images; it has to measure each"):
        judged([Says(answers=[{"brightness": 0.5}] * count)], PICTURES)


def test_a_measure_that_was_not_declared_is_named() -> None:
    judge = Says(answers=[{"brightness": 0.5}, {"sharpness": 0.5, "warmth": 1.0}, {}])
    with pytest.raises(ValueError, match="Says says 'sharpness', which is not among its measures; declare it"):
        judged([judge], PICTURES)


def test_judges_are_made_in_their_order(module: str) -> None:
    judges = load_judges([f"{module}:Colours", f"{module}:Brightness"])
    assert [type(judge).__name__ for judge in judges] == ["Colours", "Brightness"]
    assert judged(judges, PICTURES) == [
        {"tint": "none", "brightness": 0.0},
        {"tint": "none", "brightness": 255.0},
        {"tint": "none", "brightness": 128.0},
    ]
    assert load_judges([]) == ()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_such_module:Brightness", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("MODULE:Darkness", "AttributeError: module '.*' has no attribute 'Darkness'"),
        ("MODULE", "AttributeError"),
        (":Brightness", "ValueError: Empty module name"),
        ("", "ValueError: Empty module name"),
        ("MODULE:Greedy", r"TypeError: .*missing 1 required positional argument: 'size'"),
        ("MODULE:Nothing", "AttributeError: 'Nothing' object has no attribute 'measures'"),
        ("MODULE:Silent", "AttributeError: 'Silent' object has no attribute 'judge'"),
        ("MODULE:Settled", "TypeError: its judge is no method"),
        ("MODULE:taking", "TypeError"),
    ],
)
def test_a_judge_that_cannot_be_used_is_named_with_the_reason(name: str, reason: str, module: str) -> None:
    with pytest.raises(ValueError, match=rf"^judges: '.*' cannot be used: {reason}.*; give module:Class of a module"):
        load_judges([name.replace("MODULE", module)])


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def", "SyntaxError"),
        ("import no_such_one", "ModuleNotFound"),
    ],
)
def test_a_module_that_raises_is_named_with_the_reason(
    source: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "raising_judges.py").write_text(source, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=f"judges: 'raising_judges:Any' cannot be used: {reason}"):
        load_judges(["raising_judges:Any"])


@pytest.mark.parametrize(
    ("judge", "taken"),
    [
        ("Likeness", "likeness"),
        ("Distance", "face_distance"),
        ("Verification", "verification_rate"),
        # What the baseline's metrics and the terms of an objective are called.
        ("Copies", "copy_distance"),
        ("Real", "real_glasses"),
        ("Anchored", "anchored_glasses"),
    ],
)
def test_a_name_that_is_taken_is_refused(judge: str, taken: str, module: str) -> None:
    message = f"judges: '{module}:{judge}' declares the measure '{taken}', which is taken; rename it"
    with pytest.raises(ValueError, match=message):
        load_judges([f"{module}:{judge}"])


def test_two_judges_cannot_declare_the_same_measure(module: str) -> None:
    with pytest.raises(ValueError, match="Brightness' declares the measure 'brightness', which is taken"):
        load_judges([f"{module}:Brightness", f"{module}:Colours", f"{module}:Brightness"])


def test_the_metrics_of_a_search_are_the_built_in_ones_and_those_of_its_judges(module: str) -> None:
    measures = {
        "brightness": MeasureConfig(weight=-0.2, zero=10.0, one=200.0, low=-2.0, high=3.0),
        "verified": MeasureConfig(weight=0.1),
    }
    known = known_metrics([f"{module}:Brightness", f"{module}:Colours"], ObjectiveConfig(measures=measures))
    assert list(known) == [*METRICS, "brightness", "warmth", "anchored_brightness", "anchored_verified"]
    assert {name: known[name] for name in METRICS} == dict(METRICS)
    assert known["brightness"].direction == "maximize"
    assert known["anchored_brightness"] == Measure(
        name="anchored_brightness",
        meaning="mean of the pixels: 0 at 10.0, 1 at 200.0; counts -0.2 a unit",
        direction="minimize",
        lower=-2.0,
        upper=3.0,
    )
    assert known["anchored_verified"].meaning == (
        "share of the reference photos that the recogniser takes for the same person, 0 without a face: 0 at untuned, "
        "1 at real; counts 0.1 a unit"
    )
    assert known["anchored_verified"].direction == "maximize"
    assert known_metrics([], ObjectiveConfig()) == dict(METRICS)


def test_every_metric_of_a_search_that_is_printed_is_known(module: str) -> None:
    objective = ObjectiveConfig(measures={"warmth": MeasureConfig(weight=0.2, zero=0.0, one=1.0)})
    known = known_metrics([f"{module}:Colours"], objective)
    given: dict[str, Any] = {"warmth": 3.0, "anchored_warmth": 1.0, "objective": 0.5, "real_warmth": 2.0}
    assert printed(given) == ("objective", "warmth", "anchored_warmth")
    assert set(printed(given)) <= set(known)


def test_a_judge_that_is_not_at_hand_has_no_metrics_but_its_terms() -> None:
    """A result is read where its judges are not."""
    objective = ObjectiveConfig(measures={"brightness": MeasureConfig(weight=0.2, zero=0.0, one=1.0)})
    known = known_metrics(["no_such_module:Brightness"], objective)
    assert set(known) == {*METRICS, "anchored_brightness"}
    assert known["anchored_brightness"].meaning == "brightness: 0 at 0.0, 1 at 1.0; counts 0.2 a unit"


def test_what_the_objective_weighs_is_declared_and_a_number(module: str) -> None:
    def check(judges: list[str], measure: str) -> None:
        check_measures(judges, ObjectiveConfig(measures={measure: MeasureConfig(weight=0.2)}))

    check([], "verified")
    check([f"{module}:Colours"], "warmth")
    with pytest.raises(ValueError, match=r"names 'warmth', which no judge measures; known: face_found"):
        check([], "warmth")
    with pytest.raises(ValueError, match="names 'training_photo', which is no number"):
        check([], "training_photo")
    with pytest.raises(ValueError, match=r"judges: 'no_such_module:Any' cannot be used"):
        check(["no_such_module:Any"], "verified")
