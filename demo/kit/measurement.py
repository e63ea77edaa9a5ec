"""What the model card states: measured on the two people whom no model of the kit has seen, with the real face model.

Legend: n = pictures; distances are Euclidean between unit embeddings of DeepFace's Dlib model, in [0, 2].
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer

from demo.kit.captions import PLACES, STUDIO_COLOURS, Attributes, caption
from demo.kit.clip_model import accuracy
from demo.kit.crops import face_crops
from demo.kit.dataset import as_source, vary
from demo.kit.people import EXPRESSIONS, SPARE, SUBJECT
from evaluation.clip_score import ClipScorer
from evaluation.config import FaceConfig, GenerationConfig, PromptSet
from evaluation.evaluate import Evaluator
from evaluation.faces import FaceModel, distances, mean_pairwise_distance
from evaluation.grid import image_grid
from evaluation.measures import CLIP_SCORE, FACE_DISTANCE
from evaluation.person import measure_person
from trainer.models.loading import load_base_model

TRIGGER = "sks"
"""The demo's trigger word."""

SEEDS = (1, 2)
"""First noises of the card's images: every validation prompt with each of them."""

GENERATION = GenerationConfig(steps=18, guidance_scale=3.0, resolution=64, batch_size=12)
"""How the kit makes images: small models need little guidance."""

FACES = FaceConfig(recognizer="Dlib", detector="dlib")
"""The face model that works offline."""


def read_prompts(file: Path) -> tuple[str, ...]:
    """One prompt a line, empty lines left out."""
    return tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())


def read_photos(folder: Path, pixels: int = 64) -> list[Image.Image]:
    """The PNG photos of a folder by name, RGB, at `pixels` a side."""
    photos = [Image.open(file).convert("RGB") for file in sorted(folder.glob("*.png"))]
    return [photo.resize((pixels, pixels), Image.Resampling.LANCZOS) for photo in photos]


def _embed(model: FaceModel, images: Sequence[Image.Image]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Embeddings of the images with a face, and which ones those are."""
    faces = model.embed(images)
    found = np.array([face is not None for face in faces])
    return np.stack([face.embedding for face in faces if face is not None]), found


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, photos: Sequence[Image.Image]) -> tuple[list[Image.Image], float]:
    """The photos through encoder and decoder, and the mean peak signal-to-noise ratio in dB."""
    pixels = torch.from_numpy(np.stack([np.asarray(photo) for photo in photos])).permute(0, 3, 1, 2).float() / 127.5 - 1
    output = vae.decode(vae.encode(pixels).latent_dist.mode()).sample.clamp(-1, 1)
    error = ((output - pixels) / 2).square().mean(dim=(1, 2, 3))
    images = ((output + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(image) for image in images], float((-10 * error.log10()).mean())


def measure_autoencoder(vae: AutoencoderKL, photos: Sequence[Image.Image], model: FaceModel) -> dict[str, float]:
    """How much likeness the VAE alone costs, on photos of one unseen person."""
    reconstructed, psnr = reconstruct(vae, photos)
    real, _ = _embed(model, photos)
    through, found = _embed(model, reconstructed)
    between = distances(through, real)
    own = np.zeros_like(between, dtype=bool)
    own[np.arange(len(between)), np.flatnonzero(found)] = True
    return {
        "vae_psnr": psnr,
        "real_distance": mean_pairwise_distance(real),
        "vae_distance": float(between[~own].mean()),
        "vae_distance_to_itself": float(between[own].mean()),
        "vae_faceless": float((~found).sum()),
    }


def measure_clip(clip: CLIPModel, tokenizer: CLIPTokenizer, *, pictures: int = 600, seed: int = 0) -> dict[str, float]:
    """Share of varied pictures of both unseen people where CLIP picks the true word among all words of its kind."""
    random = np.random.default_rng(seed)
    sources = [as_source(crop) for person in (SUBJECT, SPARE) for crop in face_crops(person)]
    varied = [vary(sources[index], random) for index in random.integers(len(sources), size=pictures)]
    images = np.stack([image for image, _ in varied])
    known = [attributes for _, attributes in varied]
    return {
        "clip_expression_accuracy": accuracy(
            *(clip, tokenizer, images, [one.expression for one in known]),
            {word: caption(Attributes(sex="person", expression=word), determiner="a") for word in EXPRESSIONS},
        ),
        "clip_background_accuracy": accuracy(
            *(clip, tokenizer, images, [one.background for one in known]),
            {word: caption(Attributes(background=word), determiner="a") for word in (*STUDIO_COLOURS, *PLACES)},
        ),
    }


def measure_kit(kit: Path) -> tuple[dict[str, float], Image.Image]:
    """Every figure of the card, and the base model's images on the validation prompts as a grid."""
    base = load_base_model(kit / "base", device="cpu")
    model = FaceModel(FACES)
    photos = read_photos(kit / "photos")
    prompts = PromptSet(prompts=read_prompts(kit / "prompts" / "validation.txt"), seeds=SEEDS)
    evaluator = Evaluator(prompts, TRIGGER, GENERATION, model, ClipScorer(str(kit / "clip"), "cpu"))
    named = {str(number): photo for number, photo in enumerate(photos)}
    baseline = evaluator.measure_anchors(base.pipeline(), measure_person(model, reference=named, training=named))
    clip = CLIPModel.from_pretrained(kit / "clip", use_safetensors=True)
    clip.eval()  # type: ignore[no-untyped-call]
    figures = {
        **measure_autoencoder(base.vae, photos, model),
        **measure_clip(clip, CLIPTokenizer.from_pretrained(kit / "clip")),
        "base_distance": baseline.anchors.untuned[FACE_DISTANCE],
        "base_clip_score": baseline.anchors.untuned[CLIP_SCORE],
        "base_faceless": float(sum(not row.face_found for row in baseline.person.rows)),
        "base_images": float(len(baseline.person.rows)),
    }
    return figures, image_grid(baseline.person.images, len(SEEDS) * 6)


def write_card(kit: Path) -> None:
    """Writes `metrics.json` and `samples.png` of the kit."""
    figures, grid = measure_kit(kit)
    (kit / "metrics.json").write_text(
        json.dumps({name: round(value, 4) for name, value in figures.items()}, indent=2) + "\n"
    )
    grid.save(kit / "samples.png", optimize=True)
