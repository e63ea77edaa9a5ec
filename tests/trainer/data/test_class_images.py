"""Class images: drawn once, kept, resumed after a kill and shared between processes."""

import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.trainer.conftest import RESOLUTION
from trainer.data.class_images import draw_class_images
from trainer.data.photos import CaptionedPhoto
from trainer.data.prior_config import PriorConfig
from trainer.models.flux import Flux
from trainer.models.loading import BaseModel
from trainer.models.stable_diffusion_3 import StableDiffusion3
from trainer.out_of_memory import OutOfMemory

PRIOR = PriorConfig(prompt="a photo of a man", images=5, steps=2, guidance_scale=3.0, batch_size=2)

HOLD_THE_FIRST_TWO_SEEDS = """
import fcntl, sys
with open(sys.argv[1], "ab") as locks:
    fcntl.lockf(locks, fcntl.LOCK_EX, 2, 0)
    print("held", flush=True)
    sys.stdin.read()
"""


class KilledError(Exception):
    """Stands for a kill in the midst of the drawing."""


def draw(
    base: BaseModel, folder: Path, prior: PriorConfig = PRIOR, on_drawn: Callable[[int, int], None] = lambda *_: None
) -> tuple[CaptionedPhoto, ...]:
    return draw_class_images(prior, base, resolution=RESOLUTION, folder=folder, on_drawn=on_drawn)


def contents(folder: Path) -> dict[str, bytes]:
    (images,) = folder.iterdir()
    return {path.name: path.read_bytes() for path in images.iterdir()}


@pytest.fixture
def drawn_batches(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Images in each batch that the autoencoder decodes from now on."""
    sizes: list[int] = []
    decode = base.vae.decode

    def watched(latents: torch.Tensor, *arguments: object, **keywords: object) -> object:
        sizes.append(len(latents))
        return decode(latents, *arguments, **keywords)

    monkeypatch.setattr(base.vae, "decode", watched)
    return sizes


def test_each_seed_gives_what_the_base_models_pipeline_gives(base: BaseModel, tmp_path: Path) -> None:
    photos = draw(base, tmp_path)
    assert {photo.caption for photo in photos} == {"a photo of a man"}
    assert [photo.path.name for photo in photos] == [f"{seed:05}.png" for seed in range(5)]
    assert len({photo.sha256 for photo in photos}) == 5
    assert set(contents(tmp_path)) == {*(photo.path.name for photo in photos), ".locks"}
    pipeline = base.pipeline()
    pipeline.set_progress_bar_config(disable=True)
    for seed in (0, 4):
        alone = pipeline(
            "a photo of a man",
            generator=torch.Generator().manual_seed(seed),
            height=RESOLUTION,
            width=RESOLUTION,
            num_inference_steps=2,
            guidance_scale=3.0,
        ).images[0]
        found = np.asarray(Image.open(photos[seed].path), dtype=int)
        assert np.abs(found - np.asarray(alone, dtype=int)).max() <= 1, "a pixel may be rounded the other way"


def test_they_are_made_once_and_more_are_added(base: BaseModel, tmp_path: Path, drawn_batches: list[int]) -> None:
    first = draw(base, tmp_path)
    assert drawn_batches == [2, 2, 1]
    assert draw(base, tmp_path) == first
    assert drawn_batches == [2, 2, 1]
    more = draw(base, tmp_path, replace(PRIOR, images=6))
    assert more[:5] == first
    assert drawn_batches == [2, 2, 1, 2]


@pytest.mark.parametrize("change", [{"prompt": "a woman"}, {"steps": 3}, {"guidance_scale": 1.0}])
def test_what_else_is_asked_for_gets_a_folder_of_its_own(
    base: BaseModel, tmp_path: Path, change: dict[str, object]
) -> None:
    one = replace(PRIOR, images=1)
    draw(base, tmp_path, one)
    draw(base, tmp_path, replace(one, **change))  # type: ignore[arg-type]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_killed_drawing_goes_on_with_what_is_there(base: BaseModel, tmp_path: Path, drawn_batches: list[int]) -> None:
    draw(base, tmp_path / "whole")
    told: list[tuple[int, int]] = []

    def kill(done: int, count: int) -> None:
        told.append((done, count))
        if done == 4:
            raise KilledError

    with pytest.raises(KilledError):
        draw(base, tmp_path / "killed", on_drawn=kill)
    assert told == [(2, 5), (4, 5)]
    (images,) = (tmp_path / "killed").iterdir()
    (images / "00002.png").unlink()  # as if it had come between the two of a batch
    del drawn_batches[:]
    draw(base, tmp_path / "killed")
    assert drawn_batches == [2, 1]
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


@pytest.mark.parametrize("damage", ["cut short", "one bit", "another picture", "another size", "empty"])
def test_a_damaged_image_is_noticed_and_drawn_again(
    base: BaseModel, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    photos = draw(base, tmp_path)
    whole = contents(tmp_path)
    path = photos[1].path
    content = path.read_bytes()
    data = content.index(b"IDAT") + 40
    broken = {
        "cut short": content[: len(content) // 2],
        "one bit": content[:data] + bytes([content[data] ^ 1]) + content[data + 1 :],
        "empty": b"",
    }
    if damage in broken:
        path.write_bytes(broken[damage])
    else:
        size = RESOLUTION if damage == "another picture" else RESOLUTION + 8
        Image.new("RGB", (size, size)).save(path)
    with caplog.at_level(logging.WARNING):
        assert draw(base, tmp_path) == photos
    assert [record.getMessage() for record in caplog.records] == [
        f"The class image {path} is damaged; it is drawn again."
    ]
    assert contents(tmp_path) == whole


def test_what_another_process_draws_is_waited_for(base: BaseModel, tmp_path: Path) -> None:
    """It holds the first two seeds, is gone when the others are there, and has drawn nothing."""
    expected = draw(base, tmp_path)
    for photo in expected:
        photo.path.unlink()
    locks = expected[0].path.parent / ".locks"
    told: list[int] = []
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_FIRST_TWO_SEEDS, str(locks)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"

        def leave(done: int, count: int) -> None:
            told.append(done)
            if done == 3:
                other.communicate()

        assert draw(base, tmp_path, on_drawn=leave) == expected
    assert told == [0, 2, 3, 5]


def test_a_prompt_that_is_too_long_is_refused_before_anything_is_drawn(
    base: BaseModel, tmp_path: Path, drawn_batches: list[int]
) -> None:
    length = base.tokenizer.model_max_length
    with pytest.raises(ValueError, match=rf"which has {length + 1} tokens, .* text encoder reads {length}: shorten it"):
        draw(base, tmp_path, PriorConfig(prompt="man " * (length - 1)))
    assert drawn_batches == []
    assert list(tmp_path.iterdir()) == []


def test_the_guidance_is_the_family_s_where_none_is_given(base: BaseModel, tmp_path: Path) -> None:
    """7.5 of all but Flux, whose transformer reads it as an input and for which 3.5 is usual."""
    assert PriorConfig(prompt="a man").guidance_scale is None
    assert (base.usual_guidance, Flux.usual_guidance, StableDiffusion3.usual_guidance) == (7.5, 3.5, 7.5)
    draw(base, tmp_path, replace(PRIOR, images=1, guidance_scale=None))
    draw(base, tmp_path, replace(PRIOR, images=1, guidance_scale=7.5))
    assert len(list(tmp_path.iterdir())) == 1


def test_where_memory_runs_out_batches_are_halved_from_there_on(
    base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn_batches: list[int]
) -> None:
    """Four at a time do not fit: the first batch is drawn in halves, and so is the second."""
    whole = draw(base, tmp_path / "whole", replace(PRIOR, images=8, batch_size=4))
    assert drawn_batches == [4, 4]
    drawn_batches.clear()
    decode = base.vae.decode

    def limited(latents: torch.Tensor, *arguments: object, **keywords: object) -> object:
        if len(latents) > 2:
            raise RuntimeError("CUDA error: out of memory")
        return decode(latents, *arguments, **keywords)

    monkeypatch.setattr(base.vae, "decode", limited)
    halved = draw(base, tmp_path / "halved", replace(PRIOR, images=8, batch_size=4))
    assert drawn_batches == [2, 2, 2, 2]
    assert [photo.path.name for photo in halved] == [photo.path.name for photo in whole]
    for expected, found in zip(whole, halved, strict=True):
        levels = [np.asarray(Image.open(photo.path), dtype=int) for photo in (expected, found)]
        assert np.abs(levels[0] - levels[1]).max() <= 1, "a pixel may be rounded the other way"


def test_a_single_class_image_that_does_not_fit_names_the_remedies(
    base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **keywords: object) -> object:
        raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")

    monkeypatch.setattr(base.vae, "decode", full)
    with pytest.raises(
        OutOfMemory, match=r"a single class image at a time \(cuDNN.*training\.resolution \(.*photos\.prior\.folder"
    ):
        draw(base, tmp_path)
