"""What a data set looks like to the model: latents and captions, computed once and shared by every trial.

Legend: photos = number of photos times the forms of each (`trainer.data.views`).
"""

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from trainer.data.framing import framing_of
from trainer.data.photo_input import PhotoInput
from trainer.data.photos import CaptionedPhoto, open_face_mask, open_photo
from trainer.data.picture import Box, Size, width_and_height
from trainer.data.views import Views
from trainer.files import remove_leftovers, write_file
from trainer.models.base_model import BaseModel, Conditioning, Framing

VERSION = "3"
LIBRARIES = ("Pillow", "torch", "diffusers", "transformers", "tokenizers")
"""What latents, token ids and embeddings come from: with another version of one of them they may be others."""
KEPT_SECONDS = 30 * 24 * 3600.0
"""How long a file stays that no job reads."""
PICTURE_TENSORS = ("latent_mean", "latent_std", "face_mask")
"""Tensors of a cache that are no conditioning."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, kw_only=True)
class DataCache:
    """The encoded photos. A latent is drawn afresh each step as mean + std * noise (the VAE's posterior)."""

    latent_mean: Tensor
    """Float32[photos, channels, height, width], in the denoiser's scale (the VAE's shift and factor applied)."""
    latent_std: Tensor
    """Float32[photos, channels, height, width], in the denoiser's scale."""
    face_mask: Tensor
    """Float32[photos, height, width]: the share of each latent's area that the face's box covers, in [0, 1]."""
    conditioning: Conditioning
    """What the base model's family is steered by, one row a photo: token ids, the untuned text encoders' output in
    float32, and its description of the framing."""
    inputs: tuple[PhotoInput, ...] = ()
    """The photos that were encoded, each once; () if nobody knows them any more."""

    def __len__(self) -> int:
        return len(self.latent_mean)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a latent."""
        channels, height, width = self.latent_mean.shape[1:]
        return channels, height, width

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "DataCache":
        """The cache that `tensors()` was taken from.

        Raises:
            KeyError: the latents or masks are missing.
        """
        conditioning = dict(tensors)
        mean, std, mask = (conditioning.pop(name) for name in PICTURE_TENSORS)
        return cls(latent_mean=mean, latent_std=std, face_mask=mask, conditioning=conditioning)

    def to(self, device: torch.device) -> "DataCache":
        """The same tensors on `device`."""
        return self._with({name: tensor.to(device) for name, tensor in self.tensors().items()})

    def rows(self, rows: Tensor, device: torch.device) -> "DataCache":
        """Int64[batch] rows alone, on `device`."""
        return self._with({name: tensor[rows].to(device) for name, tensor in self.tensors().items()})

    def conditioning_of(self, photos: Tensor) -> Conditioning:
        """The conditioning's rows of Int64[batch] photos."""
        return {name: tensor[photos] for name, tensor in self.conditioning.items()}

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name."""
        return {**{name: getattr(self, name) for name in PICTURE_TENSORS}, **self.conditioning}

    @property
    def sha256(self) -> str:
        """Over names, shapes and values."""
        return tensor_digest(self.tensors())

    def _with(self, tensors: Mapping[str, Tensor]) -> "DataCache":
        return replace(self.from_tensors(tensors), inputs=self.inputs)


def build_cache(
    photos: Sequence[CaptionedPhoto],
    base: BaseModel,
    *,
    resolution: int | Size,
    folder: Path,
    views: Views | None = None,
) -> DataCache:
    """The encoded photos, cut to one size: read from `folder` if they are there and whole, else computed and written.

    The file's name is a hash of the photos' contents and captions (in order), the base model's files, the resolution,
    the views and the versions of the libraries that encode, so a change to any of them makes another file. Files that
    nobody has used for 30 days are then removed, and at every call what killed processes were writing. The base model
    must carry no adapter.

    Args:
        photos: at least one.
        base: encodes them with its VAE (without gradients, in float32) and text encoder.
        resolution: side of the square crop in pixels, or width and height of the crop; multiples of 8.
        folder: made if missing; several processes may share it.
        views: the forms in which each photo is encoded; as it is only, if None.

    Returns:
        Tensors on the CPU.

    Raises:
        ValueError: captions are longer than the text encoder reads; they are named.
    """
    views = views or Views()
    if not photos:
        raise ValueError("there are no photos to encode; give at least one")
    return replace(_cached(photos, base, resolution, folder, views), inputs=PhotoInput.of(photos, resolution))


def _cached(
    photos: Sequence[CaptionedPhoto], base: BaseModel, resolution: int | Size, folder: Path, views: Views
) -> DataCache:
    path = Path(folder) / f"{_cache_key(photos, base, resolution, views)}.safetensors"
    remove_leftovers(path.parent)
    if path.exists():
        cached = _read(path)
        if cached is not None:
            return cached
        logger.warning("The data cache %s is damaged; encoding the photos again.", path)
    cache = _encode(photos, base, resolution, views)
    # Another process may have been faster, and on other hardware the last bits differ: one cache for all.
    written = _read(path) if path.exists() else None
    if written is not None:
        return written
    remove_unused(path.parent, before=time.time() - KEPT_SECONDS)
    metadata = {"digest": cache.sha256}
    write_file(path, lambda temporary: save_file(cache.tensors(), temporary, metadata=metadata))
    return cache


def _cache_key(photos: Sequence[CaptionedPhoto], base: BaseModel, resolution: int | Size, views: Views) -> str:
    width, height = width_and_height(resolution)
    content = [
        VERSION,
        [version(library) for library in LIBRARIES],
        base.sha256,
        str(base.dtype),
        width if width == height else [width, height],
        asdict(views),
        [[photo.sha256, photo.crop, photo.face, photo.caption] for photo in photos],
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, formats, shapes and values, whatever their order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path) -> DataCache | None:
    """The cache in `path`, or None if the file is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            tensors = {name: file.get_tensor(name) for name in names}
            expected = (file.metadata() or {}).get("digest")
    except (SafetensorError, OSError):
        return None
    if not set(PICTURE_TENSORS) <= set(tensors) or tensor_digest(tensors) != expected:
        return None
    with suppress(OSError):  # it may be another user's, who alone may say when it was used
        os.utime(path)
    return DataCache.from_tensors(tensors)


def remove_unused(folder: Path, *, before: float) -> None:
    """Removes the encoded photos in `folder` that nobody has written or read since `before`, seconds of `time.time`."""
    for path in folder.glob("*.safetensors"):
        with suppress(OSError):  # another process may be removing it, too
            if re.fullmatch(r"[0-9a-f]{32}", path.stem) and path.stat().st_mtime < before:
                path.unlink()


@torch.no_grad()
def _encode(photos: Sequence[CaptionedPhoto], base: BaseModel, resolution: int | Size, views: Views) -> DataCache:
    check_lengths(photos, base)
    rows = [
        (photo, mirrored, views.caption(photo.caption, number))
        for mirrored, number in views.forms()
        for photo in photos
    ]
    vae = base.vae
    shift = vae.config.get("shift_factor") or 0.0
    scale = vae.config["scaling_factor"]
    latents: dict[tuple[str, Box | None, bool], tuple[Tensor, Tensor]] = {}
    framings: dict[tuple[str, Box | None, bool], Framing] = {}
    nn.Module.to(vae, torch.float32)  # lossless there and back, and half-precision encoders overflow on some photos
    try:
        for photo, mirrored, _ in rows:
            if (photo.sha256, photo.crop, mirrored) in latents:
                continue
            framings[photo.sha256, photo.crop, mirrored] = framing_of(photo, resolution, mirrored=mirrored)
            pixels = torch.from_numpy(np.array(open_photo(photo, resolution), dtype=np.float32))
            pixels = (pixels / 127.5 - 1).permute(2, 0, 1)[None].to(base.device)
            posterior = vae.encode(pixels.flip(-1) if mirrored else pixels).latent_dist
            latents[photo.sha256, photo.crop, mirrored] = (
                ((posterior.mean - shift) * scale).cpu().contiguous(),
                (posterior.std * scale).cpu().contiguous(),
            )
    finally:
        nn.Module.to(vae, base.dtype)
    tokens = base.tokenize([caption for *_, caption in rows])
    encoded: dict[str, Conditioning] = {}
    for at, (*_, caption) in enumerate(rows):
        if caption not in encoded:
            answer = base.encode({name: ids[at : at + 1].to(base.device) for name, ids in tokens.items()})
            encoded[caption] = {name: tensor.float().cpu() for name, tensor in answer.items()}
    by_row = [encoded[caption] for *_, caption in rows]
    embeddings = {name: torch.cat([row[name] for row in by_row]) for name in by_row[0]}
    height, width = next(iter(latents.values()))[0].shape[-2:]
    painted = {(photo.sha256, photo.crop, photo.face): photo for photo in photos}
    mask_of = {key: torch.from_numpy(np.array(open_face_mask(each, (width, height)))) for key, each in painted.items()}
    masks = [mask_of[photo.sha256, photo.crop, photo.face] for photo in photos]
    pictures = [(photo.sha256, photo.crop, mirrored) for photo, mirrored, _ in rows]
    return DataCache(
        latent_mean=torch.cat([latents[picture][0] for picture in pictures]),
        latent_std=torch.cat([latents[picture][1] for picture in pictures]),
        face_mask=torch.stack([mask.flip(-1) if mirrored else mask for mirrored, _ in views.forms() for mask in masks]),
        conditioning={
            **tokens,
            **embeddings,
            **base.describe_framing([framings[picture] for picture in pictures]),
        },
    )


def check_lengths(photos: Sequence[CaptionedPhoto], base: BaseModel) -> None:
    """Refuses captions that are too long: their ends would be cut off unseen, for a warning in a worker's log does not
    reach the user's terminal.

    Raises:
        ValueError: names the photos with such captions.
    """
    tokenizer, length = base.caption_tokenizer
    lengths = {photo.path.name: len(tokenizer(photo.caption).input_ids) for photo in photos}
    if too_long := [f"{name} ({tokens})" for name, tokens in lengths.items() if tokens > length]:
        raise ValueError(
            f"captions with more tokens than the {length} that the base model's text encoder reads, start and end "
            f"included: {', '.join(too_long)}; shorten them"
        )
