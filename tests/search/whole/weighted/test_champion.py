"""The champion of a whole search: every way to load it gives the same image."""

from typing import Any

import mlflow
import mlflow.diffusers
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from tests.support.short_search import DEMO, SearchRun


@pytest.fixture(scope="module")
def images(run: SearchRun) -> dict[str, np.ndarray[Any, Any]]:
    """The same prompt and seed, through each way in which a user may load the champion."""
    champion = run.folder / "champion"
    mlflow.set_tracking_uri(run.result["mlflow"]["tracking_uri"])

    def pipeline() -> StableDiffusionPipeline:
        return StableDiffusionPipeline.from_pretrained(DEMO / "base", use_safetensors=True)

    pipelines = {"base": pipeline(), "diffusers": pipeline(), "kohya": pipeline()}
    pipelines["diffusers"].load_lora_weights(champion)
    pipelines["kohya"].load_lora_weights(champion, weight_name="anna.safetensors")
    model = mlflow.diffusers.load_model("models:/anna@champion")
    pipelines["mlflow"] = model.load_pipeline()
    drawn = {}
    for name, loaded in pipelines.items():
        loaded.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(7)
        result = loaded("a photo of sks man, happy", num_inference_steps=8, generator=generator, output_type="np")
        drawn[name] = result.images[0]
    return drawn


@pytest.mark.parametrize("other", ["mlflow", "kohya"])
def test_every_way_to_load_the_champion_gives_the_same_image(
    other: str, images: dict[str, np.ndarray[Any, Any]]
) -> None:
    difference = float(np.abs(images["diffusers"] - images[other]).max())
    effect = float(np.abs(images["diffusers"] - images["base"]).max())
    print(f"{other}: largest pixel difference {difference:.2e}; the adapter's own effect {effect:.2f} (pixels 0 ... 1)")
    assert effect > 0.02, "the adapter must change the image, or the comparison proves nothing"
    assert difference < 1e-3
