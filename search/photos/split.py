"""The photos of a search: read, selected, cut and split as its configuration says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evaluation.config import FaceConfig
from search.config.sections import PhotosConfig
from trainer.data.faces import FaceFinder, cut_to_face, keep_nearest
from trainer.data.faces import find_faces as look_for_faces
from trainer.data.photos import CaptionedPhoto, PhotoSplit, split_photos

if TYPE_CHECKING:
    from evaluation.faces import FaceModel

REFERENCE_PHOTOS = 5
"""How many real photos a voter is shown, at most."""


def read_split(photos: PhotosConfig, faces: FaceConfig, *, find_faces: bool = False) -> PhotoSplit:
    """The photos to train on and those to compare with.

    Args:
        photos: which photos, and how they are cut and split.
        faces: the face model; loaded only if photos are selected or cut by faces, or `find_faces` asks for it.
        find_faces: whether each photo must carry the place of its face.

    Raises:
        PhotoFolderError: the folder cannot be used.
        ValueError: there are too few different photos, or faces in them, or the face model cannot be used.
    """
    found = photos.load()
    if find_faces or photos.face_crop is not None or photos.nearest is not None:
        found = select_by_faces(found, photos, load_face_model(faces))
    return split_photos(found, photos.reference_share, photos.seed)


def load_face_model(faces: FaceConfig) -> FaceModel:
    """A face model before anything has begun: what cannot be fetched now is no less wrong than what is misspelt.

    Raises:
        ValueError: it cannot be used.
    """
    from evaluation.faces import FaceModel  # takes seconds to import
    from evaluation.loading_error import LoadingError

    try:
        return FaceModel(faces)
    except LoadingError as error:
        raise ValueError(str(error)) from error


def select_by_faces(
    found: tuple[CaptionedPhoto, ...], photos: PhotosConfig, finder: FaceFinder
) -> tuple[CaptionedPhoto, ...]:
    """The photos with their faces, as the configuration asks: the nearest to the mean identity, cut around the face."""
    faces = look_for_faces(found, finder)
    if photos.nearest is not None:
        faces = keep_nearest(faces, photos.nearest)
    if photos.face_crop is None:
        return tuple(face.photo for face in faces)
    return tuple(cut_to_face(face, photos.face_crop) for face in faces)
