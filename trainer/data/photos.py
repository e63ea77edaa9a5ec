"""A folder of captioned photos: read, checked as a whole, split into training and reference photos."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from PIL import Image, ImageOps

from trainer.data.captions import fill_in, read_caption
from trainer.data.photo_files import (
    CAPTION_SUFFIX,
    PhotoFiles,
    caption_name_problem,
    caption_table_problem,
    composed,
    find_photo_files,
    no_photos,
)
from trainer.data.photo_problem import PhotoFolderError as PhotoFolderError
from trainer.data.photo_problem import PhotoProblem as PhotoProblem
from trainer.data.photo_problem import printable
from trainer.data.picture import MAXIMUM_PIXELS, Box, PictureError, Size, decode_picture, open_picture, width_and_height
from trainer.data.resemblance import BITS, fingerprint, group_alike


@dataclass(frozen=True, kw_only=True)
class CaptionedPhoto:
    """One photo and the words that describe it."""

    path: Path
    caption: str
    """Never empty; `{trigger}` is already filled in."""
    sha256: str
    """Of the file's bytes, 64 hexadecimal digits."""
    fingerprint: int
    """Perceptual hash of the picture (`trainer.data.resemblance`)."""
    size: Size
    """Of the upright photo."""
    repeats: int = 1
    """How often it comes in each epoch, at least 1."""
    crop: Box | None = None
    """The square of the upright photo that is used; None: as much around its centre as the shape wanted covers."""
    face: Box | None = None
    """The face in the upright photo; None: there is none, or none was looked for."""

    @property
    def shape(self) -> Size:
        """Width and height of what is used, before it is cut to a shape: the crop, or the whole photo."""
        return self.size if self.crop is None else self.crop[2:]


@dataclass(frozen=True, kw_only=True)
class PhotoSplit:
    """Photos to learn from and photos to compare with; no content is in both."""

    training: tuple[CaptionedPhoto, ...]
    reference: tuple[CaptionedPhoto, ...]


def load_photos(
    folder: Path,
    trigger: str | None = None,
    *,
    minimum_side: int = 64,
    maximum_pixels: int = MAXIMUM_PIXELS,
    caption_template: str | None = None,
    repeats: Mapping[str, int] | None = None,
) -> tuple[CaptionedPhoto, ...]:
    """The photos of a folder without a problem, as `survey_photos` reads them.

    Raises:
        PhotoFolderError: anything is wrong with any file; lists all of it.
    """
    photos, problems = survey_photos(
        folder,
        trigger,
        minimum_side=minimum_side,
        maximum_pixels=maximum_pixels,
        caption_template=caption_template,
        repeats=repeats,
    )
    if problems:
        raise PhotoFolderError(folder, problems)
    return photos


def survey_photos(
    folder: Path,
    trigger: str | None = None,
    *,
    minimum_side: int = 64,
    maximum_pixels: int = MAXIMUM_PIXELS,
    caption_template: str | None = None,
    repeats: Mapping[str, int] | None = None,
) -> tuple[tuple[CaptionedPhoto, ...], tuple[PhotoProblem, ...]]:
    """Reads the photos of `folder`, each paired by stem with its caption STEM.txt (UTF-8), sorted by stem.

    Photos are JPEG, PNG or WebP files, recognised by their content and decoded in full. Hidden files, sub-folders and
    files that are neither images nor captions are ignored; what another program would take for a caption is a problem
    where a photo has none (`trainer.data.photo_files`). Photos that are alike are no problem (see
    `resemblance_warnings`): a series of shots is what people have, and the split keeps it together.

    Args:
        folder: the photo folder.
        trigger: the word that `{trigger}` in captions stands for.
        minimum_side: least width and height of a photo in pixels.
        maximum_pixels: most width x height of a photo; looked at before it is decoded.
        caption_template: caption of a photo without a file of its own; None: a photo without a caption is a problem.
            An empty caption file is a problem either way, for it says that somebody meant to write something.
        repeats: how often photos come in an epoch, by patterns of their file names (`close-up*`, case matters); the
            first that fits counts, other photos come once. One that fits no photo is a problem.

    Returns:
        The photos that can be used, and all that is wrong with the others and with the folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return (), (_problem("", "there is no such folder", "check the path of the photos"),)
    if (shown := printable(str(folder))) != str(folder):
        return (), (_problem("", f"the path {shown} is not UTF-8", "rename its folders"),)
    problems: list[PhotoProblem] = []
    files = find_photo_files(folder, problems)
    photos = []
    for stem, path in files.photos.items():
        identity = _check_photo(path, minimum_side, maximum_pixels, problems)
        caption = _caption_of(stem, path, files, caption_template, trigger, problems)
        if identity is not None and caption is not None:
            sha256, print_of_picture, size = identity
            photos.append(
                CaptionedPhoto(
                    path=path,
                    caption=caption,
                    sha256=sha256,
                    fingerprint=print_of_picture,
                    size=size,
                    repeats=next((n for pattern, n in (repeats or {}).items() if _fits(path, pattern)), 1),
                )
            )
    if files.tables and (without := set(files.photos) - set(files.captions)):
        problems += [caption_table_problem(table, files.photos[min(without)]) for table in files.tables]
    for path in files.lonely:
        remedy = f"add the photo {path.stem}.jpg or remove the caption"
        problems.append(_problem(path.name, "is a caption without a photo", remedy))
    if not files.photos and not problems:
        problems.append(no_photos(folder))
    for pattern in (repeats or {}) if files.photos else ():
        if not any(_fits(path, pattern) for path in files.photos.values()):
            problems.append(
                _problem("", f"photos.repeats names {pattern!r}, which fits no photo", "correct or remove it")
            )
    return tuple(photos), tuple(problems)


def resemblance_warnings(photos: Sequence[CaptionedPhoto]) -> tuple[PhotoProblem, ...]:
    """One line for every photo that repeats an earlier one, byte for byte or nearly; in the order of `photos`."""
    found = []
    for group in group_alike([photo.fingerprint for photo in photos]):
        first = photos[group[0]]
        for position in group[1:]:
            photo = photos[position]
            differing = (photo.fingerprint ^ first.fingerprint).bit_count()
            near = f"is nearly the same picture as {first.path.name} ({differing} of {BITS} bits differ)"
            reason = f"is a copy of {first.path.name}" if photo.sha256 == first.sha256 else near
            found.append((position, _problem(photo.path.name, reason, "remove one unless it shall count twice")))
    return tuple(problem for _, problem in sorted(found, key=lambda item: item[0]))


def split_photos(photos: Sequence[CaptionedPhoto], reference_share: float, seed: int) -> PhotoSplit:
    """Sets a share of the photos apart as reference photos, which are never trained on.

    The choice depends on the photos' content and the seed, not on names or order. Photos that are alike
    (`trainer.data.resemblance`) land on the same side, or likeness would be measured against what was trained on, and a
    share counts them once. At least two different photos become references and at least one remains.

    Args:
        photos: any order.
        reference_share: share of the photos wanted as reference, above 0 and below 1.
        seed: picks another choice of the same size.

    Raises:
        ValueError: the share is out of range or fewer than three different photos are given.
    """
    if not 0 < reference_share < 1:
        raise ValueError(f"reference_share is {reference_share!r}; it must lie between 0 and 1, for example 0.2")
    groups = [
        frozenset(photos[position].sha256 for position in group)
        for group in group_alike([photo.fingerprint for photo in photos])
    ]
    if len(groups) < 3:
        raise ValueError(
            f"the folder has {len(groups)} different photo(s), near-duplicates counted once; at least 3 are needed, "
            "since 2 are kept as references and never trained on: add photos"
        )
    shuffled = sorted(groups, key=lambda group: hashlib.sha256(f"{seed}:{min(group)}".encode()).digest())
    count = min(max(2, round(reference_share * len(groups))), len(groups) - 1)
    reference = frozenset[str]().union(*shuffled[:count])
    return PhotoSplit(
        training=tuple(photo for photo in photos if photo.sha256 not in reference),
        reference=tuple(photo for photo in photos if photo.sha256 in reference),
    )


def repeated(photos: Sequence[CaptionedPhoto]) -> tuple[CaptionedPhoto, ...]:
    """Each photo as often as it comes in an epoch, copies side by side."""
    return tuple(photo for photo in photos for _ in range(photo.repeats))


def open_photo(photo: CaptionedPhoto, size: int | Size) -> Image.Image:
    """The photo upright, in sRGB (`trainer.data.picture`), scaled to cover `size` and cut in the middle, or its crop
    scaled.

    Args:
        photo: as `load_photos` has passed it. A crop is of the shape of `size`.
        size: width and height in pixels, or the side of a square.

    Raises:
        PictureError: the file is not the one that was checked.
    """
    return _cut(open_picture(photo.path, photo.sha256), size, photo.crop, Image.Resampling.LANCZOS)


def open_face_mask(photo: CaptionedPhoto, size: int | Size) -> Image.Image:
    """Which part of the photo, cut as `open_photo` cuts it, is face: mode F, `size` pixels, each in [0, 1].

    A pixel is the share of its area that the face's box covers; all are 0 without a face.
    """
    if photo.face is None:
        return Image.new("F", width_and_height(size))
    mask = Image.new("F", photo.size)
    x, y, width, height = photo.face
    mask.paste(1.0, (x, y, x + width, y + height))
    return _cut(mask, size, photo.crop, Image.Resampling.BOX)


def _cut(picture: Image.Image, size: int | Size, crop: Box | None, filter_: Image.Resampling) -> Image.Image:
    if crop is None:
        return ImageOps.fit(picture, width_and_height(size), filter_)
    x, y, width, height = crop
    return picture.resize(width_and_height(size), filter_, box=(x, y, x + width, y + height))


def _problem(file: str, reason: str, remedy: str) -> PhotoProblem:
    return PhotoProblem(file=file, reason=reason, remedy=remedy)


def _caption_of(
    stem: str,
    path: Path,
    files: PhotoFiles,
    template: str | None,
    trigger: str | None,
    problems: list[PhotoProblem],
) -> str | None:
    """The caption of a photo, or None with the reason added to `problems`; the template never hides a caption."""
    if stem in files.captions:
        return read_caption(files.captions[stem], trigger, problems)
    if stem in files.misnamed:
        problems.append(caption_name_problem(path, files.misnamed[stem]))
        return None
    if template is not None:
        return fill_in(template, trigger, path.name, problems)
    remedy = f"write what it shows into {path.stem}{CAPTION_SUFFIX}, or set photos.caption_template"
    problems.append(_problem(path.name, "has no caption", remedy))
    return None


def _fits(path: Path, pattern: str) -> bool:
    return fnmatchcase(composed(path.name), composed(pattern))


def _check_photo(
    path: Path, minimum_side: int, maximum_pixels: int, problems: list[PhotoProblem]
) -> tuple[str, int, Size] | None:
    """SHA-256, fingerprint and size of a photo that decodes, or None with the reason added to `problems`."""
    try:
        content = path.read_bytes()
        picture = decode_picture(content, maximum_pixels=maximum_pixels)
    except OSError as error:
        problems.append(_problem(path.name, f"cannot be read ({error.strerror})", "check the file and its permissions"))
        return None
    except PictureError as error:
        problems.append(_problem(path.name, error.reason, error.remedy))
        return None
    width, height = picture.size
    if min(width, height) < minimum_side:
        reason = f"is too small ({width}x{height} pixels)"
        problems.append(_problem(path.name, reason, f"both sides need at least {minimum_side} pixels"))
        return None
    return hashlib.sha256(content).hexdigest(), fingerprint(picture), picture.size
