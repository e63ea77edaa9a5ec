"""`python -m search.photos`: every photo is accounted for, with faces found by their colour."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import typer
from numpy.typing import NDArray
from PIL import Image, ImageOps
from typer.testing import CliRunner

import evaluation.faces
from evaluation.config import FaceConfig
from search.config.sections import PhotosConfig
from search.photos.__main__ import main
from search.photos.check import PhotoReport, examine_photos, sharpness
from search.photos.contact_sheet import COLOURS, FACE, GAP, MISSING, TEXT, TILE, draw_contact_sheet
from tests.support.command import CEILING
from trainer.data.buckets import AspectBuckets
from trainer.data.picture import Box

SIDE = 64

APP = typer.Typer(add_completion=False)
APP.command()(main)


@dataclass(frozen=True)
class RedSquare:
    box: Box
    embedding: NDArray[np.float64]


class RedSquareFinder:
    """A face is what is red; its blue is the angle of its embedding in degrees."""

    def __init__(self, config: FaceConfig) -> None:
        self.config = config

    def embed(self, images: Sequence[Image.Image]) -> list[RedSquare | None]:
        return [self._find(np.asarray(image, dtype=int)) for image in images]

    def _find(self, pixels: NDArray[np.int_]) -> RedSquare | None:
        rows, columns = np.nonzero(pixels[:, :, 0] > 200)
        if not len(rows):
            return None
        angle = np.radians(np.median(pixels[rows, columns, 2]))
        x, y = int(columns.min()), int(rows.min())
        box = x, y, int(columns.max()) - x + 1, int(rows.max()) - y + 1
        return RedSquare(box, np.array([np.cos(angle), np.sin(angle)]))


FINDER = RedSquareFinder(FaceConfig())


def write_photo(folder: Path, stem: str, *, angle: int | None, seed: int) -> None:
    """Dark noise of 200 x 100 pixels, with a face of 30 x 40 at (20, 30) if there is an angle."""
    pixels = np.random.default_rng(seed).integers(0, 90, (100, 200, 3), dtype=np.uint8)
    if angle is not None:
        pixels[30:70, 20:50] = (255, 0, angle)
    Image.fromarray(pixels).save(folder / f"{stem}.png")
    (folder / f"{stem}.txt").write_text("a photo of {trigger}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Faces at 0, 10, 20 and 90 degrees, a photo without one, a copy, and five things that cannot be used."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed, (stem, angle) in enumerate({"a": 0, "b": 10, "c": 20, "far": 90, "faceless": None}.items()):
        write_photo(folder, stem, angle=angle, seed=seed)
    (folder / "twin.png").write_bytes((folder / "b.png").read_bytes())
    (folder / "twin.txt").write_text("a photo of {trigger}")
    (folder / "text.jpg").write_text("no photo")
    (folder / "text.txt").write_text("a caption")
    write_photo(folder, "uncaptioned", angle=0, seed=9)
    (folder / "uncaptioned.txt").unlink()
    write_photo(folder, "wordless", angle=0, seed=10)
    (folder / "wordless.txt").write_text(" ")
    (folder / "lonely.txt").write_text("a caption")
    return folder


def rows_of(report: PhotoReport) -> dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]]:
    return {row.file: (row.status, row.reasons, row.warnings) for row in report.photos}


def test_every_photo_is_used_cropped_or_refused_with_its_reasons(folder: Path) -> None:
    config = PhotosConfig(folder=folder, face_crop=2, nearest=4)
    report = examine_photos(config, FINDER, resolution=SIDE)
    rows = rows_of(report)
    assert {file: status for file, (status, _, _) in rows.items()} == {
        **dict.fromkeys(("a.png", "b.png", "c.png", "twin.png"), "cropped"),
        **dict.fromkeys(("faceless.png", "far.png", "text.jpg", "uncaptioned.png", "wordless.png"), "refused"),
    }
    assert rows["twin.png"][2] == ("is a copy of b.png",)
    assert rows["far.png"][1] == ("its face is farther from the mean, and only the 4 nearest are kept",)
    assert rows["faceless.png"][1] == ("no face was found, and only the 4 nearest are kept",)
    assert rows["text.jpg"][1][0].startswith("is not a JPEG, PNG or WebP image")
    assert rows["uncaptioned.png"][1][0].startswith("has no caption; write")
    assert rows["wordless.png"][1][0].startswith("wordless.txt: is an empty caption")
    assert [problem.split(";")[0] for problem in report.problems] == ["lonely.txt: is a caption without a photo"]
    assert (report.usable, report.count("refused")) == (4, 5)


def test_a_row_holds_what_was_measured(folder: Path) -> None:
    """The square of 2 x 40 around (35, 50) is 10 ... 90 high and shifted in from the left edge."""
    report = examine_photos(PhotosConfig(folder=folder, face_crop=2), FINDER, resolution=SIDE)
    row = report.photos[0]
    assert (row.file, row.width, row.height, row.caption) == ("a.png", 200, 100, "a photo of sks")
    assert (row.face, row.crop) == ((20, 30, 30, 40), (0, 10, 80, 80))
    angles = np.radians([0, 10, 20, 90, 10])
    mean = np.arctan2(np.sin(angles).mean(), np.cos(angles).mean())
    assert row.identity_distance == pytest.approx(2 * np.sin(mean / 2))
    with Image.open(folder / "a.png") as picture:
        square = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS, box=(0, 10, 80, 90))
    assert row.sharpness == sharpness(square)
    faceless = {row.file: row for row in report.photos}["faceless.png"]
    assert (faceless.status, faceless.warnings, faceless.identity_distance) == ("used", ("no face was found",), None)


def test_a_small_square_is_mentioned_and_faces_may_be_left_out(folder: Path) -> None:
    report = examine_photos(PhotosConfig(folder=folder), None, resolution=128)
    row = report.photos[0]
    assert (row.status, row.face, row.warnings) == ("used", None, ("its square of 100 pixels is enlarged to 128",))


def test_each_photo_is_told_its_bucket_when_asked(tmp_path: Path) -> None:
    """At 64 pixels in steps of 8 there are 48x80, 56x72, 64x64 and their like lying down."""
    for seed, (stem, size) in enumerate({"a": (80, 90), "b": (120, 160), "c": (200, 70), "d": (90, 90)}.items()):
        pixels = np.random.default_rng(seed).integers(0, 90, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{stem}.png")
    (tmp_path / "e.png").write_text("no photo")
    config = PhotosConfig(folder=tmp_path, caption_template="a photo", buckets=AspectBuckets(step=8))
    report = examine_photos(config, None, resolution=SIDE)
    # 8:9 lies nearer to the square (a factor of 9/8) than 7:9 (8/7).
    assert [row.bucket for row in report.photos] == [(64, 64), (56, 72), (80, 48), (64, 64), None]
    assert report.buckets == {"56x72": 1, "64x64": 2, "80x48": 1}
    assert [row.warnings for row in report.photos] == [()] * 5
    with Image.open(tmp_path / "b.png") as picture:
        cut = ImageOps.fit(picture, (56, 72), Image.Resampling.LANCZOS)
    assert report.photos[1].sharpness == sharpness(cut)
    values = json.loads(report.as_json())
    assert values["buckets"] == {"56x72": 1, "64x64": 2, "80x48": 1}
    assert [row["bucket"] for row in values["photos"]] == [[64, 64], [56, 72], [80, 48], [64, 64], None]
    enlarged = examine_photos(config, None, resolution=128)
    assert enlarged.photos[2].bucket == (168, 96)
    assert enlarged.photos[2].warnings == ("its 200x70 pixels are enlarged for 168x96",)
    without = examine_photos(config.model_copy(update={"buckets": None}), None, resolution=SIDE)
    assert without.buckets == {}
    assert {row.bucket for row in without.photos} == {None}


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    """One point of 8 on black: -32 in its place, 8 in its four neighbours', over 25 pixels; their sum is 0."""
    pixels = np.zeros((5, 5), dtype=np.uint8)
    pixels[2, 2] = 8
    assert sharpness(Image.fromarray(pixels)) == pytest.approx((32**2 + 4 * 8**2) / 25)
    assert sharpness(Image.new("RGB", (8, 8), "red")) == 0


def test_the_sheet_shows_photos_with_their_squares_and_blanks(folder: Path) -> None:
    report = examine_photos(PhotosConfig(folder=folder, face_crop=2), FINDER, resolution=SIDE)
    sheet = draw_contact_sheet(report)
    assert sheet.size == (6 * (TILE + GAP) + GAP, 2 * (TILE + TEXT + GAP) + GAP)
    places = {row.file: position for position, row in enumerate(report.photos)}

    def pixel(file: str, x: int, y: int) -> float | tuple[int, ...] | None:
        column, line = places[file] % 6, places[file] // 6
        return sheet.getpixel((GAP + column * (TILE + GAP) + x, GAP + line * (TILE + TEXT + GAP) + y))

    # 200 x 100 pixels lie 50 below the tile's upper edge at their own size.
    assert pixel("a.png", 100, 1) == COLOURS["cropped"]
    assert pixel("a.png", 40, 60) == COLOURS["cropped"]
    assert pixel("a.png", 35, 80) == FACE
    assert pixel("a.png", 35, 100) == (255, 0, 0)
    assert pixel("faceless.png", 100, 1) == COLOURS["used"]
    assert pixel("text.jpg", 100, 1) == COLOURS["refused"]
    assert pixel("text.jpg", 100, 100) == MISSING
    assert pixel("wordless.png", 35, 100) == (255, 0, 0)


def test_a_photo_smaller_than_its_tile_is_enlarged_with_its_squares(tmp_path: Path) -> None:
    """100 pixels at twice their size: a face of 30 x 40 at (10, 20) is 60 x 80 at (20, 40)."""
    picture = Image.new("RGB", (100, 100))
    picture.paste((255, 0, 0), (10, 20, 40, 60))
    picture.save(tmp_path / "a.png")
    report = examine_photos(PhotosConfig(folder=tmp_path, caption_template="a photo"), FINDER, resolution=SIDE)
    sheet = draw_contact_sheet(report)
    for x, y in ((20, 80), (79, 80), (50, 40), (50, 119)):
        assert sheet.getpixel((GAP + x, GAP + y)) == FACE
    assert sheet.getpixel((GAP + 50, GAP + 80)) == (255, 0, 0)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setattr(evaluation.faces, "FaceModel", RedSquareFinder)
    return CliRunner()


def test_the_command_prints_and_writes_the_report(run: CliRunner, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "report"
    arguments = [str(folder), "--output", str(output), "--face-crop", "2", "--resolution", str(SIDE)]
    result = run.invoke(APP, arguments)
    assert result.exit_code == 0, result.output
    assert "1 used, 5 cropped, 3 refused" in result.output
    assert "wordless.png     refused" in result.output
    values = json.loads((output / "photos.json").read_text("utf-8"))
    assert (values["used"], values["cropped"], values["refused"]) == (1, 5, 3)
    assert {row["file"] for row in values["photos"]} == {path.name for path in folder.iterdir()} - {
        path.name for path in folder.glob("*.txt")
    }
    with Image.open(output / "photos.png") as sheet:
        assert sheet.format == "PNG"


def test_the_command_prints_buckets(run: CliRunner, folder: Path, tmp_path: Path) -> None:
    """All usable ones of the folder are twice as wide as high."""
    arguments = [str(folder), "--output", str(tmp_path / "report"), "--resolution", str(SIDE)]
    result = run.invoke(APP, [*arguments, "--bucket-step", "8"])
    assert result.exit_code == 0, result.output
    assert "a.png            used         80x48  distance" in result.output
    assert "text.jpg         refused          -  distance" in result.output
    assert "buckets: 80x48 (6)\n" in result.output
    result = run.invoke(APP, [*arguments, "--bucket-step", "8", "--bucket-ratio", "1.3"])
    assert "buckets: 72x56 (6)\n" in result.output
    result = run.invoke(APP, arguments)
    assert "buckets" not in result.output


@pytest.mark.parametrize(("encoding", "shown"), [("utf-8", "Фото.png"), ("latin-1", r"\u0424\u043e\u0442\u043e.png")])
def test_names_are_printed_in_the_encoding_of_the_terminal(tmp_path: Path, encoding: str, shown: str) -> None:
    write_photo(tmp_path, "Фото", angle=None, seed=0)
    command = ["search.photos", str(tmp_path), "--detector", "none", "--output", str(tmp_path / "report")]
    done = subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": f"{encoding}:strict"},
        timeout=CEILING,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout.decode(encoding)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no such folder"),
        (["photos", "--bucket-step", "9"], "step is 9; it must be a multiple of 8"),
        (["photos", "--bucket-ratio", "2", "--resolution", "32"], "photos.buckets has a step of 64 pixels, more than"),
        (["photos", "--bucket-step", "8", "--face-crop", "2"], "face_crop is 2.0 and cuts squares"),
        (["bad"], "0 used, 0 cropped, 1 refused"),
        (["photos", "--nearest", "9"], "photos.nearest is 9, but a face was found in 5 of 6 photos"),
        (["photos", "--nearest", "1"], "--nearest: Input should be greater than or equal to 3"),
        (["photos", "--nearest", "4", "--detector", "none"], "--face-crop and --nearest need faces"),
    ],
)
def test_exit_code_2_when_nothing_is_usable(
    arguments: list[str], message: str, run: CliRunner, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_text("no photo")
    name, *options = arguments
    result = run.invoke(APP, [str(tmp_path / name), "--output", str(tmp_path / "report"), *options])
    assert result.exit_code == 2
    assert message in result.output
