"""The data of a job by the size of its photos: a data cache a bucket, one only where all photos are cut to squares."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from trainer.data.batches import BucketShape
from trainer.data.buckets import AspectBuckets, sort_into_buckets
from trainer.data.cache import DataCache, build_cache, check_lengths
from trainer.data.photo_input import PhotoInput
from trainer.data.photos import CaptionedPhoto
from trainer.data.views import Views
from trainer.models.base_model import BaseModel


@dataclass(frozen=True, eq=False, kw_only=True)
class BucketedCache:
    """Encoded photos of one size or several."""

    buckets: tuple[DataCache, ...]
    """At least one, each with at least one photo; the latents of one have one shape."""

    @classmethod
    def of(cls, cache: "DataCache | BucketedCache") -> "BucketedCache":
        """A data cache as the only bucket; a bucketed one as it is."""
        return cache if isinstance(cache, BucketedCache) else cls(buckets=(cache,))

    def __len__(self) -> int:
        """Rows of all buckets together."""
        return sum(len(bucket) for bucket in self.buckets)

    def to(self, device: torch.device) -> "BucketedCache":
        """The same tensors on `device`."""
        return BucketedCache(buckets=tuple(bucket.to(device) for bucket in self.buckets))

    def bucket_shapes(self, views: Views) -> tuple[BucketShape, ...]:
        """What the draw of a step needs to know of each bucket.

        Args:
            views: the forms of each photo that the buckets hold; a photo counts once however many these are.
        """
        forms = len(views.forms())
        return tuple(
            BucketShape(photos=len(bucket) // forms, latent_shape=bucket.latent_shape) for bucket in self.buckets
        )

    @property
    def inputs(self) -> tuple[PhotoInput, ...]:
        """The photos that were encoded; () if those of some bucket are not known any more."""
        known = all(bucket.inputs for bucket in self.buckets)
        return tuple(each for bucket in self.buckets for each in bucket.inputs) if known else ()

    @property
    def sha256(self) -> str:
        """Over the buckets in their order; that of a single one is its own."""
        digests = [bucket.sha256 for bucket in self.buckets]
        return digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()


def build_bucketed_cache(
    photos: Sequence[CaptionedPhoto],
    base: BaseModel,
    *,
    resolution: int,
    folder: Path,
    views: Views | None = None,
    buckets: AspectBuckets | None = None,
) -> BucketedCache:
    """The encoded photos of each bucket, in the order of its size, each read from a file of its own or written there.

    Args:
        photos: at least one.
        base: as for `trainer.data.cache.build_cache`.
        resolution: side in pixels of the square crop, or of the square whose area buckets do not exceed.
        folder: made if missing; several processes may share it.
        views: the forms in which each photo is encoded; as it is only, if None.
        buckets: None: all photos are cut to squares.

    Returns:
        Tensors on the CPU.

    Raises:
        ValueError: there are no photos, no bucket is as small as the resolution, the model cannot denoise a bucket's
            size, or captions are longer than the text encoder reads; those of all buckets are named together.
    """
    if not photos:
        raise ValueError("there are no photos to encode; give at least one")
    sorted_photos = sort_into_buckets(photos, buckets, resolution)
    base.check_sizes(sorted_photos)
    if len(sorted_photos) > 1:
        check_lengths(photos, base)
    return BucketedCache(
        buckets=tuple(
            build_cache(of_size, base, resolution=size, folder=folder, views=views)
            for size, of_size in sorted_photos.items()
        )
    )
