"""The committed models: they load as the libraries document it, they are small, and they belong together."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from demo.kit.autoencoder import to_pictures
from demo.kit.captions import STUDIO_COLOURS
from demo.kit.clip_model import tokenize

DEMO = Path(__file__).parents[2] / "demo"
STUDIO_PHOTOS = sorted(
    file.with_suffix(".png") for file in (DEMO / "photos").glob("*.txt") if "gray background" in file.read_text()
)


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        return StableDiffusionPipeline.from_pretrained(DEMO / "base", use_safetensors=True, local_files_only=True)


@pytest.fixture(scope="module")
def clip() -> CLIPModel:
    torch.set_num_threads(1)
    clip: CLIPModel = CLIPModel.from_pretrained(DEMO / "clip", use_safetensors=True, local_files_only=True)
    clip.eval()  # type: ignore[no-untyped-call]
    return clip


def pixels_of(files: list[Path]) -> torch.Tensor:
    photos = [Image.open(file).convert("RGB").resize((64, 64), Image.Resampling.LANCZOS) for file in files]
    return to_pictures(np.stack([np.asarray(photo) for photo in photos]))


def test_the_kit_holds_exactly_these_files() -> None:
    assert {str(file.relative_to(DEMO)) for part in ("base", "clip") for file in (DEMO / part).rglob("*.*")} == {
        "base/model_index.json",
        "base/scheduler/scheduler_config.json",
        "base/text_encoder/config.json",
        "base/text_encoder/model.safetensors",
        "base/tokenizer/tokenizer.json",
        "base/tokenizer/tokenizer_config.json",
        "base/unet/config.json",
        "base/unet/diffusion_pytorch_model.safetensors",
        "base/vae/config.json",
        "base/vae/diffusion_pytorch_model.safetensors",
        "clip/config.json",
        "clip/model.safetensors",
        "clip/preprocessor_config.json",
        "clip/tokenizer.json",
        "clip/tokenizer_config.json",
    }


def test_base_and_clip_together_are_below_30_megabytes() -> None:
    files = [file for part in ("base", "clip") for file in (DEMO / part).rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 30_000_000


def test_every_part_loads_in_single_precision(pipeline: StableDiffusionPipeline, clip: CLIPModel) -> None:
    for module in (pipeline.unet, pipeline.vae, pipeline.text_encoder, clip):
        assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
        assert all(bool(parameter.isfinite().all()) for parameter in module.parameters())


def test_parts_fit_each_other(pipeline: StableDiffusionPipeline) -> None:
    assert pipeline.unet.config["sample_size"] == 16
    assert pipeline.unet.config["cross_attention_dim"] == pipeline.text_encoder.config.hidden_size
    assert len(pipeline.tokenizer) == pipeline.text_encoder.config.vocab_size
    assert pipeline.tokenizer.model_max_length == pipeline.text_encoder.config.max_position_embeddings == 24


def test_base_and_clip_share_one_tokenizer(pipeline: StableDiffusionPipeline) -> None:
    other = CLIPTokenizer.from_pretrained(DEMO / "clip", local_files_only=True)
    assert other.get_vocab() == pipeline.tokenizer.get_vocab()
    assert (
        other("a photo of sks man, happy")["input_ids"] == pipeline.tokenizer("a photo of sks man, happy")["input_ids"]
    )


def test_scaled_latents_of_an_unseen_person_have_about_unit_variance(pipeline: StableDiffusionPipeline) -> None:
    with torch.no_grad():
        latents = pipeline.vae.encode(pixels_of(STUDIO_PHOTOS)).latent_dist.sample(torch.Generator().manual_seed(0))
    assert 0.7 < float((latents * pipeline.vae.config["scaling_factor"]).std()) < 1.3


def test_the_autoencoder_keeps_the_picture(pipeline: StableDiffusionPipeline) -> None:
    pixels = pixels_of(STUDIO_PHOTOS)
    with torch.no_grad():
        output = pipeline.vae.decode(pipeline.vae.encode(pixels).latent_dist.mode()).sample
    error = float(((output - pixels) / 2).square().mean())
    assert -10 * np.log10(error) > 27  # dB; the card states the exact figure


def test_the_image_processor_gives_64_pixels_between_minus_one_and_one() -> None:
    processor = CLIPImageProcessorPil.from_pretrained(DEMO / "clip", local_files_only=True)
    photo = Image.open(STUDIO_PHOTOS[0]).convert("RGB").resize((64, 64))
    given = torch.as_tensor(processor(photo, return_tensors="pt")["pixel_values"])
    torch.testing.assert_close(given, to_pictures(np.array(photo)[None]), atol=1e-5, rtol=0)


def test_clip_tells_the_background_of_an_unseen_person(clip: CLIPModel) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(DEMO / "clip", local_files_only=True)
    captions = [f"a photo of man, {colour} background" for colour in STUDIO_COLOURS]
    with torch.no_grad():
        output = clip(input_ids=tokenize(tokenizer, captions), pixel_values=pixels_of(STUDIO_PHOTOS))
    cosines = output.image_embeds @ output.text_embeds.T
    colours = cosines.argmax(dim=1)
    assert float((colours == STUDIO_COLOURS.index("gray")).float().mean()) > 0.8


def test_the_card_quotes_the_measured_figures() -> None:
    card = (DEMO / "README.md").read_text(encoding="utf-8")
    metrics = json.loads((DEMO / "metrics.json").read_text(encoding="utf-8"))
    for name in ("vae_psnr", "vae_distance", "real_distance", "base_distance", "clip_background_accuracy"):
        assert f"{metrics[name]:.3g}" in card, name
