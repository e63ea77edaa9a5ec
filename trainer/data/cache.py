"""What a data set looks like to the model: latents and captions, computed once and shared by every trial.

Legend: rows = photos, as often as they are given, times the forms of each (`trainer.data.views`); pictures = different
pictures of the rows; captions = different captions of the rows. A row is a picture and a caption by their numbers.
"""

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

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
from trainer.models.base_model import BaseModel, Conditioning

VERSION = "4"
LIBRARIES = ("Pillow", "torch", "diffusers", "transformers", "tokenizers")
"""What latents, token ids and embeddings come from: with another version of one of them they may be others."""
KEPT_SECONDS = 30 * 24 * 3600.0
"""How long a file stays that no job reads."""
PICTURE_TENSORS = ("latent_mean", "latent_std", "face_mask")
"""Tensors of a cache with one row a picture, beside its framing."""
FRAMING = "framing."
"""What the names of the framing's tensors begin with among the others."""
NUMBERS = ("picture_of_row", "caption_of_row")
"""Tensors of a cache with one number a row."""
FILES = re.compile(r"((pictures|captions)-)?[0-9a-f]{32}")
"""Names of the files that are or were written, without their suffix."""
_Picture = tuple[str, Box | None, Box | None, bool]
"""SHA-256, crop and face of a photo and whether it is mirrored: what latents, mask and framing depend on at a size."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, kw_only=True)
class DataCache:
    """The encoded photos, each picture and each caption once.

    A latent is drawn afresh each step as mean + std * noise (the VAE's posterior).
    """

    latent_mean: Tensor
    """Float32[pictures, channels, height, width], in the denoiser's scale (the VAE's shift and factor applied)."""
    latent_std: Tensor
    """Float32[pictures, channels, height, width], in the denoiser's scale."""
    face_mask: Tensor
    """Float32[pictures, height, width]: the share of each latent's area that the face's box covers, in [0, 1]."""
    framing: Conditioning
    """The base model's description of the framing, one row a picture; {} if it reads none."""
    conditioning: Conditioning
    """What else the base model's family is steered by, one row a caption: token ids, and the untuned text encoders'
    output in float32."""
    picture_of_row: Tensor
    """Int64[rows], numbers of pictures."""
    caption_of_row: Tensor
    """Int64[rows], numbers of captions."""
    inputs: tuple[PhotoInput, ...] = ()
    """The photos that were encoded, each once; () if nobody knows them any more."""

    def __len__(self) -> int:
        """Rows."""
        return len(self.picture_of_row)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a latent."""
        channels, height, width = self.latent_mean.shape[1:]
        return channels, height, width

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "DataCache":
        """The cache that `tensors()` was taken from.

        Raises:
            KeyError: the latents, the masks or the numbers of the rows are missing.
        """
        others = dict(tensors)
        mean, std, mask, pictures, captions = (others.pop(name) for name in (*PICTURE_TENSORS, *NUMBERS))
        framing = {name.removeprefix(FRAMING): others.pop(name) for name in tensors if name.startswith(FRAMING)}
        return cls(
            latent_mean=mean,
            latent_std=std,
            face_mask=mask,
            framing=framing,
            conditioning=others,
            picture_of_row=pictures,
            caption_of_row=captions,
        )

    def to(self, device: torch.device) -> "DataCache":
        """The same tensors on `device`."""
        return self._with({name: tensor.to(device) for name, tensor in self.tensors().items()})

    def rows(self, rows: Tensor, device: torch.device) -> "DataCache":
        """Int64[batch] rows alone, on `device`, each with a picture and a caption of its own."""
        pictures, captions = self.picture_of_row[rows], self.caption_of_row[rows]
        tensors = {
            name: tensor[pictures if name in PICTURE_TENSORS or name.startswith(FRAMING) else captions].to(device)
            for name, tensor in self.tensors().items()
            if name not in NUMBERS
        }
        return self._with({**tensors, **{name: torch.arange(len(rows), device=device) for name in NUMBERS}})

    def latents_of(self, rows: Tensor, noise: Tensor) -> Tensor:
        """The latents of Int64[batch] rows, Float32[batch, channels, height, width], drawn with standard normal `noise`
        of that shape."""
        pictures = self.picture_of_row[rows]
        return self.latent_mean[pictures] + self.latent_std[pictures] * noise

    def face_masks_of(self, rows: Tensor) -> Tensor:
        """The masks of Int64[batch] rows, Float32[batch, height, width]."""
        return self.face_mask[self.picture_of_row[rows]]

    def conditioning_of(self, rows: Tensor) -> Conditioning:
        """Conditioning and framing of Int64[batch] rows."""
        pictures, captions = self.picture_of_row[rows], self.caption_of_row[rows]
        return {
            **{name: tensor[captions] for name, tensor in self.conditioning.items()},
            **{name: tensor[pictures] for name, tensor in self.framing.items()},
        }

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name."""
        return {
            **{name: getattr(self, name) for name in (*PICTURE_TENSORS, *NUMBERS)},
            **{f"{FRAMING}{name}": tensor for name, tensor in self.framing.items()},
            **self.conditioning,
        }

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

    Each picture and each caption is encoded once, however many rows show it. Pictures lie in one file and captions in
    another. A file's name is a hash of what is in it (the pictures' contents, crops, faces, sides and resolution, or
    the captions, each in order), the base model's files and the versions of the libraries that encode, so a change to
    any of them makes another file, and one to captions or repeats alone encodes no picture. Files that nobody has used
    for 30 days are then removed, and at every call what killed processes were writing. The base model must carry no
    adapter.

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
    check_lengths(photos, base)
    remove_leftovers(folder)
    forms = [(photo, mirrored, number) for mirrored, number in views.forms() for photo in photos]
    pictures = [(photo.sha256, photo.crop, photo.face, mirrored) for photo, mirrored, _ in forms]
    captions = [views.caption(photo.caption, number) for photo, _, number in forms]
    shown: dict[_Picture, CaptionedPhoto] = {}
    for picture, (photo, *_) in zip(pictures, forms, strict=True):
        shown.setdefault(picture, photo)
    read = list(dict.fromkeys(captions))
    width, height = width_and_height(resolution)
    size = width if width == height else [width, height]
    tensors = {
        **_kept("pictures", [size, *shown], lambda: _encode_pictures(shown, base, resolution), base, folder),
        **_kept("captions", read, lambda: _encode_captions(read, base), base, folder),
        "picture_of_row": _numbers(pictures),
        "caption_of_row": _numbers(captions),
    }
    return replace(DataCache.from_tensors(tensors), inputs=PhotoInput.of(photos, resolution))


def _numbers(of_rows: Sequence[Hashable]) -> Tensor:
    """Int64[rows]: the number of each among the different ones, in the order in which these come first."""
    numbers = {each: number for number, each in enumerate(dict.fromkeys(of_rows))}
    return torch.tensor([numbers[each] for each in of_rows])


def _kept(
    kind: str, content: list[Any], encode: Callable[[], dict[str, Tensor]], base: BaseModel, folder: Path
) -> dict[str, Tensor]:
    """What `encode` makes of `content`: read from its file if that is there and whole, else computed and written."""
    key = [VERSION, [version(library) for library in LIBRARIES], base.sha256, str(base.dtype), content]
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
    path = Path(folder) / f"{kind}-{name}.safetensors"
    if path.exists():
        kept = _read(path)
        if kept is not None:
            return kept
        logger.warning("The data cache %s is damaged; encoding the %s again.", path, kind)
    tensors = encode()
    # Another process may have been faster, and on other hardware the last bits differ: one cache for all.
    written = _read(path) if path.exists() else None
    if written is not None:
        return written
    remove_unused(path.parent, before=time.time() - KEPT_SECONDS)
    metadata = {"digest": tensor_digest(tensors)}
    write_file(path, lambda temporary: save_file(tensors, temporary, metadata=metadata))
    return tensors


def tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, formats, shapes and values, whatever their order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path) -> dict[str, Tensor] | None:
    """The tensors in `path`, or None if the file is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            tensors = {name: file.get_tensor(name) for name in names}
            expected = (file.metadata() or {}).get("digest")
    except (SafetensorError, OSError):
        return None
    if tensor_digest(tensors) != expected:
        return None
    with suppress(OSError):  # it may be another user's, who alone may say when it was used
        os.utime(path)
    return tensors


def remove_unused(folder: Path, *, before: float) -> None:
    """Removes what is encoded in `folder` and nobody has written or read since `before`, seconds of `time.time`."""
    for path in folder.glob("*.safetensors"):
        with suppress(OSError):  # another process may be removing it, too
            if FILES.fullmatch(path.stem) and path.stat().st_mtime < before:
                path.unlink()


@torch.no_grad()
def _encode_pictures(
    pictures: Mapping[_Picture, CaptionedPhoto], base: BaseModel, resolution: int | Size
) -> dict[str, Tensor]:
    """Latents, masks and framing of pictures, given with the photo of each."""
    vae = base.vae
    shift = vae.config.get("shift_factor") or 0.0
    scale = vae.config["scaling_factor"]
    means, stds, framings = [], [], []
    nn.Module.to(vae, torch.float32)  # lossless there and back, and half-precision encoders overflow on some photos
    try:
        for (*_, mirrored), photo in pictures.items():
            framings.append(framing_of(photo, resolution, mirrored=mirrored))
            pixels = torch.from_numpy(np.array(open_photo(photo, resolution), dtype=np.float32))
            pixels = (pixels / 127.5 - 1).permute(2, 0, 1)[None].to(base.device)
            posterior = vae.encode(pixels.flip(-1) if mirrored else pixels).latent_dist
            means.append(((posterior.mean - shift) * scale).cpu())
            stds.append((posterior.std * scale).cpu())
    finally:
        nn.Module.to(vae, base.dtype)
    height, width = means[0].shape[-2:]
    painted = {of[:3]: photo for of, photo in pictures.items()}
    masks = {of: torch.from_numpy(np.array(open_face_mask(photo, (width, height)))) for of, photo in painted.items()}
    return {
        "latent_mean": torch.cat(means).contiguous(),
        "latent_std": torch.cat(stds).contiguous(),
        "face_mask": torch.stack([masks[of[:3]].flip(-1) if of[3] else masks[of[:3]] for of in pictures]),
        **{f"{FRAMING}{name}": tensor for name, tensor in base.describe_framing(framings).items()},
    }


@torch.no_grad()
def _encode_captions(captions: Sequence[str], base: BaseModel) -> dict[str, Tensor]:
    """Token ids and embeddings of captions."""
    tokens = base.tokenize(captions)
    encoded = []
    for at in range(len(captions)):
        answer = base.encode({name: ids[at : at + 1].to(base.device) for name, ids in tokens.items()})
        encoded.append({name: tensor.float().cpu() for name, tensor in answer.items()})
    return {**tokens, **{name: torch.cat([each[name] for each in encoded]) for name in encoded[0]}}


def check_lengths(photos: Sequence[CaptionedPhoto], base: BaseModel) -> None:
    """Refuses captions that are too long: their ends would be cut off unseen, for a warning in a worker's log does not
    reach the user's terminal.

    Raises:
        ValueError: names the photos with such captions.
    """
    tokenizer, length = base.caption_tokenizer
    captions = {photo.path.name: photo.caption for photo in photos}
    lengths = {name: len(tokenizer(caption).input_ids) for name, caption in captions.items()}
    if too_long := [f"{name} ({tokens})" for name, tokens in lengths.items() if tokens > length]:
        raise ValueError(
            f"captions with more tokens than the {length} that the base model's text encoder reads, start and end "
            f"included: {', '.join(too_long)}; shorten them"
        )
