"""The check of a photo folder: each photo is used, cropped or refused, with its face distance and sharpness."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Literal

import cv2
import numpy as np
from PIL import Image

from search.config.sections import PhotosConfig
from trainer.data.faces import FaceFinder, FacePhoto, cut_to_face, find_faces, keep_nearest
from trainer.data.photo_files import CAPTION_SUFFIX, PHOTO_FILES, composed
from trainer.data.photo_problem import PhotoProblem, printable
from trainer.data.photos import open_photo, resemblance_warnings
from trainer.data.picture import Box, Size
from trainer.files import write_file

Status = Literal["used", "cropped", "refused"]
STATUSES: tuple[Status, ...] = ("used", "cropped", "refused")


@dataclass(frozen=True, kw_only=True)
class PhotoRow:
    """One photo of the folder."""

    file: str
    status: Status
    """`used` as its middle square, or the middle of its bucket's shape, `cropped` to the square around its face, or
    `refused`."""
    reasons: tuple[str, ...]
    """Why it is refused; empty otherwise."""
    warnings: tuple[str, ...]
    """What is worth a look although the photo is used."""
    caption: str | None = None
    width: int | None = None
    """Of the upright photo in pixels; None if it does not decode, as all below."""
    height: int | None = None
    crop: Box | None = None
    """The square that is used, if not the middle one."""
    bucket: Size | None = None
    """Width and height in pixels to which it is cut for training; None: a square, or no buckets were asked for."""
    face: Box | None = None
    """None: no face was found, or none was looked for."""
    identity_distance: float | None = None
    """Distance of the face to the mean of all faces of the folder, [0, 2]; None without a face."""
    sharpness: float | None = None
    """See `sharpness`; of the part that is used."""


@dataclass(frozen=True, kw_only=True)
class PhotoReport:
    """All photos of a folder in order of name, and what is wrong with the folder besides."""

    folder: Path
    photos: tuple[PhotoRow, ...]
    problems: tuple[str, ...]
    """Problems of no photo in particular, such as a caption without a photo."""
    warnings: tuple[str, ...] = ()
    """What is worth a look in the folder as a whole, such as captions without the trigger."""
    maximum_pixels: int
    """Limit above which nothing is decoded."""

    def count(self, status: Status) -> int:
        """How many photos have this status."""
        return sum(row.status == status for row in self.photos)

    @property
    def buckets(self) -> dict[str, int]:
        """How many of the photos that are used go into each bucket, by its size as `448x576`, in order of width."""
        counts = Counter(row.bucket for row in self.photos if row.status != "refused" and row.bucket is not None)
        return {size_name(size): count for size, count in sorted(counts.items())}

    @property
    def usable(self) -> int:
        """How many photos are used, cropped or not."""
        return len(self.photos) - self.count("refused")

    def as_json(self) -> str:
        """The report as one JSON object, counts first."""
        values: dict[str, object] = {"folder": printable(str(self.folder))}
        values.update({status: self.count(status) for status in STATUSES})
        values.update(
            buckets=self.buckets,
            problems=self.problems,
            warnings=self.warnings,
            photos=[asdict(row) for row in self.photos],
        )
        return json.dumps(values, indent=1, allow_nan=False)

    def write(self, path: Path) -> None:
        """Writes the JSON object."""
        write_file(path, lambda temporary: temporary.write_text(self.as_json(), "utf-8"))


def examine_photos(photos: PhotosConfig, finder: FaceFinder | None, *, resolution: int) -> PhotoReport:
    """Examines every photo of a folder as a search would, but continues after the first that it would refuse.

    Args:
        photos: the folder, and how its photos are selected and cut.
        finder: finds faces; None leaves faces out, and photos are then neither selected nor cut by them.
        resolution: side in pixels at which sharpness is measured: that of training; buckets have at most its area.

    Raises:
        ValueError: the finder failed, `photos.nearest` asks for more faces than there are, or a bucket's step for more
            than the resolution.
    """
    found, problems = photos.survey()
    faces = (
        tuple(FacePhoto(photo=photo, face=None, identity_distance=None) for photo in found)
        if finder is None
        else find_faces(found, finder)
    )
    kept = keep_nearest(faces, photos.nearest) if finder is not None and photos.nearest is not None else faces
    alike = {problem.file: problem.reason for problem in resemblance_warnings(found)}
    rows = [
        _row(
            face, photos, alike.get(face.photo.path.name), kept=face in kept, looked=finder is not None, side=resolution
        )
        for face in faces
    ]
    refused, others = _by_photo(photos.folder, problems)
    rows += [PhotoRow(file=file, status="refused", reasons=tuple(why), warnings=()) for file, why in refused.items()]
    return PhotoReport(
        folder=photos.folder,
        photos=tuple(sorted(rows, key=lambda row: row.file)),
        problems=tuple(others),
        warnings=photos.warnings(found) if found else (),
        maximum_pixels=photos.maximum_pixels,
    )


def size_name(size: Size) -> str:
    """A size as people write it."""
    return f"{size[0]}x{size[1]}"


def sharpness(picture: Image.Image) -> float:
    """Variance of the Laplacian of a grey picture, at least 0 (Pech-Pacheco et al. 2000).

    Blur and enlargement lower it, noise raises it. It compares photos at one resolution, not at several.
    """
    grey = np.asarray(picture.convert("L"))
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())


def _row(face: FacePhoto, photos: PhotosConfig, alike: str | None, *, kept: bool, looked: bool, side: int) -> PhotoRow:
    photo = face.photo if photos.face_crop is None else cut_to_face(face, photos.face_crop)
    bucket = None if photos.buckets is None else photos.buckets.size_of(photo.shape, side)
    notes = [alike] if alike else []
    if looked and face.face is None:
        notes.append("no face was found")
    if bucket is None and min(photo.shape) < side:
        notes.append(f"its square of {min(photo.shape)} pixels is enlarged to {side}")
    if bucket is not None and any(own < wanted for own, wanted in zip(photo.shape, bucket, strict=True)):
        notes.append(f"its {size_name(photo.shape)} pixels are enlarged for {size_name(bucket)}")
    away = "no face was found" if face.identity_distance is None else "its face is farther from the mean"
    return PhotoRow(
        file=photo.path.name,
        status="refused" if not kept else "cropped" if photo.crop else "used",
        reasons=() if kept else (f"{away}, and only the {photos.nearest} nearest are kept",),
        warnings=tuple(notes),
        caption=photo.caption,
        width=photo.size[0],
        height=photo.size[1],
        crop=photo.crop,
        bucket=bucket,
        face=face.face,
        identity_distance=face.identity_distance,
        sharpness=sharpness(open_photo(photo, bucket or side)),
    )


def _by_photo(folder: Path, problems: Sequence[PhotoProblem]) -> tuple[dict[str, list[str]], list[str]]:
    """Reasons by the photo that they concern, whether of the photo or of its caption; and those that concern none."""
    images = (
        {
            printable(path.name): composed(printable(path.stem))
            for path in folder.iterdir()
            if path.suffix.lower() in PHOTO_FILES
        }
        if folder.is_dir()
        else {}
    )
    refused: dict[str, list[str]] = defaultdict(list)
    others = []
    for problem in problems:
        file = PurePath(problem.file)
        caption_of = composed(file.stem) if file.suffix.lower() == CAPTION_SUFFIX else None
        concerned = [name for name, stem in images.items() if problem.file == name or caption_of == stem]
        for name in concerned:
            refused[name].append(f"{problem.reason}; {problem.remedy}" if problem.file == name else str(problem))
        if not concerned:
            others.append(str(problem))
    return refused, others
