"""Real models, loaded once: the demo kit's pipeline and CLIP, DeepFace with dlib, photos of two fictional people."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from evaluation.clip_score import ClipScorer
from evaluation.config import FaceConfig
from evaluation.faces import FaceModel

DEMO = Path(__file__).parents[2] / "demo"


def sheet(person: str, name: str) -> Image.Image:
    """A sheet of pictures of one person of the `openpeople` package (none of them exists)."""
    specification = importlib.util.find_spec("openpeople")
    assert specification is not None
    assert specification.origin is not None
    return Image.open(Path(specification.origin).parent / "data" / "curated" / person / "assets" / f"{name}.jpg")


def head_views(person: str) -> tuple[Image.Image, Image.Image]:
    """A person's head from the front and from the side, about 480 px."""
    views = sheet(person, "character_sheet")
    front, side = (views.crop((left, 145, left + 470, 635)).convert("RGB") for left in (75, 670))
    return front, side


def sheet_photos(person: str, count: int) -> list[Image.Image]:
    """Square head-and-shoulder photos, 448 px, of one person."""
    emotions = sheet(person, "emotions_sheet")
    width, height = emotions.width // 4, emotions.height // 4
    side = min(width, height)
    photos = []
    for index in range(count):
        left = index % 4 * width + (width - side) // 2
        top = index // 4 * height + (height - side) // 2
        photos.append(emotions.crop((left, top, left + side, top + side)).convert("RGB"))
    return photos


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def photos_of_man() -> list[Image.Image]:
    return [photo.resize((128, 128), Image.Resampling.LANCZOS) for photo in sheet_photos("P008", 4)]


@pytest.fixture(scope="session")
def photos_of_woman() -> list[Image.Image]:
    return [photo.resize((128, 128), Image.Resampling.LANCZOS) for photo in sheet_photos("P001", 4)]


@pytest.fixture(scope="session")
def views_of_head() -> tuple[Image.Image, Image.Image]:
    return head_views("P008")


@pytest.fixture(scope="session")
def face_model() -> FaceModel:
    return FaceModel(FaceConfig(recognizer="Dlib", detector="dlib"))


@pytest.fixture(scope="session")
def clip_folder() -> Path:
    return DEMO / "clip"


@pytest.fixture(scope="session")
def clip_scorer(clip_folder: Path) -> ClipScorer:
    return ClipScorer(str(clip_folder), "cpu")


@pytest.fixture
def pipeline() -> Any:
    """The demo kit's StableDiffusionPipeline, the test's own to change at will."""
    pipeline_class: Any = StableDiffusionPipeline
    return pipeline_class.from_pretrained(str(DEMO / "base"), dtype=torch.float32, use_safetensors=True)
