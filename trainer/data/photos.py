"""A folder of captioned photos: read, checked as a whole, split into training and reference photos."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from PIL import Image, ImageOps

from trainer.data.picture import MAXIMUM_PIXELS, Box, PictureError, Size, decode_picture, open_picture, width_and_height
from trainer.data.resemblance import BITS, fingerprint, group_alike

TRIGGER = "{trigger}"
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp")
OTHER_IMAGE_SUFFIXES = (".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jxl")
PHOTO_FILES = PHOTO_SUFFIXES + OTHER_IMAGE_SUFFIXES
"""Suffixes of files that are taken for photos; their content then decides."""
CAPTION_SUFFIX = ".txt"


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
class PhotoProblem:
    """One thing wrong with a photo folder."""

    file: str
    """Name within the folder; "" when the folder as a whole is meant."""
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file + ': ' if self.file else ''}{self.reason}; {self.remedy}"


class PhotoFolderError(ValueError):
    """A photo folder cannot be used; `problems` lists everything that is wrong with it, in order of file name."""

    def __init__(self, folder: Path, problems: Iterable[PhotoProblem]) -> None:
        self.folder = folder
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.file, problem.reason)))
        count = f"{len(self.problems)} problem{'s' if len(self.problems) > 1 else ''}"
        super().__init__("\n".join([f"{count} in the photo folder {folder}:", *(f"  - {p}" for p in self.problems)]))


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
    files that are neither images nor .txt are ignored. Photos that are alike are no problem (see
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
    repeats = repeats or {}
    problems: list[PhotoProblem] = []
    photo_files, caption_files = _files_by_stem(folder, problems)
    photos = []
    for stem, path in sorted(photo_files.items()):
        identity = _check_photo(path, minimum_side, maximum_pixels, problems)
        if stem in caption_files:
            caption = _read_caption(caption_files[stem], trigger, problems)
        elif caption_template is not None:
            caption = _fill_in(caption_template, trigger, path.name, problems)
        else:
            remedy = f"write what it shows into {stem}{CAPTION_SUFFIX}, or set photos.caption_template"
            problems.append(_problem(path.name, "has no caption", remedy))
            continue
        if identity is not None and caption is not None:
            sha256, print_of_picture, size = identity
            photos.append(
                CaptionedPhoto(
                    path=path,
                    caption=caption,
                    sha256=sha256,
                    fingerprint=print_of_picture,
                    size=size,
                    repeats=next((n for pattern, n in repeats.items() if fnmatchcase(path.name, pattern)), 1),
                )
            )
    for stem, path in caption_files.items():
        if stem not in photo_files:
            remedy = f"add the photo {stem}.jpg or remove the caption"
            problems.append(_problem(path.name, "is a caption without a photo", remedy))
    for pattern in repeats:
        if not any(fnmatchcase(path.name, pattern) for path in photo_files.values()):
            problems.append(
                _problem("", f"photos.repeats names {pattern!r}, which fits no photo", "correct or remove it")
            )
    if not photo_files and not problems:
        remedy = f"put {', '.join(PHOTO_SUFFIXES)} files there, each with a {CAPTION_SUFFIX} caption of the same name"
        problems.append(_problem("", "there are no photos", remedy))
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


def open_photo(path: Path, size: int | Size, crop: Box | None = None) -> Image.Image:
    """The photo upright, in sRGB (`trainer.data.picture`), scaled to cover `size` and cut in the middle, or its crop
    scaled.

    Args:
        path: of a photo that `load_photos` has passed.
        size: width and height in pixels, or the side of a square.
        crop: a part of the upright photo, of the shape of `size`; None: all of it that covers `size`.
    """
    return _cut(open_picture(path), size, crop, Image.Resampling.LANCZOS)


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


def _files_by_stem(folder: Path, problems: list[PhotoProblem]) -> tuple[dict[str, Path], dict[str, Path]]:
    found: dict[str, dict[str, list[Path]]] = {"photo": defaultdict(list), "caption": defaultdict(list)}
    for path in sorted(folder.iterdir()):
        suffix = path.suffix.lower()
        if path.name.startswith(".") or path.is_dir():
            continue
        if suffix in PHOTO_FILES:
            found["photo"][path.stem].append(path)
        elif suffix == CAPTION_SUFFIX:
            found["caption"][path.stem].append(path)
    for kind, by_stem in found.items():
        for stem, paths in by_stem.items():
            for path in paths[1:]:
                remedy = "rename one of them, and its caption"
                problems.append(_problem(path.name, f"is a second {kind} named {stem!r}, as {paths[0].name}", remedy))
    photos, captions = ({stem: paths[0] for stem, paths in found[kind].items()} for kind in ("photo", "caption"))
    return photos, captions


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


def _read_caption(path: Path, trigger: str | None, problems: list[PhotoProblem]) -> str | None:
    """The caption as one line with the trigger filled in, or None with the reason added to `problems`."""
    try:
        caption = " ".join(path.read_text(encoding="utf-8-sig").split())
    except UnicodeDecodeError:
        problems.append(_problem(path.name, "is not UTF-8 text", "save the caption as UTF-8"))
        return None
    except OSError as error:
        problems.append(_problem(path.name, f"cannot be read ({error.strerror})", "check the file and its permissions"))
        return None
    if not caption:
        remedy = "write what the photo shows, or remove the file if photos.caption_template shall stand in"
        problems.append(_problem(path.name, "is an empty caption", remedy))
        return None
    return _fill_in(caption, trigger, path.name, problems)


def _fill_in(caption: str, trigger: str | None, file: str, problems: list[PhotoProblem]) -> str | None:
    if TRIGGER in caption and not trigger:
        problems.append(_problem(file, f"contains {TRIGGER}, but no trigger is set", "set the trigger word"))
        return None
    return caption.replace(TRIGGER, trigger or "")
