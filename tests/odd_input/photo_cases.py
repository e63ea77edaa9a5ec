"""Photo folders as people have them: names, layouts and files of other programs and systems."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tests.odd_input.case import CONFIGURATION, TRAINING, Case, replace, setting

PHOTOS = ("search.photos", "photos", "--detector", "none", "--resolution", "64")
REPORT = ("photos-report/*",)
SPLIT = "photos: 15 to train on, 6 to compare with"
KOHYA = "10_sks man"
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
AVIF = b"\0\0\0\x1cftypavif\0\0\0\0mif1avifmiaf" + bytes(100)


def renamed(*pairs: tuple[str, str]) -> Callable[[Path], None]:
    """A change: files of the photo folder under other names."""

    def change(folder: Path) -> None:
        for old, new in pairs:
            (folder / "photos" / old).rename(folder / "photos" / new)

    return change


LATIN = os.fsdecode(b"\xe4")
"""An ä as old archives have it; no UTF-8."""


def _latin_names(folder: Path) -> None:
    for path in list((folder / "photos").iterdir()):
        path.rename(path.with_name(LATIN + path.name))


def _latin_folder(folder: Path) -> None:
    (folder / "photos").rename(folder / f"{LATIN}photos")
    (folder / "photos").symlink_to(folder / f"{LATIN}photos")


def _into_kohya(folder: Path) -> None:
    (folder / "img").mkdir()
    (folder / "photos").rename(folder / "img" / KOHYA)
    replace(CONFIGURATION, "folder: photos", "folder: img")(folder)


def _mixed_with_kohya(folder: Path) -> None:
    below = folder / "photos" / KOHYA
    below.mkdir()
    for name in ("happy", "sad", "smug"):
        for suffix in (".png", ".txt"):
            (folder / "photos" / f"{name}{suffix}").rename(below / f"{name}{suffix}")


def _kohya_kept(folder: Path) -> None:
    _into_kohya(folder)
    replace(CONFIGURATION, "folder: img", f'folder: "img/{KOHYA}"')(folder)


def _captions_as(pattern: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for path in (folder / "photos").glob("*.png"):
            path.with_suffix(".txt").rename(path.with_name(pattern.format(stem=path.stem, name=path.name)))

    return change


def _table_beside_captions(folder: Path) -> None:
    (folder / "photos" / "metadata.jsonl").write_text("{}")


def _captions_in_a_table(folder: Path) -> None:
    for path in (folder / "photos").glob("*.txt"):
        path.unlink()
    (folder / "photos" / "metadata.jsonl").write_text('{"file_name": "happy.png", "text": "a photo of sks man"}\n')


def _content(name: str, content: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "photos" / name).write_bytes(content)
        (folder / "photos" / name).with_suffix(".txt").write_text("a photo of {trigger} man")

    return change


def _broken_class_image(folder: Path) -> None:
    (folder / "men").mkdir()
    (folder / "men" / "a.png").touch()


def _small(folder: Path) -> None:
    for number, path in enumerate(sorted((folder / "photos").glob("*.png"))):
        side = 64 if number < 2 else 512
        with Image.open(path) as picture:
            larger = picture.convert("RGB").resize((side, side))
        larger.save(path)


def _form(form: str, name: str) -> str:
    return unicodedata.normalize(form, name)  # type: ignore[arg-type]


TEMPLATE = "photos.caption_template=a photo of {trigger}"
ONE_LATIN = renamed(*((f"happy{suffix}", f"{LATIN}happy{suffix}") for suffix in (".png", ".txt")))
COMPOSED = renamed(("happy.png", _form("NFC", "été.png")), ("happy.txt", _form("NFD", "été.txt")))

CASES = [
    Case(
        "name-not-utf-8",
        ONE_LATIN,
        says=("2 problems in the photo folder", r"\xe4happy.png: has a name that is not UTF-8; rename it"),
    ),
    Case(
        "name-not-utf-8-in-a-training",
        ONE_LATIN,
        ("trainer.run", TRAINING),
        says=(r"\xe4happy.png: has a name that is not UTF-8; rename it", r"\xe4happy.txt: has a name"),
    ),
    Case(
        "name-not-utf-8-in-the-report",
        ONE_LATIN,
        PHOTOS,
        exit_code=0,
        says=(r"\xe4happy.png refused", "has a name that is not UTF-8; rename it", "20 used, 0 cropped, 1 refused"),
        leaves=REPORT,
    ),
    Case("all-names-not-utf-8", _latin_names, PHOTOS, says=("0 used, 0 cropped, 21 refused",), leaves=REPORT),
    Case(
        "folder-not-utf-8",
        _latin_folder,
        says=(r"\xe4photos is not UTF-8; rename its folders",),
    ),
    Case("name-in-another-script", renamed(("happy.png", "😀 Фото.png"), ("happy.txt", "😀 Фото.txt")), exit_code=0),
    Case("name-in-two-unicode-forms", COMPOSED, exit_code=0, says=(SPLIT,), silent=("été",)),
    Case(
        "repeats-in-another-unicode-form",
        renamed(*((f"happy{suffix}", _form("NFD", f"été{suffix}")) for suffix in (".png", ".txt"))),
        setting(f'photos.repeats={{"{_form("NFC", "été*")}": 3}}'),
        exit_code=0,
        says=(SPLIT,),
    ),
    Case(
        "name-in-other-capitals",
        renamed(("happy.png", "Beach.png"), ("happy.txt", "beach.txt")),
        says=(
            "1 problem in the photo folder",
            "Beach.png: has no caption, but beach.txt lies beside it under a name that differs in capitals; rename "
            "that to Beach.txt",
        ),
    ),
    Case(
        "captions-as-kohya-names-them",
        _captions_as("{stem}.caption"),
        says=(
            "21 problems",
            "happy.png: has no caption, but happy.caption lies beside it; rename that to happy.txt",
        ),
    ),
    Case(
        "captions-as-kohya-names-them-and-a-template",
        _captions_as("{stem}.caption"),
        setting(TEMPLATE),
        says=("21 problems", "happy.caption lies beside it; rename that to happy.txt"),
    ),
    Case(
        "captions-named-after-the-whole-file",
        _captions_as("{name}.txt"),
        setting(TEMPLATE),
        says=("21 problems", "happy.png: has no caption, but happy.png.txt lies beside it; rename that to happy.txt"),
        silent=("happy.png.jpg", "without a photo"),
    ),
    Case(
        "captions-in-a-table",
        _captions_in_a_table,
        says=("22 problems", "metadata.jsonl: may hold the captions of these photos, but is not read"),
    ),
    Case(
        "captions-in-a-table-and-a-template",
        _captions_in_a_table,
        setting(TEMPLATE),
        says=(
            "1 problem in",
            "metadata.jsonl: may hold the captions of these photos, but is not read; write each into a text file named "
            "as its photo (angry.txt for angry.png), or move this file away if photos.caption_template shall stand in",
        ),
    ),
    Case(
        "table-beside-captions",
        _table_beside_captions,
        exit_code=0,
        says=(SPLIT,),
        silent=("metadata",),
    ),
    Case(
        "folders-as-kohya-has-them",
        _into_kohya,
        says=(
            f"there are no photos, but 21 in '{KOHYA}'; folders below it are not looked at; set photos.folder to it, "
            'or move the photos up; the 10 in its name is photos.repeats: {"*": 10} here',
        ),
    ),
    Case("folder-as-kohya-names-it", _kohya_kept, exit_code=0, says=(SPLIT,), silent=("10",)),
    Case(
        "photos-in-a-folder-below",
        _mixed_with_kohya,
        exit_code=0,
        says=(f"photos: 3 in '{KOHYA}', and folders below it are not looked at; set photos.folder to it",),
    ),
    Case(
        "photos-in-a-folder-below-in-the-report",
        _mixed_with_kohya,
        PHOTOS,
        exit_code=0,
        says=(f"photos: 3 in '{KOHYA}'", "18 used, 0 cropped, 0 refused"),
        leaves=REPORT,
    ),
    Case(
        "photo-of-an-iphone",
        _content("IMG_0001.HEIC", HEIC),
        says=("IMG_0001.HEIC: is a HEIC image and none of JPEG, PNG or WebP; export it as JPEG or PNG, or remove it",),
    ),
    Case("photo-of-an-iphone-named-jpg", _content("a.jpg", HEIC), says=("a.jpg: is a HEIC image",)),
    Case("avif", _content("a.avif", AVIF), says=("a.avif: is an AVIF image and none of JPEG, PNG or WebP; export it",)),
    Case(
        "photos-too-small-for-the-resolution",
        _small,
        setting("training.resolution=512"),
        exit_code=0,
        says=(
            "photos: 2 of 21 photos are enlarged to 512 pixels (angry.png 8.0 times, confused.png 8.0 times), and the "
            "adapter learns their blur; take larger ones or a smaller training.resolution",
        ),
    ),
    Case(
        "broken-class-image",
        _broken_class_image,
        setting("photos.prior={prompt: a photo of a man, folder: men}", "training.prior_loss_weight=1"),
        says=("men: - a.png: is empty (0 bytes); copy it again or remove it",),
    ),
]
