"""`python -m search.init`: from a folder of photos to a configuration, never over a file that is there."""

import shutil
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from search.config.prompts import prompt_sets
from search.config.search_config import load_config
from search.photos.check import PhotoRow
from search.photos.proposal import propose_cut, propose_name
from search.report.commands import init
from tests.support.short_search import DEMO


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three photos without captions, beside the demo's models; the command is started there."""
    (tmp_path / "my photos").mkdir()
    for name in ("happy", "sad", "angry"):
        shutil.copy(DEMO / "spare" / f"{name}.png", tmp_path / "my photos")
    for part in ("base", "clip"):
        (tmp_path / part).symlink_to(DEMO / part)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def invoke(*arguments: str) -> Result:
    app = typer.Typer(add_completion=False)
    app.command()(init.main)
    return CliRunner().invoke(app, [*arguments])


def test_a_folder_of_photos_becomes_a_whole_configuration(project: Path) -> None:
    done = invoke("my photos", "--model", "base", "--class", "man")
    assert done.exit_code == 0, done.output
    config = load_config(project / "my-photos.yaml")
    assert (config.name, config.photos.class_word, config.training.resolution) == ("my-photos", "man", 64)
    assert (config.evaluation.faces.recognizer, config.evaluation.clip) == ("Dlib", str(DEMO / "clip"))
    assert [len(each.prompts) for each in prompt_sets(config).values()] == [24, 24]
    written = (project / "my-photos-prompts" / "validation.txt").read_text("utf-8")
    assert "a photo of {trigger} man, smiling" in written
    for words in (
        "photos: 3, all of which can be used",
        "captions: a photo without a text file of its own gets `a photo of {trigger} man`",
        "faces: Dlib with dlib, since GhostFaceNet with ssd cannot be loaded here",
        "CLIP: clip, since HF_HUB_OFFLINE is set",
        "StableDiffusionPipeline of 64 pixels: training.batch_size=2",
        "photos: 1 to train on, 2 to compare with",
        "next: python -m search.run my-photos.yaml",
    ):
        assert words in done.output


def test_nothing_is_overwritten(project: Path) -> None:
    (project / "anna.yaml").write_text("mine")
    done = invoke("my photos", "--model", "base", "--name", "anna")
    assert (done.exit_code, "anna.yaml exists already" in done.output) == (2, True)
    assert (project / "anna.yaml").read_text() == "mine"
    assert not (project / "anna-prompts").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nowhere", "--model", "base"), "nowhere"),
        (("my photos", "--model", "bse"), "'bse' is neither a folder"),
        (("my photos", "--model", "base", "--class", "{man}"), "--class '{man}': String should match pattern"),
        (("my photos", "--model", "base", "--class", ""), "--class is empty"),
        (("my photos", "--model", "base", "--trigger", "a{b"), "--trigger 'a{b': String should match"),
        (("my photos", "--model", "base", "--name", "a/b"), "--name 'a/b': String should match"),
    ],
)
def test_what_cannot_be_used_is_named_and_leaves_nothing(arguments: tuple[str, ...], says: str, project: Path) -> None:
    before = sorted(project.rglob("*"))
    done = invoke(*arguments)
    assert (done.exit_code, says in done.output) == (2, True), done.output
    assert sorted(project.rglob("*")) == before


def test_photos_that_a_search_would_refuse_are_named(project: Path) -> None:
    (project / "my photos" / "letter.jpg").write_text("no picture")
    done = invoke("my photos", "--model", "base")
    assert done.exit_code == 2
    assert "letter.jpg" in done.output
    assert not (project / "my-photos.yaml").exists()


def row(width: int, height: int, face: tuple[int, int, int, int] | None) -> PhotoRow:
    return PhotoRow(
        file="a.png", status="used", reasons=(), warnings=(), width=width, height=height, face=face, caption="a man"
    )


def test_photos_far_from_square_go_into_buckets() -> None:
    rows = [row(900, 600, (400, 100, 100, 100))] * 2 + [row(600, 600, (10, 10, 90, 90))] * 2
    assert propose_cut(rows, 512).photos == {"buckets": True}
    assert "2 of 4 are far from square" in propose_cut(rows, 512).reasons[0]
    assert propose_cut(rows, 64).photos == {}, "at 64 pixels there are no buckets to choose from"


def test_faces_that_the_middle_square_would_cut_are_cut_around() -> None:
    inside, outside = row(650, 600, (100, 10, 90, 90)), row(650, 600, (0, 10, 90, 90))
    proposal = propose_cut([inside] * 4 + [outside], 512)
    assert (proposal.photos, "cuts the face in 1 of 5" in proposal.reasons[0]) == ({"face_crop": 3.0}, True)
    assert propose_cut([inside] * 9 + [outside], 512).photos == {}


def test_a_name_is_one_that_files_may_have() -> None:
    assert propose_name("my photos (2)") == "my-photos-2"
    assert propose_name("Ünï") == "n"
    assert propose_name("...") == "person"


def test_the_folder_s_images_alone_are_read(project: Path) -> None:
    Image.new("RGB", (64, 64)).save(project / "elsewhere.png")
    assert "photos: 3," in invoke("my photos", "--model", "base").output
