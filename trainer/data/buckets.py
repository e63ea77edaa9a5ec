"""Aspect buckets: sizes of nearly one area and several shapes, so that tall and wide photos need not be cut to squares.

(NovelAI 2022, https://github.com/NovelAI/novelai-aspect-ratio-bucketing; the sizes are those of kohya's sd-scripts.)
Imports no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from trainer.data.photo_problem import listed
from trainer.data.photos import CaptionedPhoto
from trainer.data.picture import Size

MUCH_ENLARGED = 1.5
"""Enlargement from which a photo is named: less is hardly seen."""


@dataclass(frozen=True, kw_only=True)
class AspectBuckets:
    """Which sizes there are beside the square.

    Raises:
        ValueError: a value lies outside its range; the message names the field, the value and the remedy.
    """

    step: int = 64
    """Sides of a bucket are multiples of this, pixels; a multiple of 8, 8 ... 1024."""

    maximum_ratio: float = 2.0
    """Longest over shortest side of a bucket at most, 1 ... 16; what is longer in a photo is cut off at both ends."""

    def __post_init__(self) -> None:
        if isinstance(self.step, bool) or not isinstance(self.step, int):
            raise ValueError(f"step is {self.step!r}; it must be a whole number")
        if self.step % 8 or not 8 <= self.step <= 1024:
            raise ValueError(f"step is {self.step}; it must be a multiple of 8 from 8 to 1024, as a rule 64")
        if not 1 <= self.maximum_ratio <= 16:
            raise ValueError(f"maximum_ratio is {self.maximum_ratio!r}; it must lie between 1 and 16, as a rule 2")

    def sizes(self, resolution: int) -> tuple[Size, ...]:
        """All buckets, sorted: for each shorter side the longest other side that resolution^2 pixels allow.

        Those that are longer than the ratio allows are left out. The largest square is always there.

        Args:
            resolution: side in pixels of the square whose area is the limit.

        Raises:
            ValueError: not even one step fits into it.
        """
        widest = resolution // self.step * self.step
        if not widest:
            raise ValueError(
                f"photos.buckets has a step of {self.step} pixels, more than training.resolution, which is "
                f"{resolution}; set a step of at most that"
            )
        found = {(widest, widest)}
        for shorter in range(self.step, widest + 1, self.step):
            longer = resolution**2 // shorter // self.step * self.step
            if longer <= self.maximum_ratio * shorter:
                found |= {(shorter, longer), (longer, shorter)}
        return tuple(sorted(found))

    def size_of(self, shape: Size, resolution: int) -> Size:
        """The bucket of a picture: the one whose ratio of sides is nearest, by the logarithm.

        Of several that are equally near it is the largest, and of these the one with the shorter long side.

        Args:
            shape: width and height of the picture.
            resolution: as in `sizes`.
        """
        width, height = shape

        def rank(size: Size) -> tuple[Fraction, int, int]:
            # Exact, and in the order of the logarithms' distance.
            ratio = Fraction(size[0] * height, size[1] * width)
            return max(ratio, 1 / ratio), -size[0] * size[1], max(size)

        return min(self.sizes(resolution), key=rank)


def sort_into_buckets(
    photos: Sequence[CaptionedPhoto], buckets: AspectBuckets | None, resolution: int
) -> dict[Size, tuple[CaptionedPhoto, ...]]:
    """The photos of each bucket that has some, in their order, by size; all in the square if there are no buckets."""
    sizes = [
        (resolution, resolution) if buckets is None else buckets.size_of(photo.shape, resolution) for photo in photos
    ]
    return {
        size: tuple(photo for photo, own in zip(photos, sizes, strict=True) if own == size)
        for size in sorted(set(sizes))
    }


def enlargement_warnings(
    photos: Sequence[CaptionedPhoto], buckets: AspectBuckets | None, resolution: int
) -> tuple[str, ...]:
    """A line on photos, or the crops of them, that are much smaller than what they are trained at; none if none are.

    Args:
        photos: cropped as they are trained on.
        buckets: None: all are squares.
        resolution: side of training images in pixels.
    """
    factors = {
        photo.path.name: max(wanted / own for wanted, own in zip(size, photo.shape, strict=True))
        for size, own_size in sort_into_buckets(photos, buckets, resolution).items()
        for photo in own_size
    }
    large = {name: factor for name, factor in factors.items() if factor >= MUCH_ENLARGED}
    if not large:
        return ()
    wider = ", a wider photos.face_crop" if any(photo.crop is not None for photo in photos) else ""
    names = listed(f"{name} {large[name]:.1f} times" for name in sorted(large, key=lambda name: -large[name]))
    return (
        f"{len(large)} of {len(photos)} photos are enlarged to {resolution} pixels ({names}), and the adapter learns "
        f"their blur; take larger ones{wider} or a smaller training.resolution",
    )


def bucket_warnings(
    photos: Sequence[CaptionedPhoto], buckets: AspectBuckets | None, resolution: int, batch_size: int
) -> tuple[str, ...]:
    """One line for every bucket whose photos do not fill a forward pass, by size: some come twice in it, or oftener.

    Args:
        photos: each as often as it comes in an epoch.
        buckets: None: there is nothing to warn of.
        resolution: side in pixels of the square whose area is the limit.
        batch_size: photos of a forward pass.
    """
    if buckets is None:
        return ()
    return tuple(
        f"bucket {width}x{height} has {len(own)} photo(s) an epoch "
        f"({', '.join(dict.fromkeys(photo.path.name for photo in own))}), "
        f"fewer than batch_size, which is {batch_size}, so its batches hold some of them more than once; "
        "add photos of this shape, raise photos.repeats for them, lower batch_size or set a larger photos.buckets.step"
        for (width, height), own in sort_into_buckets(photos, buckets, resolution).items()
        if len(own) < batch_size
    )
