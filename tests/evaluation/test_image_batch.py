"""Images when memory runs out, and how many fit into a budget."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation.config import GenerationConfig
from evaluation.generate import CudaMemory, ImageBatch, generate_images

CONFIG = GenerationConfig(steps=3, guidance_scale=3.0, resolution=64, batch_size=5)
PROMPTS = ("a smiling man, blue background", "an angry woman, gray background", "a man", "a woman", "a man")
SEEDS = (11, 12, 13, 14, 15)
MESSAGE = "CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has a total capacity of 1.00 GiB"


def pixels(images: list[Image.Image]) -> Any:
    return np.stack([np.asarray(image, dtype=np.int64) for image in images])


class Allocator:
    """Plays a device: `resting` bytes are held, b images take `of(b)` more, and above `total` there are none."""

    def __init__(self, of: Callable[[int], int], *, resting: int = 100, total: int = 10**9, available: int = 0) -> None:
        self.sizes: list[int] = []
        self._available = available
        self._of, self._resting, self._total, self._peak = of, resting, total, 0

    def begin(self) -> int:
        self._peak = self._resting
        return self._resting

    def peak(self) -> int:
        return self._peak

    def available(self) -> int:
        return self._available

    def draw(self, start: int, stop: int) -> list[int]:
        self.sizes.append(stop - start)
        self._peak = self._resting + self._of(stop - start)
        if self._peak > self._total:
            raise torch.OutOfMemoryError(MESSAGE)
        return list(range(start, stop))


def test_without_shortage_or_budget_it_is_as_configured() -> None:
    allocator = Allocator(lambda images: images)
    assert ImageBatch(4).make(10, allocator.draw) == list(range(10))
    assert allocator.sizes == [4, 4, 2]


def test_a_shortage_halves_for_good() -> None:
    """150 bytes of room, 40 an image: eight and four are too many, and so they stay."""
    allocator = Allocator(lambda images: 40 * images, total=250)
    batch = ImageBatch(8)
    assert batch.make(7, allocator.draw) == list(range(7))
    assert allocator.sizes == [7, 4, 2, 2, 2, 1]
    assert batch.remarks == [
        "out of memory with 7 images at once: from there on 4 at a time",
        "out of memory with 4 images at once: from there on 2 at a time",
    ]
    allocator.sizes.clear()
    assert batch.make(3, allocator.draw) == [0, 1, 2]
    assert allocator.sizes == [2, 1]


def test_not_even_one_image_is_an_error_with_remedies() -> None:
    with pytest.raises(ValueError, match="a single image") as caught:
        ImageBatch(2).make(2, Allocator(lambda images: images, total=0).draw)
    assert str(caught.value) == (
        "out of memory with a single image at a time (CUDA out of memory. Tried to allocate 2.00 GiB.); lower "
        "evaluation.generation.resolution, or let fewer seats share a GPU (seats.count, seats.gpus_per_worker)"
    )


def test_other_errors_go_through() -> None:
    def fail(start: int, stop: int) -> list[int]:
        raise RuntimeError("device-side assert triggered")

    with pytest.raises(RuntimeError, match="device-side"):
        ImageBatch(2).make(2, fail)


def test_a_budget_is_approached_from_below_and_never_exceeded() -> None:
    """100 held, a budget of 420: one image takes 80, so 4 are sure to fit; 4 take 140, so 9 are; 9 take 240, so 12 are;
    12 take 300, which leaves no room for a thirteenth that is sure."""
    allocator = Allocator(lambda images: 60 + 20 * images, resting=100)
    batch = ImageBatch(16, allocator)
    batch.stay_within(420)
    batch.make(1 + 4 + 9 + 12 + 12 + 5, allocator.draw)
    assert allocator.sizes == [1, 4, 9, 12, 12, 5]
    batch.make(13, allocator.draw)
    assert allocator.sizes[-2:] == [12, 1], "what is learnt holds for the rest of the job"
    assert batch.remarks == []


def test_no_more_than_configured_and_no_more_than_half_of_what_failed() -> None:
    allocator = Allocator(lambda images: images)
    batch = ImageBatch(6, allocator)
    batch.stay_within(10**6)
    batch.make(20, allocator.draw)
    assert allocator.sizes == [1, 6, 6, 6, 1]
    short = Allocator(lambda images: images, total=104)
    batch = ImageBatch(6, short)
    batch.stay_within(10**6)
    batch.make(10, short.draw)
    assert short.sizes == [1, 6, 3, 3, 3]


def test_where_one_image_takes_more_than_the_budget_it_is_one_at_a_time() -> None:
    allocator = Allocator(lambda images: 500 * images)
    batch = ImageBatch(6, allocator)
    for budget in (200, 50):
        batch.stay_within(budget)
        batch.make(2, allocator.draw)
    assert allocator.sizes == [1] * 4


def test_a_batch_that_took_more_than_it_should_makes_way() -> None:
    """An algorithm that is chosen from four images on and wants 1,000 bytes breaks the rule of proportion, once."""
    allocator = Allocator(lambda images: 10 * images + (1000 if images > 3 else 0))
    batch = ImageBatch(8, allocator)
    batch.stay_within(160)
    batch.make(1 + 6 + 1, allocator.draw)
    assert allocator.sizes == [1, 6, 1]


def test_cuda_s_count_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: asked.append(f"reset {device}"))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 7)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 9)
    memory = CudaMemory(torch.device("cuda", 1))
    assert (memory.begin(), memory.peak()) == (7, 9)
    assert asked == ["reset cuda:1"]


@pytest.mark.parametrize("shared", [False, True])
def test_images_are_the_same_when_memory_ran_out_while_they_were_made(pipeline: Any, shared: bool) -> None:
    """Also where all draw from one generator: it is put back before a batch is made again."""
    config = replace(CONFIG, shared_noise=shared)
    seeds = [7] * 5 if shared else SEEDS
    expected = pixels(generate_images(pipeline, PROMPTS, seeds, replace(config, batch_size=2)))
    rows: list[int] = []

    def check(module: Any, arguments: Any) -> None:
        rows.append(len(arguments[0]))
        if len(rows) > 1 and rows[-1] > 2 * 2:  # guidance doubles them
            raise torch.OutOfMemoryError(MESSAGE)

    batch = ImageBatch(config.batch_size)
    hook = pipeline.unet.register_forward_pre_hook(check)
    try:
        images = generate_images(pipeline, PROMPTS, seeds, config, batch)
    finally:
        hook.remove()
    assert (batch.size, len(batch.remarks)) == (2, 2)
    assert rows[:3] == [10, 10, 6], "in the second denoising step of five images, then in the first of three"
    np.testing.assert_array_equal(pixels(images), expected)


def test_latents_are_decoded_one_by_one_and_the_vae_is_left_as_it_was(pipeline: Any) -> None:
    decoded: list[int] = []
    hook = pipeline.vae.decoder.register_forward_pre_hook(lambda module, inputs: decoded.append(len(inputs[0])))
    try:
        generate_images(pipeline, PROMPTS, SEEDS, CONFIG)
    finally:
        hook.remove()
    assert decoded == [1] * 5
    assert not pipeline.vae.use_slicing


def test_on_a_device_of_ones_own_what_is_free_is_used() -> None:
    """A training that was frugal (160 bytes) does not hold the images back where 420 are to be had."""
    allocator = Allocator(lambda images: 40 * images, available=420)
    batch = ImageBatch(32, allocator)
    batch.stay_within(160)
    assert batch.make(20, allocator.draw) == list(range(20))
    assert allocator.sizes == [1, 8, 8, 3]


def test_what_cuda_has_left_is_counted_on_a_device_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's answers, played: of 1000 bytes 500 are free, 300 reserved and 200 of these held."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (500, 1000))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 200)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 300)
    assert CudaMemory(torch.device("cuda"), own=True).available() == 200 + 0.8 * (500 + 100)
    assert CudaMemory(torch.device("cuda")).available() == 0
