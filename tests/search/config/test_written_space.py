"""A space as people write it: each value becomes what its training setting takes, or is refused in words."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from search.config.space import AnyDimension, Choice, Dimension, FloatRange, IntRange, Value
from search.config.written_space import dimension_values, setting_value

DIMENSION: TypeAdapter[AnyDimension] = TypeAdapter(Dimension)


@pytest.mark.parametrize(
    ("name", "written", "meant"),
    [
        ("rank", 4.0, 4),
        ("rank", "8", 8),
        ("rank", 8, 8),
        ("rank", 4.5, 4.5),
        ("text_encoder_rank", 4.0, 4),
        ("alpha", 8, 8),
        ("alpha", "8", 8.0),
        ("learning_rate", "1e-4", 1e-4),
        ("snr_gamma", "5", 5.0),
        ("gradient_checkpointing", "yes", True),
        ("gradient_checkpointing", "off", False),
        ("gradient_checkpointing", 1, True),
        ("horizontal_flip", True, True),
        ("mixed_precision", "no", "no"),
        ("targets", "everything", "everything"),
        ("no_setting", "8", "8"),
    ],
)
def test_a_value_is_what_the_setting_takes(name: str, written: Value, meant: Value) -> None:
    read = setting_value(name, written)
    assert (type(read), read) == (type(meant), meant)


@pytest.mark.parametrize(
    ("name", "written", "meant"),
    [
        ("steps", {"low": 2e1, "high": 40.0, "step": "20"}, IntRange(low=20, high=40, step=20)),
        ("rank", {"low": 4, "high": 64, "log": True}, IntRange(low=4, high=64, log=True)),
        ("rank", {"low": 4, "high": 64}, IntRange(low=4, high=64)),
        ("alpha", {"low": 4, "high": 64, "log": True}, FloatRange(low=4, high=64, log=True)),
        ("alpha", {"low": 4, "high": 64}, IntRange(low=4, high=64)),
        ("rank", {"values": ["4", 8.0]}, Choice(values=(4, 8))),
        (
            "huber_c",
            {"low": 0.1, "high": 0.5, "when": {"rank": "8", "gradient_checkpointing": ["yes"]}},
            FloatRange(low=0.1, high=0.5, when={"rank": (8,), "gradient_checkpointing": (True,)}),
        ),
    ],
)
def test_a_dimension_is_of_the_kind_of_its_setting_and_reads_back(
    name: str, written: dict[str, Any], meant: AnyDimension
) -> None:
    read = DIMENSION.validate_python(dimension_values(name, written))
    assert (type(read), read) == (type(meant), meant)
    kept = read.model_dump(mode="json")
    again = DIMENSION.validate_python(dimension_values(name, kept))
    assert (type(again), again) == (type(meant), meant)
    assert dimension_values(name, read) is read


@pytest.mark.parametrize(
    ("name", "written", "message"),
    [
        ("rank", {"low": 4.5, "high": 8}, "rank.low is 4.5; rank takes whole numbers only"),
        ("steps", {"low": 20, "high": 40, "step": 0.5}, "steps.step is 0.5; steps takes whole numbers only"),
        ("alpha", {"values": ["8", "eight"]}, "alpha is a number, not 'eight'; give a number"),
        ("alpha", {"values": ["0,5"]}, "alpha is a number, not '0,5'; write a number with a decimal point"),
        ("rank", {"values": ["2e1"]}, "rank is a number, not '2e1'; write it without an exponent"),
        ("learning_rate", {"low": 0.1, "high": 0.5, "step": 0.1}, "learning_rate has a step, .* leave the step out"),
        ("rank", 8, "rank is 8; give a range, as {low: 1, high: 8}, or values, as {values: .4, 8.}, or set it under"),
        ("rank", [4, 8], "rank is .4, 8.; give a range"),
        ("rank", None, "rank is None; give a range"),
    ],
)
def test_what_no_setting_takes_is_refused_with_the_remedy(name: str, written: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dimension_values(name, written)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"low": 4, "high": 64, "step": 4, "log": True}, "step is 4, which does not go with log"),
        ({"low": 0, "high": 64, "step": 1, "log": True}, "must be at least 1 where log is true"),
    ],
)
def test_whole_numbers_on_a_logarithmic_scale_have_no_strides_and_no_zero(
    written: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        DIMENSION.validate_python(written)
