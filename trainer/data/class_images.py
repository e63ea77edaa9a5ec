"""Class images that the untuned base model draws, once for all that ask for the same, however often it is killed.

Several processes may draw into one folder: each batch is claimed by a lock on the seeds' bytes of one file, which the
system releases with the process that holds it, and what another one is drawing is waited for.
"""

import fcntl
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import torch
from PIL import Image, PngImagePlugin

from trainer.data.photos import CaptionedPhoto
from trainer.data.prior_config import PriorConfig
from trainer.data.resemblance import fingerprint
from trainer.files import remove_leftovers, write_file
from trainer.models.base_model import BaseModel
from trainer.out_of_memory import OutOfMemory, OutOfMemoryGuard, free_memory, half

VERSION = "1"
DIGEST = "pixels-sha256"
LOCKS = ".locks"
logger = logging.getLogger(__name__)


def draw_class_images(
    prior: PriorConfig,
    base: BaseModel,
    *,
    resolution: int,
    folder: Path,
    on_drawn: Callable[[int, int], None] = lambda done, count: None,
) -> tuple[CaptionedPhoto, ...]:
    """The class images of the seeds 0 ... prior.count - 1, read where they are there and whole, else drawn.

    They are in `folder`/class-images-HASH, the hash being of base model, prompt, size and sampling; a higher count adds
    to them. A batch is always drawn as a whole, so what a kill left out of it comes out as it would have. Where memory
    runs out it is drawn in halves, as are those after it: the images are the same up to rounding.

    Args:
        prior: names no folder.
        base: carries no adapter.
        resolution: side of the images in pixels, a multiple of 8.
        folder: made if missing; several processes may share it.
        on_drawn: called after each batch with how many of how many there are; what it raises ends the drawing.

    Returns:
        In the order of the seeds, all with the prompt as their caption.

    Raises:
        ValueError: the prompt is longer than the text encoder reads.
        OutOfMemory: not even one image at a time fits.
    """
    _check_length(prior.caption, base)
    images = Path(folder) / f"class-images-{_key(prior, base, resolution)}"
    images.mkdir(parents=True, exist_ok=True)
    remove_leftovers(images)
    batches = [
        range(first, min(first + prior.batch_size, prior.count)) for first in range(0, prior.count, prior.batch_size)
    ]
    photos: dict[int, CaptionedPhoto] = {}
    pipeline = base.pipeline()
    pipeline.set_progress_bar_config(disable=True)
    fitting = _Fitting(prior.batch_size)

    def missing(seeds: Sequence[int]) -> list[int]:
        for seed in seeds:
            if seed not in photos and (photo := _read(_path(images, seed), prior.caption, resolution)) is not None:
                photos[seed] = photo
        return [seed for seed in seeds if seed not in photos]

    with (images / LOCKS).open("ab") as locks:
        for wait in (False, True):  # first what nobody else is at
            for seeds in batches:
                if not wait or missing(seeds):
                    with _claimed(locks, seeds, wait=wait) as claimed:
                        if claimed and (absent := missing(seeds)):
                            guidance = _guidance_scale(prior, base)
                            _write(fitting.draw(pipeline, prior, seeds, resolution, guidance), absent, images)
                    missing(seeds)
                    on_drawn(len(photos), prior.count)
    return tuple(photos[seed] for batch in batches for seed in batch)


def _key(prior: PriorConfig, base: BaseModel, resolution: int) -> str:
    guidance = _guidance_scale(prior, base)
    content = [VERSION, base.sha256, str(base.dtype), prior.caption, resolution, prior.steps, guidance]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def _path(images: Path, seed: int) -> Path:
    return images / f"{seed:05}.png"


class _Fitting:
    """How many images at a time fit into memory; it only ever shrinks."""

    def __init__(self, size: int) -> None:
        self._size = size

    def draw(
        self, pipeline: Any, prior: PriorConfig, seeds: Sequence[int], resolution: int, guidance_scale: float
    ) -> dict[int, Image.Image]:
        drawn: dict[int, Image.Image] = {}
        while len(drawn) < len(seeds):
            some = seeds[len(drawn) : len(drawn) + self._size]
            with OutOfMemoryGuard() as guard:
                drawn |= _draw(pipeline, prior, some, resolution, guidance_scale)
            if guard:
                if len(some) == 1:
                    raise OutOfMemory(
                        f"out of memory with a single class image at a time ({guard.reason}); lower "
                        f"training.resolution ({resolution}), name a photos.prior.folder of class images, or let fewer "
                        "seats share a GPU (seats.count, seats.gpus_per_worker)"
                    )
                self._size = half(len(some))
                free_memory()
        return drawn


def _draw(
    pipeline: Any, prior: PriorConfig, seeds: Sequence[int], resolution: int, guidance_scale: float
) -> dict[int, Image.Image]:
    # A generator for each image, on the CPU, so that every device starts from the same noise.
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    drawn = pipeline(
        prompt=[prior.caption] * len(seeds),
        generator=generators,
        height=resolution,
        width=resolution,
        num_inference_steps=prior.steps,
        guidance_scale=guidance_scale,
        output_type="pil",
    ).images
    return dict(zip(seeds, drawn, strict=True))


def _write(drawn: dict[int, Image.Image], seeds: Sequence[int], images: Path) -> None:
    for seed in seeds:
        path, texts = _path(images, seed), PngImagePlugin.PngInfo()
        if path.exists():
            logger.warning("The class image %s is damaged; it is drawn again.", path)
        texts.add_text(DIGEST, _digest(drawn[seed]))
        write_file(path, partial(drawn[seed].save, format="PNG", pnginfo=texts))


def _read(path: Path, caption: str, resolution: int) -> CaptionedPhoto | None:
    """The image in `path`, or None if it is missing or not as it was written."""
    try:
        content = path.read_bytes()
        with Image.open(BytesIO(content), formats=["PNG"]) as picture:
            picture.load()
    except Exception:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
        return None
    if picture.size != (resolution, resolution) or picture.info.get(DIGEST) != _digest(picture):
        return None
    return CaptionedPhoto(
        path=path,
        caption=caption,
        sha256=hashlib.sha256(content).hexdigest(),
        fingerprint=fingerprint(picture),
        size=picture.size,
    )


def _digest(picture: Image.Image) -> str:
    return hashlib.sha256(picture.tobytes()).hexdigest()


@contextmanager
def _claimed(locks: BinaryIO, seeds: Sequence[int], *, wait: bool) -> Iterator[bool]:
    """Holds the seeds; False if another process does and is not to be waited for."""
    try:
        fcntl.lockf(locks, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), len(seeds), seeds[0])
    except OSError as error:
        # A file system without locks lets two processes draw the same; files that are whole or not there bear it.
        yield not isinstance(error, (BlockingIOError, PermissionError))
        return
    try:
        yield True
    finally:
        fcntl.lockf(locks, fcntl.LOCK_UN, len(seeds), seeds[0])


def _check_length(prompt: str, base: BaseModel) -> None:
    tokenizer, length = base.caption_tokenizer
    tokens = len(tokenizer(prompt).input_ids)
    if tokens > length:
        raise ValueError(
            f"photos.prior.prompt is {prompt!r}, which has {tokens} tokens, start and end included; the base model's "
            f"text encoder reads {length}: shorten it"
        )


def _guidance_scale(prior: PriorConfig, base: BaseModel) -> float:
    return base.usual_guidance if prior.guidance_scale is None else prior.guidance_scale
