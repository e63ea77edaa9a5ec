"""The files of a photo folder: which are photos, which captions, and which only look as if they were looked at.

Names are compared in Unicode's composed form (NFC), for one system writes `é` as one character and another as two.
"""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trainer.data.photo_problem import PhotoProblem, listed, printable

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp")
OTHER_IMAGE_SUFFIXES = (".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jxl")
PHOTO_FILES = PHOTO_SUFFIXES + OTHER_IMAGE_SUFFIXES
"""Suffixes of files that are taken for photos; their content then decides."""
CAPTION_SUFFIX = ".txt"
OTHER_CAPTION_SUFFIXES = (".caption", ".captions", ".cap")
"""Suffixes that other programs give to captions."""
CAPTION_TABLES = ("metadata.jsonl", "metadata.csv", "metadata.json", "captions.json", "captions.jsonl", "captions.csv")
"""Files in which other programs keep the captions of all photos."""
FOLDER_DEPTH = 2
"""How far below a folder photos are looked for that are not read."""


@dataclass(frozen=True, kw_only=True)
class PhotoFiles:
    """The photos and captions of a folder by their stem in composed form, in order of stem."""

    photos: Mapping[str, Path]
    captions: Mapping[str, Path]
    """Those that are named as their photo."""
    misnamed: Mapping[str, Path]
    """What seems to be the caption of a photo that has none."""
    lonely: tuple[Path, ...]
    """Captions of no photo."""
    tables: tuple[Path, ...]
    """Files that hold captions of many photos, which are not read."""


def find_photo_files(folder: Path, problems: list[PhotoProblem]) -> PhotoFiles:
    """Sorts the files of a folder; hidden files, sub-folders and other files are passed over.

    Args:
        folder: exists.
        problems: takes what is wrong with names: one that is no text, or that two files share.
    """
    found: dict[str, dict[str, list[Path]]] = {"photo": defaultdict(list), "caption": defaultdict(list)}
    others: dict[str, Path] = {}
    tables = []
    for path in sorted(folder.iterdir()):
        name = printable(path.name)
        suffix = Path(name).suffix.lower()
        if path.name.startswith(".") or path.is_dir():
            continue
        kind = "photo" if suffix in PHOTO_FILES else "caption" if suffix == CAPTION_SUFFIX else ""
        if kind and name != path.name:
            problems.append(PhotoProblem(file=name, reason="has a name that is not UTF-8", remedy="rename it"))
        elif kind:
            found[kind][composed(path.stem)].append(path)
        elif suffix in OTHER_CAPTION_SUFFIXES and name == path.name:
            others[composed(path.stem).casefold()] = path
        elif name.lower() in CAPTION_TABLES:
            tables.append(path)
    for kind, by_stem in found.items():
        for stem, paths in by_stem.items():
            for path in paths[1:]:
                reason = f"is a second {kind} named {stem!r}, as {paths[0].name}"
                if path.name != paths[0].name and composed(path.name) == composed(paths[0].name):
                    reason += " (the same letters in another Unicode form)"
                problems.append(
                    PhotoProblem(file=path.name, reason=reason, remedy="rename one of them, and its caption")
                )
    photos, captions = ({stem: paths[0] for stem, paths in sorted(found[kind].items())} for kind in found)
    unpaired = {stem: path for stem, path in captions.items() if stem not in photos}
    candidates = {**others, **{stem.casefold(): path for stem, path in unpaired.items()}}
    misnamed = {}
    for stem, path in photos.items():
        keys = (stem.casefold(), composed(path.name).casefold())
        near = [candidates[key] for key in keys if key in candidates]
        if stem not in captions and near:
            misnamed[stem] = near[0]
    taken = set(misnamed.values())
    return PhotoFiles(
        photos=photos,
        captions={stem: path for stem, path in captions.items() if stem in photos},
        misnamed=misnamed,
        lonely=tuple(path for path in unpaired.values() if path not in taken),
        tables=tuple(tables),
    )


def caption_name_problem(photo: Path, caption: Path) -> PhotoProblem:
    """What is wrong where a photo has no caption, but a file beside it seems to be meant as such."""
    capitals = composed(caption.stem) != composed(photo.stem) and len(caption.stem) == len(photo.stem)
    how = " under a name that differs in capitals" if capitals else ""
    return PhotoProblem(
        file=photo.name,
        reason=f"has no caption, but {caption.name} lies beside it{how}",
        remedy=f"rename that to {photo.stem}{CAPTION_SUFFIX}",
    )


def caption_table_problem(table: Path, photo: Path) -> PhotoProblem:
    """What is wrong where photos have no caption, but a file may hold the captions of all."""
    return PhotoProblem(
        file=table.name,
        reason="may hold the captions of these photos, but is not read",
        remedy=f"write each into a text file named as its photo ({photo.stem}{CAPTION_SUFFIX} for {photo.name}), or "
        "move this file away if photos.caption_template shall stand in",
    )


def no_photos(folder: Path) -> PhotoProblem:
    """What is wrong with a folder without any photo: some may be in folders below it."""
    below = photos_below(folder)
    if not below:
        remedy = f"put {', '.join(PHOTO_SUFFIXES)} files there, each with a {CAPTION_SUFFIX} caption of the same name"
        return PhotoProblem(file="", reason="there are no photos", remedy=remedy)
    reason = f"there are no photos, but {_counted(below)}; folders below it are not looked at"
    return PhotoProblem(file="", reason=reason, remedy=_moved(below))


def folder_warnings(folder: Path) -> tuple[str, ...]:
    """A line on photos in folders below this one, which are not looked at; none if there are none."""
    below = photos_below(folder)
    return (f"{_counted(below)}, and folders below it are not looked at; {_moved(below)}",) if below else ()


def photos_below(folder: Path) -> dict[str, int]:
    """How many photos, by their suffix, lie in the folders below, by the folder's path; hidden folders left out."""
    found = {}
    for root, folders, files in os.walk(folder):
        place = Path(root).relative_to(folder)
        deep = len(place.parts)
        folders[:] = sorted(name for name in folders if deep < FOLDER_DEPTH and not name.startswith("."))
        count = sum(not name.startswith(".") and Path(name).suffix.lower() in PHOTO_FILES for name in files)
        if deep and count:
            found[printable(str(place))] = count
    return found


def composed(name: str) -> str:
    """A name in Unicode's composed form (NFC)."""
    return unicodedata.normalize("NFC", name)


def _counted(below: Mapping[str, int]) -> str:
    total = sum(below.values())
    return f"{total} in {listed(repr(name) for name in below)}"


def _moved(below: Mapping[str, int]) -> str:
    """What to do about it; other trainers write into a folder's name how often its photos come in an epoch."""
    repeats = {name: int(found[1]) for name in below if (found := re.match(r"(\d{1,3})_", Path(name).name))}
    hint = next(
        (
            f'; the {number} in its name is photos.repeats: {{"*": {number}}} here'
            for number in repeats.values()
            if number > 1
        ),
        "",
    )
    one = "set photos.folder to it" if len(below) == 1 else "set photos.folder to one of them"
    return f"{one}, or move the photos up{hint}"
