"""What a data set looks like to the model: latents and captions, computed once and shared by every trial.

Legend: photos = number of photos.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from trainer.files import write_file
from trainer.framing import framing_of
from trainer.model_family import BaseModel, Conditioning
from trainer.photos import CaptionedPhoto, open_photo

VERSION = "1"
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, kw_only=True)
class DataCache:
    """The encoded photos. A latent is drawn afresh each step as mean + std * noise (the VAE's posterior)."""

    latent_mean: Tensor
    """Float32[photos, 4, height, width], in the UNet's scale (the VAE's shift and scaling factor applied)."""
    latent_std: Tensor
    """Float32[photos, 4, height, width], in the UNet's scale."""
    conditioning: Conditioning
    """What the base model's family is steered by, one row a photo: token ids, the untuned text encoders' output in
    float32, and what it is told of the framing."""

    def __len__(self) -> int:
        return len(self.latent_mean)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "DataCache":
        """The cache that `tensors()` was taken from.

        Raises:
            KeyError: the latents are missing.
        """
        conditioning = dict(tensors)
        mean, std = (conditioning.pop(name) for name in ("latent_mean", "latent_std"))
        return cls(latent_mean=mean, latent_std=std, conditioning=conditioning)

    def to(self, device: torch.device) -> "DataCache":
        """The same tensors on `device`."""
        return self.from_tensors({name: tensor.to(device) for name, tensor in self.tensors().items()})

    def conditioning_of(self, photos: Tensor) -> Conditioning:
        """The conditioning's rows of Int64[batch] photos."""
        return {name: tensor[photos] for name, tensor in self.conditioning.items()}

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name."""
        return {"latent_mean": self.latent_mean, "latent_std": self.latent_std, **self.conditioning}

    @property
    def sha256(self) -> str:
        """Over names, shapes and values."""
        return _digest(self.tensors())


def build_cache(photos: Sequence[CaptionedPhoto], base: BaseModel, *, resolution: int, folder: Path) -> DataCache:
    """The encoded photos, read from `folder` if they are there and whole, otherwise computed and written there.

    The file's name is a hash of the photos' contents and captions (in order), the base model's files and the
    resolution, so a change to any of them makes another file. The base model must carry no adapter.

    Args:
        photos: at least one.
        base: encodes them with its VAE (without gradients, in float32) and text encoder.
        resolution: side of the square crop in pixels, a multiple of 8.
        folder: made if missing; several processes may share it.

    Returns:
        Tensors on the CPU.
    """
    if not photos:
        raise ValueError("there are no photos to encode; give at least one")
    path = Path(folder) / f"{_cache_key(photos, base, resolution)}.safetensors"
    if path.exists():
        cached = _read(path)
        if cached is not None:
            return cached
        logger.warning("The data cache %s is damaged; encoding the photos again.", path)
    cache = _encode(photos, base, resolution)
    # Another process may have been faster, and on other hardware the last bits differ: one cache for all.
    written = _read(path) if path.exists() else None
    if written is not None:
        return written
    metadata = {"digest": cache.sha256}
    write_file(path, lambda temporary: save_file(cache.tensors(), temporary, metadata=metadata))
    return cache


def _cache_key(photos: Sequence[CaptionedPhoto], base: BaseModel, resolution: int) -> str:
    content = [VERSION, base.sha256, str(base.dtype), resolution, [[photo.sha256, photo.caption] for photo in photos]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().numpy().tobytes())
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
    if not {"latent_mean", "latent_std"} <= set(tensors) or _digest(tensors) != expected:
        return None
    return DataCache.from_tensors(tensors)


@torch.no_grad()
def _encode(photos: Sequence[CaptionedPhoto], base: BaseModel, resolution: int) -> DataCache:
    vae = base.vae
    shift = vae.config.get("shift_factor") or 0.0
    scale = vae.config["scaling_factor"]
    means, stds = [], []
    nn.Module.to(vae, torch.float32)  # lossless there and back, and half-precision encoders overflow on some photos
    try:
        for photo in photos:
            pixels = torch.from_numpy(np.array(open_photo(photo.path, resolution), dtype=np.float32))
            pixels = (pixels / 127.5 - 1).permute(2, 0, 1)[None].to(base.device)
            posterior = vae.encode(pixels).latent_dist
            means.append(((posterior.mean - shift) * scale).cpu())
            stds.append((posterior.std * scale).cpu())
    finally:
        nn.Module.to(vae, base.dtype)
    captions = [photo.caption for photo in photos]
    _warn_of_long(captions, base)
    tokens = base.tokenize(captions)
    encoded = [
        base.encode({name: ids[at : at + 1].to(base.device) for name, ids in tokens.items()})
        for at in range(len(captions))
    ]
    embeddings = {name: torch.cat([row[name].float().cpu() for row in encoded]) for name in encoded[0]}
    framing = base.describe_framing([framing_of(photo.path, resolution) for photo in photos])
    return DataCache(
        latent_mean=torch.cat(means),
        latent_std=torch.cat(stds),
        conditioning={**tokens, **embeddings, **framing},
    )


def _warn_of_long(captions: Sequence[str], base: BaseModel) -> None:
    length = base.tokenizer.model_max_length
    for caption in captions:
        tokens = len(base.tokenizer(caption).input_ids)
        if tokens > length:
            logger.warning("A caption has %d tokens, %d are used: %r", tokens, length, caption)
