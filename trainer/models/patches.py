"""The squares of pixels that a transformer sees, and pictures that are not made of whole ones. Imports no torch."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

PATCHED = {"StableDiffusion3Pipeline": "Stable Diffusion 3", "FluxPipeline": "Flux"}
"""Title of each family with a transformer, by the name of its pipeline's class."""


def patch_of_latents(vae_config: Mapping[str, Any]) -> int:
    """Side in pixels of 2 x 2 latents, which are a patch."""
    return int(2 ** len(vae_config["block_out_channels"]))


def check_model_sizes(model: str, sizes: Iterable[tuple[int, int]]) -> None:
    """`check_sizes` for a base model that is not loaded, where it is a folder whose files say what it needs.

    Any other is checked when it is loaded.

    Args:
        model: folder, file or hub name.
        sizes: (width, height) in pixels.
    """
    try:
        family = json.loads((Path(model) / "model_index.json").read_text("utf-8"))["_class_name"]
        patch = patch_of_latents(json.loads((Path(model) / "vae" / "config.json").read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return
    if family in PATCHED:
        check_sizes(sizes, patch, PATCHED[family])


def check_sizes(sizes: Iterable[tuple[int, int]], patch: int, title: str) -> None:
    """Raises ValueError if the sides of a picture are no multiples of the patch.

    Args:
        sizes: (width, height) in pixels.
        patch: side in pixels.
        title: of the family.
    """
    for width, height in sizes:
        if width % patch or height % patch:
            raise ValueError(
                f"photos are cut to {width} x {height} pixels, but {title} sees patches of {patch} x {patch} pixels; "
                f"make training.resolution, and photos.buckets.step if there are buckets, a multiple of {patch}"
            )
