"""Photos, captions, prompts: what is committed is what the scripts make, and who may not be seen is not seen."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from demo.kit import photos
from demo.kit.captions import PLACES, STUDIO_COLOURS
from demo.kit.crops import find_cells
from demo.kit.dataset import make_sources
from demo.kit.measurement import read_prompts
from demo.kit.people import EXPRESSIONS, PEOPLE, SHEET_LABELS, SPARE, SUBJECT, TRAINING_PEOPLE

DEMO = Path(__file__).parents[2] / "demo"
NAMES = {*SHEET_LABELS, "front", "portrait", "selfie", "studio", "outdoor"}
EXPRESSION = "|".join(EXPRESSIONS)
BACKGROUND = "|".join([*(f"{colour} background" for colour in STUDIO_COLOURS), *PLACES])


@pytest.mark.parametrize("folder", ["photos", "spare"])
def test_the_committed_photos_are_complete_and_their_captions_well_formed(folder: str) -> None:
    assert {file.name for file in (DEMO / folder).iterdir()} == {
        f"{name}{suffix}" for name in NAMES for suffix in (".png", ".txt")
    }
    for file in (DEMO / folder).glob("*.png"):
        with Image.open(file) as photo:
            assert (photo.format, photo.mode, photo.size) == ("PNG", "RGB", (128, 128))
        caption = file.with_suffix(".txt").read_text(encoding="utf-8")
        sex = "man" if folder == "photos" else "woman"
        assert re.fullmatch(rf"a photo of {{trigger}} {sex}, ({EXPRESSION}), ({BACKGROUND})\n", caption), caption


def test_the_command_writes_the_committed_photos_again(tmp_path: Path) -> None:
    assert photos.write_photos(SUBJECT, tmp_path) == [*SHEET_LABELS, "front", "portrait", "selfie", "studio", "outdoor"]
    for name in NAMES:
        made, committed = (
            np.asarray(Image.open(folder / f"{name}.png"), dtype=int) for folder in (tmp_path, DEMO / "photos")
        )
        # Another version of dlib or Pillow may move a landmark or round a pixel differently.
        assert np.abs(made - committed).mean() < 2.0, name
        assert (tmp_path / f"{name}.txt").read_bytes() == (DEMO / "photos" / f"{name}.txt").read_bytes()


def test_an_unknown_person_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no person 'P011'; known: P001, P002"):
        photos.write_photos("P011", tmp_path)


def test_a_sheet_has_its_cells_in_reading_order() -> None:
    sheet = np.full((900, 1200, 3), 120, dtype=np.uint8)
    expected = []
    for row in range(4):
        for column in range(4):
            left, top = 40 + 290 * column, 30 + 215 * row
            sheet[top : top + 180, left : left + 250] = 255
            sheet[top + 3 : top + 177, left + 3 : left + 247] = 110
            expected.append((left + 7, top + 7, left + 243, top + 173))
    assert find_cells(sheet) == expected


def test_neither_subject_nor_spare_is_among_the_training_people() -> None:
    assert TRAINING_PEOPLE == ("P001", "P002", "P004", "P005", "P006", "P007", "P009", "P010")
    assert set(PEOPLE) - set(TRAINING_PEOPLE) == {SUBJECT, SPARE}


def test_the_training_pictures_are_made_from_the_training_people_only(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def note(identifier: str) -> list[object]:
        asked.append(identifier)
        raise StopIteration

    monkeypatch.setattr("demo.kit.dataset.face_crops", note)
    monkeypatch.setattr("demo.kit.dataset.TRAINING_PEOPLE", TRAINING_PEOPLE)
    for person in TRAINING_PEOPLE:
        with pytest.raises((StopIteration, RuntimeError)):
            make_sources([person])
    assert asked == list(TRAINING_PEOPLE)


def test_prompts_are_distinct_and_are_no_captions() -> None:
    validation, final = (read_prompts(DEMO / "prompts" / f"{name}.txt") for name in ("validation", "final"))
    captions = {file.read_text(encoding="utf-8").strip() for file in (DEMO / "photos").glob("*.txt")}
    assert len(validation) == len(final) == 12
    assert len({*validation, *final}) == 24
    assert captions.isdisjoint({*validation, *final})


@pytest.mark.parametrize("name", ["validation", "final"])
def test_prompts_use_the_words_of_the_captions(name: str) -> None:
    for prompt in read_prompts(DEMO / "prompts" / f"{name}.txt"):
        assert re.fullmatch(rf"a photo of {{trigger}} man, ({EXPRESSION}), ({BACKGROUND})", prompt), prompt


def test_the_command_line_reports_a_wrong_person(tmp_path: Path) -> None:
    import typer

    application = typer.Typer()
    application.command()(photos.main)
    result = CliRunner().invoke(application, ["P099", str(tmp_path)])
    assert result.exit_code == 2
    assert "P099" in result.output
