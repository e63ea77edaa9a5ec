"""What a data set looks like to the model: latents and captions, computed once and shared by every trial.

Legend: photos = number of photos times the forms of each (`trainer.views`), tokens = the tokenizer's length,
dim = width of the text encoder.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from trainer.files import write_file
from trainer.model import BaseModel
from trainer.photos import CaptionedPhoto, open_face_mask, open_photo
from trainer.picture import Box
from trainer.views import Views

VERSION = "2"
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, kw_only=True)
class DataCache:
    """The encoded photos. A latent is drawn afresh each step as mean + std * noise (the VAE's posterior)."""

    latent_mean: Tensor
    """Float32[photos, 4, height, width], in the UNet's scale (the VAE's shift and scaling factor applied)."""
    latent_std: Tensor
    """Float32[photos, 4, height, width], in the UNet's scale."""
    input_ids: Tensor
    """Int64[photos, tokens], padded to the tokenizer's length."""
    text_embeddings: Tensor
    """Float32[photos, tokens, dim]: the untuned text encoder's last hidden state."""
    face_mask: Tensor
    """Float32[photos, height, width]: the share of each latent's area that the face's box covers, in [0, 1]."""

    def __len__(self) -> int:
        return len(self.latent_mean)

    def to(self, device: torch.device) -> "DataCache":
        """The same tensors on `device`."""
        return DataCache(**{name: tensor.to(device) for name, tensor in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def sha256(self) -> str:
        """Over names, shapes and values."""
        return _digest(self.tensors())


def build_cache(
    photos: Sequence[CaptionedPhoto], base: BaseModel, *, resolution: int, folder: Path, views: Views | None = None
) -> DataCache:
    """The encoded photos, read from `folder` if they are there and whole, otherwise computed and written there.

    The file's name is a hash of the photos' contents and captions (in order), the base model's files, the resolution
    and the views, so a change to any of them makes another file. The base model must carry no adapter.

    Args:
        photos: at least one.
        base: encodes them with its VAE (without gradients, in float32) and text encoder.
        resolution: side of the square crop in pixels, a multiple of 8.
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
    path = Path(folder) / f"{_cache_key(photos, base, resolution, views)}.safetensors"
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
    metadata = {"digest": cache.sha256}
    write_file(path, lambda temporary: save_file(cache.tensors(), temporary, metadata=metadata))
    return cache


def _cache_key(photos: Sequence[CaptionedPhoto], base: BaseModel, resolution: int, views: Views) -> str:
    content = [
        VERSION,
        base.sha256,
        str(base.dtype),
        resolution,
        asdict(views),
        [[photo.sha256, photo.crop, photo.face, photo.caption] for photo in photos],
    ]
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
    if set(tensors) != {field.name for field in fields(DataCache)} or _digest(tensors) != expected:
        return None
    return DataCache(**tensors)


@torch.no_grad()
def _encode(photos: Sequence[CaptionedPhoto], base: BaseModel, resolution: int, views: Views) -> DataCache:
    _check_lengths(photos, base)
    rows = [
        (photo, mirrored, views.caption(photo.caption, number))
        for mirrored, number in views.forms()
        for photo in photos
    ]
    vae = base.vae
    shift = vae.config.get("shift_factor") or 0.0
    scale = vae.config["scaling_factor"]
    latents: dict[tuple[str, Box | None, bool], tuple[Tensor, Tensor]] = {}
    nn.Module.to(vae, torch.float32)  # lossless there and back, and half-precision encoders overflow on some photos
    try:
        for photo, mirrored, _ in rows:
            if (photo.sha256, photo.crop, mirrored) in latents:
                continue
            pixels = torch.from_numpy(np.array(open_photo(photo.path, resolution, photo.crop), dtype=np.float32))
            pixels = (pixels / 127.5 - 1).permute(2, 0, 1)[None].to(base.device)
            posterior = vae.encode(pixels.flip(-1) if mirrored else pixels).latent_dist
            latents[photo.sha256, photo.crop, mirrored] = (
                ((posterior.mean - shift) * scale).cpu(),
                (posterior.std * scale).cpu(),
            )
    finally:
        nn.Module.to(vae, base.dtype)
    input_ids = _tokenize([caption for *_, caption in rows], base)
    embeddings: dict[str, Tensor] = {}
    for (*_, caption), ids in zip(rows, input_ids, strict=True):
        if caption not in embeddings:
            embeddings[caption] = base.text_encoder(ids[None].to(base.device))[0].float().cpu()
    side = next(iter(latents.values()))[0].shape[-1]
    masks = [torch.from_numpy(np.array(open_face_mask(photo, side))) for photo in photos]
    return DataCache(
        latent_mean=torch.cat([latents[photo.sha256, photo.crop, mirrored][0] for photo, mirrored, _ in rows]),
        latent_std=torch.cat([latents[photo.sha256, photo.crop, mirrored][1] for photo, mirrored, _ in rows]),
        input_ids=input_ids,
        text_embeddings=torch.cat([embeddings[caption] for *_, caption in rows]),
        face_mask=torch.stack([mask.flip(-1) if mirrored else mask for mirrored, _ in views.forms() for mask in masks]),
    )


def _check_lengths(photos: Sequence[CaptionedPhoto], base: BaseModel) -> None:
    """Refuses captions that are too long: what is cut off would be trained without being said, and a warning in a
    seat's log is not on the user's terminal."""
    length = base.tokenizer.model_max_length
    lengths = {photo.path.name: len(base.tokenizer(photo.caption).input_ids) for photo in photos}
    if too_long := [f"{name} ({tokens})" for name, tokens in lengths.items() if tokens > length]:
        raise ValueError(
            f"captions with more tokens than the {length} that the base model's text encoder reads, start and end "
            f"included: {', '.join(too_long)}; shorten them"
        )


def _tokenize(captions: Sequence[str], base: BaseModel) -> Tensor:
    encoded = base.tokenizer(
        list(captions),
        padding="max_length",
        truncation=True,
        max_length=base.tokenizer.model_max_length,
        return_tensors="pt",
    )
    input_ids: Tensor = encoded.input_ids
    return input_ids
