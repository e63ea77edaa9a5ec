"""The photos of a search: read, checked, chosen, cut and split as its configuration says."""

from __future__ import annotations

from evaluation.config import FaceConfig
from search.config.sections import PhotosConfig
from trainer.data.faces import FaceFinder, cut_to_face, keep_nearest
from trainer.data.faces import find_faces as look_for_faces
from trainer.data.photos import CaptionedPhoto, PhotoSplit, load_photos, split_photos


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


def read_split(photos: PhotosConfig, faces: FaceConfig, *, find_faces: bool = False) -> PhotoSplit:
    """The photos to train on and those to compare with.

    Args:
        photos: Says which and how.
        faces: The face model; loaded only if photos are chosen or cut by faces, or faces are asked for.
        find_faces: Say where the face of each photo is.

    Raises:
        PhotoFolderError: the folder cannot be used.
        ValueError: there are too few different photos, or faces in them, or the face model cannot be used.
    """
    found = read_photos(photos)
    if find_faces or photos.face_crop is not None or photos.nearest is not None:
        from evaluation.faces import FaceModel  # takes seconds to import

        found = prepare(found, photos, FaceModel(faces))
    return split_photos(found, photos.reference_share, photos.seed)


def prepare(found: tuple[CaptionedPhoto, ...], photos: PhotosConfig, finder: FaceFinder) -> tuple[CaptionedPhoto, ...]:
    """The photos with their faces: those nearest to the mean identity, cut around the face, each if asked for."""
    faces = look_for_faces(found, finder)
    if photos.nearest is not None:
        faces = keep_nearest(faces, photos.nearest)
    if photos.face_crop is None:
        return tuple(face.photo for face in faces)
    return tuple(cut_to_face(face, photos.face_crop) for face in faces)


REFERENCE_PHOTOS = 5
"""How many real photos a voter is shown, at most."""
