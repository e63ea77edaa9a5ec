"""The configuration of class images."""

import math
import re
from pathlib import Path
from typing import Any

import pytest

from trainer.config import TrainingConfig
from trainer.data.captions import names_person
from trainer.data.prior_config import PriorConfig, check_prior

PRIOR = PriorConfig(prompt="a photo of a man")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prompt": " "}, "prompt is ' '; say what class images show, such as 'a photo of a man'"),
        ({"prompt": "a photo of {trigger} man"}, "class images are not of the person: leave out {trigger}"),
        ({"folder": Path("men"), "images": 5}, "images is 5, but the class images of the folder men are all used"),
        ({"images": 0}, "images is 0; it must be a whole number from 1 to 100000"),
        ({"images": 2.5}, "images is 2.5; it must be a whole number"),
        ({"steps": 0}, "steps is 0; it must be a whole number from 1 to 1000"),
        ({"batch_size": True}, "batch_size is True; it must be a whole number from 1 to 1024"),
        ({"guidance_scale": math.nan}, "guidance_scale is nan; it must lie between 0 and 100"),
    ],
)
def test_values_that_cannot_work_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        PriorConfig(**{"prompt": "a photo of a man", **values})


def test_a_hundred_images_are_drawn_unless_a_folder_holds_them() -> None:
    assert PRIOR.count == 100
    assert PriorConfig(prompt="a\n man ", images=7).source == "7 drawn from 'a man'"
    supplied = PriorConfig(prompt="a man", folder=Path("men"))
    assert (supplied.count, supplied.source) == (0, "those in men")


@pytest.mark.parametrize(
    ("prior", "weights", "message"),
    [
        (None, (0.0, 0.5), "prior_loss_weight is 0.5, but there are no class images; give photos.prior a prompt"),
        (PRIOR, (0.0, 0.0), "nothing would learn from them; set training.prior_loss_weight (1 is usual)"),
        (PriorConfig(prompt="A photo of SKS man"), (1.0,), "which holds the trigger 'sks'"),
        (PRIOR, (0.0, 1.0), ""),
        (None, (0.0,), ""),
    ],
)
def test_class_images_are_there_where_they_are_weighed(
    prior: PriorConfig | None, weights: tuple[float, ...], message: str
) -> None:
    trainings = [TrainingConfig(prior_loss_weight=weight) for weight in weights]
    if not message:
        check_prior(prior, "sks", trainings)
        return
    with pytest.raises(ValueError, match=re.escape(message)):
        check_prior(prior, "sks", trainings)


@pytest.mark.parametrize(
    ("text", "trigger", "expected"),
    [
        ("sks man", "sks", True),
        ("a man (Sks)", "sks", True),
        ("asks a man", "sks", False),
        ("a man", "", False),
        ("a c++ man", "c++", True),
        ("一张sks男人的照片", "sks", True),
        ("sks는 웃는다", "sks", True),
        ("портрет анны", "анн", False),
        ("портрет анны", "Анны", True),
    ],
)
def test_a_trigger_is_a_word(text: str, trigger: str, expected: bool) -> None:
    assert names_person(text, trigger) is expected


@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf])
def test_weights_out_of_range_are_refused(weight: float) -> None:
    with pytest.raises(ValueError, match=rf"prior_loss_weight is {weight}; it must lie between 0 \(off\) and 1000"):
        TrainingConfig(prior_loss_weight=weight)
