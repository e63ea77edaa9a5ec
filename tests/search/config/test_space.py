"""The search space: what it holds, what it refuses, and the nearest that it offers."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from search.config.space import (
    AnyDimension,
    Choice,
    Dimension,
    FloatRange,
    IntRange,
    Space,
    Value,
    clip,
    extremes,
    largest,
)

DIMENSION: TypeAdapter[AnyDimension] = TypeAdapter(Dimension)


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ({"low": 1e-5, "high": 1e-2, "log": True}, FloatRange),
        ({"low": 0, "high": 1.5}, FloatRange),
        ({"low": 1, "high": 8, "log": True}, FloatRange),
        ({"low": 50, "high": 150, "step": 50}, IntRange),
        ({"low": 1, "high": 8}, IntRange),
        ({"values": ["attention", 3, 2.5]}, Choice),
    ],
)
def test_the_kind_follows_from_what_is_written(written: dict[str, Any], kind: type) -> None:
    assert type(DIMENSION.validate_python(written)) is kind


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ({"low": 2.0, "high": 1.0}, "must be smaller than high"),
        ({"low": 3, "high": 3}, "must be smaller than high"),
        ({"low": 0.0, "high": 1.0, "log": True}, "must be positive"),
        ({"low": 50, "high": 140, "step": 50}, "multiple of step"),
        ({"values": []}, "at least 1 item"),
        ({"values": [1, 2, 1]}, "must not repeat"),
        ({"low": 1, "high": 2, "hihg": 3}, "Extra inputs"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused(written: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        DIMENSION.validate_python(written)


def test_values_keep_their_types() -> None:
    choice = DIMENSION.validate_python({"values": [4, 8.5, "attention", True]})
    assert isinstance(choice, Choice)
    assert [type(value) for value in choice.values] == [int, float, str, bool]


def test_a_switch_is_no_number() -> None:
    switch = Choice(values=(False, True))
    assert extremes(switch) == (False, True)
    assert clip({"gradient_checkpointing": switch}, {"gradient_checkpointing": True}) == {
        "gradient_checkpointing": True
    }
    assert clip({"rank": Choice(values=(4, 1))}, {"rank": True}) == {"rank": 4}
    with pytest.raises(ValueError, match=r"\[False, True\] are not all numbers"):
        largest(switch)


def test_extremes_are_what_may_be_refused() -> None:
    assert extremes(IntRange(low=50, high=150, step=50)) == (50, 150)
    assert extremes(FloatRange(low=0.1, high=1.0)) == (0.1, 1.0)
    assert extremes(Choice(values=("b", 8, 4.5, "a"))) == (4.5, 8, "a", "b")


def test_clip_gives_the_nearest_that_is_offered() -> None:
    space: Space = {
        "learning_rate": FloatRange(low=3e-4, high=1e-2, log=True),
        "rank": Choice(values=(4, 8, 16)),
        "steps": IntRange(low=50, high=150, step=50),
        "targets": Choice(values=("attention", "everything")),
        "alpha": IntRange(low=1, high=64),
    }
    homework: dict[str, Value] = {
        "learning_rate": 1e-4,
        "rank": 32,
        "steps": 2000,
        "targets": "attention",
        "batch_size": 2,
    }
    assert clip(space, homework) == {"learning_rate": 3e-4, "rank": 16, "steps": 150, "targets": "attention"}
    assert clip(space, {"steps": 110, "rank": 5, "targets": "unknown"}) == {
        "steps": 100,
        "rank": 4,
        "targets": "attention",
    }


def test_every_clipped_value_lies_in_the_space() -> None:
    space: Space = {"rank": Choice(values=(4, 8)), "steps": IntRange(low=60, high=160, step=50)}
    for steps in range(1, 400, 7):
        clipped = clip(space, {"rank": steps, "steps": steps})
        assert clipped["rank"] in (4, 8)
        assert clipped["steps"] in (60, 110, 160)


def test_largest() -> None:
    assert largest(IntRange(low=50, high=150)) == 150
    assert largest(Choice(values=(100, 400, 200))) == 400
    with pytest.raises(ValueError, match="not all numbers"):
        largest(Choice(values=("a", 1)))
