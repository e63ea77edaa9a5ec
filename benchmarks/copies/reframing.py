"""Planted copies: a photo zoomed, moved, recompressed, mirrored, blurred, lit otherwise, or through an autoencoder."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.random import Generator
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from demo.kit.autoencoder import to_pictures

VAE = Path(__file__).parents[2] / "demo" / "base" / "vae"


def reframe(photo: Image.Image, zoom: float, right: float, down: float) -> Image.Image:
    """The photo enlarged about its middle and moved by shares of its side; beyond its edge, its edge goes on."""
    width, height = photo.size
    padding = width // 4
    pixels = np.pad(np.asarray(photo.convert("RGB")), ((padding, padding), (padding, padding), (0, 0)), mode="edge")
    left = padding + width * (0.5 - 0.5 / zoom - right)
    top = padding + height * (0.5 - 0.5 / zoom - down)
    box = (left, top, left + width / zoom, top + height / zoom)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC, box=box)


def recompress(photo: Image.Image, quality: int) -> Image.Image:
    """The photo as a JPEG of this quality, 1 to 95."""
    file = io.BytesIO()
    photo.convert("RGB").save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def through_autoencoder(photos: Sequence[Image.Image]) -> list[Image.Image]:
    """Photos of 64 px through the demo's VAE and back."""
    vae = _autoencoder()
    with torch.no_grad():
        encoded = vae.encode(to_pictures(np.stack([np.array(photo.convert("RGB")) for photo in photos])))
        decoded = vae.decode(encoded.latent_dist.mode()).sample
    pixels = ((decoded.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(each) for each in pixels]


@cache
def _autoencoder() -> Any:
    return AutoencoderKL.from_pretrained(str(VAE)).eval()


def _moved(photo: Image.Image, random: Generator) -> Image.Image:
    right, down = random.choice((-1, 1), 2) * random.uniform(0.008, 0.05, 2)
    return reframe(photo, 1.0, right, down)


def _all_at_once(photo: Image.Image, random: Generator) -> Image.Image:
    framed = reframe(photo, random.uniform(1.03, 1.12), *random.uniform(-0.03, 0.03, 2))
    return recompress(ImageOps.mirror(framed), 75)


COPIES: Mapping[str, Callable[[Image.Image, Generator], Image.Image]] = MappingProxyType(
    {
        "unchanged": lambda photo, random: photo,
        "zoomed in by 3 to 12 %": lambda photo, random: reframe(photo, random.uniform(1.03, 1.12), 0.0, 0.0),
        "zoomed out by 3 to 12 %": lambda photo, random: reframe(photo, 1.0 / random.uniform(1.03, 1.12), 0.0, 0.0),
        "moved by 0.8 to 5 %": _moved,
        "JPEG of quality 60 to 90": lambda photo, random: recompress(photo, int(random.integers(60, 91))),
        "mirrored": lambda photo, random: ImageOps.mirror(photo),
        "blurred": lambda photo, random: photo.filter(ImageFilter.GaussianBlur(photo.width / 100)),
        "20 % darker or brighter": lambda photo, random: ImageEnhance.Brightness(photo).enhance(
            float(random.choice((0.8, 1.2)))
        ),
        "zoomed, moved, mirrored and JPEG": _all_at_once,
        "through the demo's autoencoder": lambda photo, random: through_autoencoder([photo])[0],
    }
)
"""What a memorising model may make of a training photo, by name."""
