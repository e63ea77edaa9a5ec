"""The photos of a search: read, checked and split as its configuration says. Whoever needs them asks here."""

from search.config import PhotosConfig
from trainer.photos import CaptionedPhoto, PhotoSplit, load_photos, split_photos


def read_photos(photos: PhotosConfig) -> tuple[CaptionedPhoto, ...]:
    """All photos, sorted by name.

    Raises:
        PhotoFolderError: the folder cannot be used.
    """
    return load_photos(
        photos.folder,
        photos.trigger,
        maximum_pixels=photos.maximum_pixels,
        caption_template=photos.caption_template,
        repeats=photos.repeats,
    )


def read_split(photos: PhotosConfig) -> PhotoSplit:
    """The photos to train on and those to compare with.

    Raises:
        PhotoFolderError: the folder cannot be used.
        ValueError: there are too few different photos.
    """
    return split_photos(read_photos(photos), photos.reference_share, photos.seed)
