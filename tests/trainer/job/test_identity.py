"""What a saved state and a job have to share, and what is said where they do not."""

from dataclasses import replace
from typing import Any

import pytest

from trainer.config import TrainingConfig
from trainer.data.photo_input import PhotoInput
from trainer.job.identity import JobIdentity

CONFIG = TrainingConfig(rank=4, steps=10)


def photo(name: str, **changes: Any) -> PhotoInput:
    whole = PhotoInput(
        name=name, sha256=f"sum of {name}", caption=f"a man, {name}", crop=None, face=None, repeats=1, size=(64, 64)
    )
    return replace(whole, **changes)


PHOTOS = (photo("angry.png", crop=(1, 2, 30, 30)), photo("calm.png", face=(3, 4, 5, 6)), photo("tired.png"))


def job(photos: Any = PHOTOS, **changes: Any) -> JobIdentity:
    return JobIdentity(config=replace(CONFIG, **changes), base_sha256="base", photos=photos)


def test_a_job_continues_its_own_state() -> None:
    assert job().differences(job().as_json()) == []


@pytest.mark.parametrize(
    ("photos", "said"),
    [
        ((photo("angry.png", crop=(1, 2, 31, 31)), *PHOTOS[1:]), "crop of angry.png ([1, 2, 30, 30] there, [1, 2, 31"),
        ((*PHOTOS[:2], photo("tired.png", caption="a cat")), "caption of tired.png ('a man, tired.png' there, 'a cat'"),
        ((*PHOTOS[:2], photo("tired.png", sha256="other")), "sha256 of tired.png ('sum of tired.png' there, 'other' "),
        ((*PHOTOS[:2], photo("tired.png", repeats=3)), "repeats of tired.png (1 there, 3 here)"),
        ((*PHOTOS[:2], photo("tired.png", size=(64, 96))), "size of tired.png ([64, 64] there, [64, 96] here)"),
        (PHOTOS[:2], "tired.png (used there, missing here)"),
        ((*PHOTOS, photo("wry.png")), "wry.png (missing there, used here)"),
        (PHOTOS[::-1], "photos (angry.png, calm.png, tired.png there, tired.png, calm.png, angry.png "),
        ("0123", "photos (3 files there, '0123' here)"),
    ],
)
def test_the_photo_that_differs_is_named(photos: Any, said: str) -> None:
    (told,) = job(photos).differences(job().as_json())
    assert told.startswith(said)


def test_of_many_photos_that_differ_the_first_five_are_named() -> None:
    many = [photo(f"{number}.png") for number in range(9)]
    others = [replace(each, caption="a cat") for each in many]
    told = job(others).differences(job(many).as_json())
    assert [text.split(" (")[0] for text in told] == [
        *(f"caption of {number}.png" for number in range(5)),
        "and 4 more of the photos",
    ]


def test_a_photo_under_another_name_and_a_face_that_no_mask_is_painted_of_are_no_difference() -> None:
    changed = (PHOTOS[0], photo("calm.png", face=(9, 9, 9, 9)), replace(PHOTOS[2], name="later.png"))
    assert job(changed).differences(job().as_json()) == []
    (told,) = job(changed, face_loss_weight=2.0).differences(job(face_loss_weight=2.0).as_json())
    assert told == "face of calm.png ([3, 4, 5, 6] there, [9, 9, 9, 9] here)"


def test_class_images_that_differ_are_named_as_such() -> None:
    with_prior = replace(job(), class_images=(photo("00000.png"),))
    other = replace(job(), class_images=(photo("00000.png", sha256="other"),))
    assert other.differences(with_prior.as_json()) == [
        "sha256 of class image 00000.png ('sum of 00000.png' there, 'other' here)"
    ]
    assert job().differences(with_prior.as_json()) == ["class images (1 files there, None here)"]


@pytest.mark.parametrize(
    ("config", "change"),
    [
        ({}, {"gradient_checkpointing": True}),
        ({"lr_scheduler": "cosine"}, {"lr_cycles": 7}),
        ({}, {"huber_c": 0.5}),
        ({"text_encoder_learning_rate": 0.0}, {"text_encoder_rank": 2, "text_encoder_steps": 3}),
    ],
)
def test_what_changes_nothing_is_no_difference(config: dict[str, Any], change: dict[str, Any]) -> None:
    assert job(**config, **change).differences(job(**config).as_json()) == []


@pytest.mark.parametrize(
    ("config", "change"),
    [
        ({}, {"lr_cycles": 7}),
        ({"loss": "huber"}, {"huber_c": 0.5}),
        ({}, {"text_encoder_rank": 2}),
        ({"loss": "huber"}, {"huber_schedule": "constant"}),
    ],
)
def test_what_changes_something_is_a_difference(config: dict[str, Any], change: dict[str, Any]) -> None:
    ((name, value),) = change.items()
    (told,) = job(**config, **change).differences(job(**config).as_json())
    assert told == f"{name} ({getattr(replace(CONFIG, **config), name)!r} there, {value!r} here)"


def test_a_setting_that_a_state_does_not_know_counts_as_the_default() -> None:
    saved = job().as_json()
    del saved["prior_loss_weight"]
    assert job().differences(saved) == []
    assert job(prior_loss_weight=1.0).differences(saved) == ["prior_loss_weight (0.0 there, 1.0 here)"]
    saved["gone"] = 3
    assert job().differences(saved) == ["gone (3 there, None here)"]


def test_orders_of_tags_count_where_tags_are_shuffled() -> None:
    saved, other = (replace(job(), tag_orders=count) for count in (4, 6))
    assert other.differences(saved.as_json()) == []
    saved, other = (replace(job(caption_shuffle=0.5), tag_orders=count) for count in (4, 6))
    assert other.differences(saved.as_json()) == ["tag orders (4 there, 6 here)"]
