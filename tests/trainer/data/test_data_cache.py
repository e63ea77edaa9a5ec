"""The cache of encoded photos: its content, its name, and damage to it."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import Module

from tests.trainer.conftest import RESOLUTION, write_photo
from trainer.data.cache import KEPT_SECONDS, DataCache, build_cache
from trainer.data.photos import CaptionedPhoto, load_photos, open_face_mask, open_photo, repeated
from trainer.data.views import Views
from trainer.models.loading import BaseModel

NAMES = ("latent_mean", "latent_std", "input_ids", "text_embeddings")
KINDS = ("pictures", "captions")


def equal(one: DataCache, other: DataCache) -> bool:
    return all(torch.equal(one.tensors()[name], other.tensors()[name]) for name in NAMES)


def fail(*arguments: object, **keywords: object) -> None:
    raise AssertionError("the VAE was asked to encode")


@torch.no_grad()
def test_a_photo_that_changes_before_it_is_encoded_is_refused_and_nothing_is_kept(
    base: BaseModel, make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    photos = load_photos(make_photos(3), trigger="sks")
    content = photos[1].path.read_bytes()
    photos[1].path.write_bytes(photos[0].path.read_bytes())
    with pytest.raises(ValueError, match=r"photo1\.png has changed since it was checked"):
        build_cache(photos, base, resolution=RESOLUTION, folder=tmp_path / "cache")
    assert not list(tmp_path.glob("cache/*"))
    photos[1].path.write_bytes(content)
    after, clean = (build_cache(photos, base, resolution=RESOLUTION, folder=tmp_path / name) for name in ("cache", "b"))
    assert torch.equal(after.latent_mean, clean.latent_mean)


def test_a_cache_holds_the_scaled_posterior_and_the_encoded_captions(
    base: BaseModel, make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    photos = load_photos(make_photos(3), trigger="sks")
    cache = build_cache(photos, base, resolution=RESOLUTION, folder=tmp_path / "cache")
    assert len(cache) == 3
    side = RESOLUTION // base.pipeline().vae_scale_factor
    assert cache.latent_mean.shape == (3, base.denoiser.config["in_channels"], side, side)
    for number, photo in enumerate(photos):
        pixels = torch.from_numpy(np.array(open_photo(photo, RESOLUTION))).permute(2, 0, 1)[None] / 127.5 - 1
        posterior = base.vae.encode(pixels).latent_dist
        scale = base.vae.config["scaling_factor"]
        torch.testing.assert_close(cache.latent_mean[number], posterior.mean[0] * scale, rtol=0, atol=1e-6)
        torch.testing.assert_close(cache.latent_std[number], posterior.std[0] * scale, rtol=0, atol=1e-6)
        embeddings, _ = base.pipeline().encode_prompt(photo.caption, torch.device("cpu"), 1, False)
        torch.testing.assert_close(cache.conditioning["text_embeddings"][number], embeddings[0], rtol=0, atol=1e-6)
        assert torch.equal(
            base.text_encoder(cache.conditioning["input_ids"][number][None])[0][0],
            cache.conditioning["text_embeddings"][number],
        )


def test_nothing_in_a_cache_carries_gradients(cache: DataCache) -> None:
    for name in NAMES:
        tensor = cache.tensors()[name]
        assert not tensor.requires_grad
        assert tensor.grad_fn is None


def test_encoding_records_no_gradients_and_happens_once(
    base: BaseModel, make_photos: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = load_photos(make_photos(3), trigger="sks")
    modes = []

    def watch(module: Module, arguments: object) -> None:
        modes.append(torch.is_grad_enabled())

    hook = base.vae.encoder.register_forward_pre_hook(watch)
    first = build_cache(photos, base, resolution=RESOLUTION, folder=tmp_path / "cache")
    hook.remove()
    assert modes == [False] * 3
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".safetensors"] * 2
    monkeypatch.setattr(base.vae, "encode", fail)
    assert equal(build_cache(photos, base, resolution=RESOLUTION, folder=tmp_path / "cache"), first)


def test_a_photo_that_comes_often_is_painted_once(
    base: BaseModel, make_photos: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its mask is as large as the photo before it is cut."""
    first, second = (
        replace(photo, face=(10, 10, 20, 20), repeats=5) for photo in load_photos(make_photos(2), trigger="sks")
    )
    painted = []

    def paint(photo: CaptionedPhoto, size: tuple[int, int]) -> Image.Image:
        painted.append(photo.path.name)
        return open_face_mask(photo, size)

    monkeypatch.setattr("trainer.data.cache.open_face_mask", paint)
    cache = build_cache(
        repeated((first, second)), base, resolution=RESOLUTION, folder=tmp_path / "cache", views=Views(mirrored=True)
    )
    assert painted == ["photo0.png", "photo1.png"]
    assert cache.face_mask.shape[0] == 4
    masks = cache.face_masks_of(torch.arange(20))
    assert masks[0].any()
    assert all(torch.equal(mask, masks[0]) for mask in masks[:10])
    assert all(torch.equal(mask, masks[0].flip(-1)) for mask in masks[10:])


def test_the_files_are_named_by_content_and_an_edited_caption_or_another_number_of_repeats_encodes_no_photo(
    base: BaseModel, make_photos: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, cached = make_photos(2), tmp_path / "cache"

    def build(resolution: int = RESOLUTION, **options: Any) -> tuple[int, int]:
        """Files of pictures and of captions."""
        photos = repeated(load_photos(folder, trigger="sks", **options))
        build_cache(photos, base, resolution=resolution, folder=cached)
        pictures, captions = (len(list(cached.glob(f"{kind}-*"))) for kind in KINDS)
        assert len(list(cached.iterdir())) == pictures + captions
        return pictures, captions

    assert build() == (1, 1)
    (folder / "photo0.png").rename(folder / "a.png")
    (folder / "photo0.txt").rename(folder / "a.txt")
    with monkeypatch.context() as patch:
        patch.setattr(base.vae, "encode", fail)
        assert build(repeats={"a*": 7}) == build() == (1, 1)
        (folder / "a.txt").write_text("a man")
        assert build() == (1, 2)
    with monkeypatch.context() as patch:
        patch.setattr("trainer.data.cache._encode_captions", fail)
        write_photo(folder, "a", seed=99, caption="a man")
        assert build() == (2, 2)
        assert build(resolution=RESOLUTION + 8) == (3, 2)


@pytest.mark.parametrize("library", ["torch", "Pillow", "diffusers", "transformers", "tokenizers"])
def test_another_version_of_what_encodes_makes_another_file(
    base: BaseModel, make_photos: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    photos, folder = load_photos(make_photos(1), trigger="sks"), tmp_path / "cache"
    build_cache(photos, base, resolution=RESOLUTION, folder=folder)
    monkeypatch.setattr("trainer.data.cache.version", lambda name: "0.0" if name == library else version(name))
    build_cache(photos, base, resolution=RESOLUTION, folder=folder)
    assert [len(list(folder.glob(f"{kind}-*"))) for kind in KINDS] == [2, 2]


def test_what_nobody_has_used_for_a_month_is_removed_when_something_is_encoded(
    base: BaseModel, make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    """Of two photos' files of a month's age one's are read again; those of a third are made. What is no cache stays."""
    photos, folder = load_photos(make_photos(3), trigger="sks"), tmp_path / "cache"

    def build(number: int) -> set[Path]:
        before = set(folder.glob("*"))
        build_cache(photos[number : number + 1], base, resolution=RESOLUTION, folder=folder)
        return set(folder.glob("*")) - before

    kept, unused, own = build(0), build(1), folder / "mine.safetensors"
    former = folder / f"{'0a' * 16}.safetensors"
    for path in (own, former):
        path.write_bytes(b"")
    moment = time.time() - KEPT_SECONDS - 60
    for path in (*kept, *unused, own, former):
        os.utime(path, (moment, moment))
    assert build(0) == set()
    new = build(2)
    assert [len(files) for files in (kept, unused, new)] == [2, 2, 2]
    assert set(folder.iterdir()) == {*kept, *new, own}


def test_what_a_killed_process_was_writing_goes_and_what_a_living_one_writes_stays(
    base: BaseModel, make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    photos, folder = load_photos(make_photos(1), trigger="sks"), tmp_path / "cache"
    folder.mkdir()
    with (
        start_writing(folder / "killed.safetensors") as killed,
        start_writing(folder / "alive.safetensors") as alive,
    ):
        killed.kill()
        killed.wait()
        assert len(list(folder.iterdir())) == 2
        build_cache(photos, base, resolution=RESOLUTION, folder=folder)
        names = sorted(path.name.split(".")[1] for path in folder.iterdir() if path.is_dir())
        assert names == ["alive"]
        alive.communicate("go on\n")
    assert (folder / "alive.safetensors").read_text() == "whole"
    assert [path for path in folder.iterdir() if path.name.startswith(".")] == []


@contextmanager
def start_writing(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process in the midst of `write_file`; it ends the file when it is told to."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITES, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "writing\n"
            yield process
        finally:
            process.kill()


WRITES = """
import sys
from pathlib import Path
from trainer.files import write_file

def write(path):
    path.write_text("half")
    print("writing", flush=True)
    sys.stdin.readline()
    path.write_text("whole")

write_file(Path(sys.argv[1]), write)
"""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["cut short", "one bit", "not a file of tensors"])
def test_a_damaged_file_is_noticed_and_made_again(
    base: BaseModel,
    make_photos: Callable[..., Path],
    tmp_path: Path,
    damage: str,
    kind: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    photos, folder = load_photos(make_photos(2), trigger="sks"), tmp_path / "cache"
    whole = build_cache(photos, base, resolution=RESOLUTION, folder=folder)
    (path,) = folder.glob(f"{kind}-*")
    files, content = set(folder.iterdir()), path.read_bytes()
    broken = {
        "cut short": content[: len(content) // 2],
        "one bit": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
        "not a file of tensors": b"",
    }
    path.write_bytes(broken[damage])
    with caplog.at_level(logging.WARNING):
        assert equal(build_cache(photos, base, resolution=RESOLUTION, folder=folder), whole)
    assert f"{path} is damaged" in caplog.text
    assert path.read_bytes() == content
    assert set(folder.iterdir()) == files


def test_captions_longer_than_the_text_encoder_reads_are_named_before_anything_is_encoded(
    base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demo's tokenizer knows `man` as one token; start and end count, too."""
    length = base.tokenizer.model_max_length
    for stem, words in (("fits", length - 2), ("long", length - 1), ("longer", length)):
        write_photo(tmp_path, stem, seed=words, caption="man " * words)
    monkeypatch.setattr(base.vae, "encode", fail)
    with pytest.raises(
        ValueError, match=rf"than the {length} .*: long.png \({length + 1}\), longer.png \({length + 2}\); shorten"
    ):
        build_cache(load_photos(tmp_path), base, resolution=RESOLUTION, folder=tmp_path / "cache")


def test_no_photos_are_refused(base: BaseModel, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there are no photos"):
        build_cache([], base, resolution=RESOLUTION, folder=tmp_path)
