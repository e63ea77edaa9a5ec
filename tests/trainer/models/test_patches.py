"""Stable Diffusion 3 and Flux see whole patches only: squares of pixels, by resolution and aspect buckets."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from diffusers import AutoencoderKL

from tests.support.tiny_models import write_flux, write_stable_diffusion_3
from tests.trainer.conftest import write_photo
from trainer.config import TrainingConfig
from trainer.data.bucketed_cache import build_bucketed_cache
from trainer.data.buckets import AspectBuckets
from trainer.data.photos import load_photos
from trainer.job.job import TrainingJob
from trainer.models.flow_model import FlowModel
from trainer.models.loading import load_base_model, set_threads
from trainer.models.patches import check_model_sizes

WRITE: dict[str, Callable[[Path], Path]] = {"Stable Diffusion 3": write_stable_diffusion_3, "Flux": write_flux}


@pytest.fixture(scope="module", params=WRITE)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FlowModel:
    set_threads(1)
    loaded = load_base_model(WRITE[request.param](tmp_path_factory.mktemp("models") / "model"), device="cpu")
    assert isinstance(loaded, FlowModel)
    assert loaded.title == request.param
    return loaded


def test_a_model_that_is_not_loaded_answers_alike(base: FlowModel, tmp_path: Path) -> None:
    """Its patch has 4 pixels. What does not say what it is, such as a hub's name, is left to the loading."""
    check_model_sizes(str(base.folder), [(32, 32), (24, 40)])
    with pytest.raises(ValueError, match="sees patches of 4 x 4 pixels") as told:
        check_model_sizes(str(base.folder), [(32, 32), (30, 40)])
    with pytest.raises(ValueError, match="photos are cut to 30 x 40 pixels") as loaded:
        base.check_sizes([(30, 40)])
    assert str(told.value) == str(loaded.value)
    assert f"30 x 40 pixels, but {base.title} sees patches of 4 x 4 pixels" in str(told.value)
    check_model_sizes("nobody/nothing", [(30, 40)])
    check_model_sizes(str(tmp_path), [(30, 40)])


def test_a_photo_must_be_cut_into_whole_patches(base: FlowModel) -> None:
    """Of 16 pixels where the VAE makes a latent of 8 x 8, as the real ones do."""
    real = replace(base, vae=with_four_blocks(base.vae))
    make_config = partial(TrainingConfig, rank=2)
    real.check(make_config(resolution=48))
    with pytest.raises(ValueError, match=r"resolution is 40, but .* of 16 x 16 pixels; make it a multiple of 16"):
        real.check(make_config(resolution=40))


def test_buckets_of_no_whole_patches_are_refused_before_anything_is_encoded(
    base: FlowModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tiny VAE halves the picture, so a patch has 4 pixels; made of four blocks it has 16."""
    photo = write_photo(tmp_path, "wide", seed=0, caption="a man", size=(100, 60))
    photos = load_photos(tmp_path, minimum_side=32)
    assert photo.is_file()
    whole = build_bucketed_cache(photos, base, resolution=32, folder=tmp_path / "cache", buckets=AspectBuckets(step=8))
    assert whole.buckets[0].latent_shape == (16, 12, 20)
    with TrainingJob(base, whole, TrainingConfig(resolution=32, steps=1, batch_size=1, rank=2)) as job:
        assert job.step().loss > 0
    real = replace(base, vae=with_four_blocks(base.vae))
    monkeypatch.setattr(real.vae, "encode", None)
    with pytest.raises(
        ValueError,
        match=r"are cut to 40 x 24 pixels, but .* of 16 x 16 pixels; .* photos\.buckets\.step .* a multiple of 16",
    ):
        build_bucketed_cache(photos, real, resolution=32, folder=tmp_path / "cache", buckets=AspectBuckets(step=8))
    with pytest.raises(ValueError, match="photos are cut to 40 x 40 pixels"):
        build_bucketed_cache(photos, real, resolution=40, folder=tmp_path / "cache")
    kept = sorted(path.name.partition("-")[0] for path in (tmp_path / "cache").iterdir())
    assert kept == ["captions", "pictures"], "of what could be encoded alone"


def with_four_blocks(vae: AutoencoderKL) -> AutoencoderKL:
    """A VAE of four blocks, as the real ones have."""
    return AutoencoderKL(
        block_out_channels=(32,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=vae.config["latent_channels"],
    )
