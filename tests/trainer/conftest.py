"""A base model loaded once, small synthetic photo folders, and configurations."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor

from trainer.adapters.adapter import check_no_adapter
from trainer.config import Targets, TrainingConfig
from trainer.data.batches import BucketShape, StepDraw, draw_passes
from trainer.data.cache import DataCache, build_cache
from trainer.data.photos import load_photos
from trainer.models.loading import BaseModel, load_base_model, set_threads

DEMO_BASE = Path(__file__).parents[2] / "demo" / "base"
RESOLUTION = 32
FULL: Targets = "attention+feed_forward+convolutions"

MakePhotos = Callable[..., Path]
MakeConfig = Callable[..., TrainingConfig]
UnetOutput = Callable[[BaseModel], Tensor]
Document = dict[str, Any]
WriteDocument = Callable[..., Path]

pytest.register_assert_rewrite("tests.support.job_state")


def write_photo(
    folder: Path,
    stem: str,
    *,
    seed: int,
    caption: str | None = "a photo",
    suffix: str = ".png",
    size: tuple[int, int] = (70, 80),
) -> Path:
    """A noise photo, `size` pixels wide and high, and its caption."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    path = folder / f"{stem}{suffix}"
    Image.fromarray(pixels).save(path)
    if caption is not None:
        (folder / f"{stem}.txt").write_text(caption, encoding="utf-8")
    return path


def draw_pass(
    seed: int, step: int, *, photos: int, count: int, latent_shape: tuple[int, int, int], timesteps: int
) -> StepDraw:
    """The draw of optimizer step `step` (from 0) as one forward pass of `count` photos of one size."""
    shape = BucketShape(photos=photos, latent_shape=latent_shape)
    (draw,) = draw_passes(seed, step, buckets=[shape], batch_size=count, passes=1, timesteps=timesteps)
    return draw


@pytest.fixture(scope="session")
def loaded_base() -> BaseModel:
    set_threads(1)
    return load_base_model(DEMO_BASE, device="cpu")


@pytest.fixture
def base(loaded_base: BaseModel) -> Iterator[BaseModel]:
    """The shared base model; a test that leaves an adapter in it fails."""
    yield loaded_base
    check_no_adapter(loaded_base)


@pytest.fixture
def make_photos(tmp_path: Path) -> MakePhotos:
    """Writes a folder of `count` photos with captions."""

    def make(count: int, name: str = "photos") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for number in range(count):
            write_photo(folder, f"photo{number}", seed=number, caption=f"a photo of {{trigger}}, number {number}")
        return folder

    return make


@pytest.fixture(scope="session")
def cache(loaded_base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> DataCache:
    """Five encoded photos."""
    folder = tmp_path_factory.mktemp("cached")
    for number in range(5):
        write_photo(folder, f"photo{number}", seed=number, caption=f"a man with a hat, number {number}")
    return build_cache(load_photos(folder), loaded_base, resolution=RESOLUTION, folder=folder / "cache")


@pytest.fixture
def make_config() -> MakeConfig:
    """A short job; alpha is not the rank, so that a scale left out shows."""

    def make(**changes: object) -> TrainingConfig:
        values: dict[str, object] = {
            "rank": 4,
            "alpha": 10.0,
            "steps": 6,
            "learning_rate": 1e-3,
            "text_encoder_learning_rate": 1e-4,
            "resolution": RESOLUTION,
            **changes,
        }
        return TrainingConfig(**values)  # type: ignore[arg-type]

    return make


@pytest.fixture
def unet_output() -> Callable[[BaseModel], Tensor]:
    """What the text encoder and UNet make of fixed tokens and noise."""

    @torch.no_grad()
    def output(base: BaseModel) -> Tensor:
        generator = torch.Generator().manual_seed(7)
        input_ids = torch.randint(0, 600, (2, base.tokenizer.model_max_length), generator=generator)
        sample = torch.randn(2, 4, 8, 8, generator=generator)
        embeddings = base.text_encoder(input_ids)[0]
        (answer,) = base.denoiser(sample, torch.tensor([30, 700]), embeddings, return_dict=False)
        tensor: Tensor = answer
        return tensor

    return output


@pytest.fixture
def write(tmp_path: Path) -> WriteDocument:
    """Writes a configuration on the demo kit into a folder of its own, changed at top-level keys."""

    def make(folder_name: str, **changes: object) -> Path:
        document: Document = {
            "name": "anna",
            "model": str(DEMO_BASE),
            "photos": {"folder": str(DEMO_BASE.parent / "photos"), "trigger": "sks"},
            "training": {"resolution": 64, "batch_size": 2, "rank": 2, "alpha": 4, "steps": 12, "learning_rate": 1e-3},
            "output": "out",
            "save_every": 2,
            **changes,
        }
        folder = tmp_path / folder_name
        folder.mkdir()
        path = folder / "run.yaml"
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return path

    return make
