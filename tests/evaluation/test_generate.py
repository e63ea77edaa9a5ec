"""Generated images: what the pipeline itself makes, whatever the batch."""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from numpy.typing import NDArray
from peft import LoraConfig
from PIL import Image

from evaluation.config import GenerationConfig
from evaluation.generate import generate_images, noise_generator

CONFIG = GenerationConfig(steps=4, guidance_scale=3.0, resolution=64, batch_size=3)
PROMPTS = ("a smiling man, blue background", "an angry woman, gray background", "a man", "a woman", "a man")
SEEDS = (11, 12, 13, 14, 15)


def pixels(images: list[Image.Image]) -> NDArray[np.int64]:
    return np.stack([np.asarray(image, dtype=np.int64) for image in images])


def test_one_rgb_image_of_the_asked_size_for_each_pair(pipeline: Any) -> None:
    images = generate_images(pipeline, PROMPTS, SEEDS, CONFIG)
    assert [(image.mode, image.size) for image in images] == [("RGB", (64, 64))] * 5


def test_batch_size_does_not_change_the_images(pipeline: Any) -> None:
    alone, by_two, together = (
        pixels(generate_images(pipeline, PROMPTS, SEEDS, replace(CONFIG, batch_size=size))) for size in (1, 2, 5)
    )
    assert np.abs(alone - by_two).max() <= 1
    assert np.abs(alone - together).max() <= 1


def test_shared_noise_is_drawn_from_one_generator_batch_after_batch(pipeline: Any) -> None:
    config = replace(CONFIG, batch_size=2, shared_noise=True)
    prompts = ["a man"] * 3
    shared = pixels(generate_images(pipeline, prompts, [7] * 3, config))
    pipeline.set_progress_bar_config(disable=True)
    scheduler_class: Any = DPMSolverMultistepScheduler
    pipeline.scheduler = scheduler_class.from_config(pipeline.scheduler.config)
    generator = torch.Generator().manual_seed(7)
    expected: list[Image.Image] = []
    for count in (2, 1):
        made = pipeline(
            ["a man"] * count, generator=generator, num_inference_steps=4, guidance_scale=3.0, height=64, width=64
        )
        expected.extend(made.images)
    assert np.abs(shared - pixels(expected)).max() <= 1
    assert np.abs(shared[0] - shared[1]).mean() > 5, "one seed, but not one image"
    with pytest.raises(ValueError, match="takes one seed"):
        generate_images(pipeline, prompts, [7, 8, 7], config)


def test_seed_and_prompt_both_change_the_image(pipeline: Any) -> None:
    first, again, seed, prompt = pixels(
        generate_images(
            pipeline,
            ["a man, blue background"] * 3 + ["a woman, green background"],
            [1, 1, 2, 1],
            replace(CONFIG, batch_size=2),
        )
    )
    assert np.abs(first - again).max() <= 1
    assert np.abs(first - seed).mean() > 5
    assert np.abs(first - prompt).mean() > 5


@pytest.mark.parametrize(
    ("name", "scheduler_class"),
    [("as-is", None), ("ddim", DDIMScheduler), ("dpmsolver++", DPMSolverMultistepScheduler)],
)
def test_an_image_is_what_the_pipeline_itself_makes(pipeline: Any, name: Any, scheduler_class: Any) -> None:
    config = replace(CONFIG, scheduler=name, negative_prompt="blurry")
    (image,) = generate_images(pipeline, PROMPTS[:1], [5], config)
    if scheduler_class is not None:
        pipeline.scheduler = scheduler_class.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        PROMPTS[0],
        negative_prompt="blurry",
        generator=noise_generator(PROMPTS[0], 5),
        num_inference_steps=4,
        guidance_scale=3.0,
        height=64,
        width=64,
    ).images
    np.testing.assert_array_equal(pixels([image]), pixels(expected))


def test_ddim_does_not_clip_latents_when_the_model_came_with_another_scheduler(
    pipeline: Any,
) -> None:
    config = replace(CONFIG, scheduler="ddim")
    expected = pixels(generate_images(pipeline, PROMPTS[:1], [5], config))
    stated = {key: value for key, value in pipeline.scheduler.config.items() if key != "clip_sample"}
    other: Any = DPMSolverMultistepScheduler
    pipeline.scheduler = other.from_config(stated)
    assert "clip_sample" not in pipeline.scheduler.config
    with warnings.catch_warnings():
        # diffusers' pipeline repairs a clipping scheduler, with a FutureWarning; none must be needed.
        warnings.simplefilter("error", FutureWarning)
        images = generate_images(pipeline, PROMPTS[:1], [5], config)
    np.testing.assert_array_equal(pixels(images), expected)


def test_the_pipeline_is_left_as_it_was(pipeline: Any) -> None:
    pipeline.unet.train()
    pipeline.text_encoder.eval()
    pipeline.unet.down_blocks[0].eval()
    pipeline.set_progress_bar_config(desc="mine")
    scheduler = pipeline.scheduler
    scheduler_state = {key: str(value) for key, value in vars(scheduler).items()}
    modes = {name: module.training for name, module in pipeline.unet.named_modules()}
    weights = {name: value.clone() for name, value in pipeline.unet.state_dict().items()}

    generate_images(pipeline, PROMPTS[:1], SEEDS[:1], replace(CONFIG, scheduler="dpmsolver++"))

    assert pipeline.scheduler is scheduler
    assert {key: str(value) for key, value in vars(scheduler).items()} == scheduler_state
    assert pipeline._progress_bar_config == {"desc": "mine"}
    assert {name: module.training for name, module in pipeline.unet.named_modules()} == modes
    assert not pipeline.text_encoder.training
    assert all(torch.equal(value, weights[name]) for name, value in pipeline.unet.state_dict().items())


def test_an_adapter_shows_and_can_be_trained_on_afterwards(pipeline: Any) -> None:
    base = pixels(generate_images(pipeline, PROMPTS[:1], SEEDS[:1], CONFIG))
    unet = pipeline.unet
    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=4, lora_alpha=8, lora_dropout=0.5, target_modules=["to_q", "to_k", "to_v"]))
    unet.train()
    trained = {name: value for name, value in unet.named_parameters() if value.requires_grad}
    # LoRA's B starts at 0, where the adapter changes nothing.
    np.testing.assert_array_equal(pixels(generate_images(pipeline, PROMPTS[:1], SEEDS[:1], CONFIG)), base)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in trained.values():
            value.add_(torch.randn(value.shape, generator=generator) * 0.3)
    adapted = pixels(generate_images(pipeline, PROMPTS[:1], SEEDS[:1], CONFIG))
    assert np.abs(adapted - base).mean() > 1
    # Dropout was off: the same again.
    np.testing.assert_array_equal(pixels(generate_images(pipeline, PROMPTS[:1], SEEDS[:1], CONFIG)), adapted)
    latents, text = torch.ones(1, 4, 16, 16), torch.ones(1, 8, unet.config.cross_attention_dim)
    unet(latents, torch.tensor(10), text).sample.square().mean().backward()
    assert all(value.grad is not None and bool(value.grad.isfinite().all()) for value in trained.values())


def test_a_diverged_model_gives_black_images(pipeline: Any) -> None:
    with torch.no_grad():
        next(pipeline.unet.parameters()).fill_(float("nan"))
    assert not pixels(generate_images(pipeline, PROMPTS[:2], SEEDS[:2], CONFIG)).any()


def test_seeds_and_prompts_must_match(pipeline: Any) -> None:
    with pytest.raises(ValueError, match="2 prompts and 1 seeds"):
        generate_images(pipeline, ["a", "b"], [1], CONFIG)
    assert generate_images(pipeline, [], [], CONFIG) == []
