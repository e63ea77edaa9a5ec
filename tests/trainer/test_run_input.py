"""The input of `python -m trainer.run`: what is wrong in it is named, with the remedy."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import CEILING
from tests.support.training_command import invoke
from tests.trainer.conftest import DEMO_BASE, Document, WriteDocument
from trainer.run_config import load_run_config

WITHOUT_TORCH = """
import runpy, sys
sys.argv = ["trainer.run", *sys.argv[1:]]
try:
    runpy.run_module("trainer.run", run_name="__main__")
except SystemExit:
    assert "torch" not in sys.modules, "started what takes seconds"
    raise
"""

PHOTOS = {"folder": str(DEMO_BASE.parent / "photos")}


def test_a_misspelt_key_is_answered_before_torch_is_imported(write: WriteDocument) -> None:
    path = write("run", training={"resolutoin": 64}, save_evry=2)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(path)], capture_output=True, text=True, timeout=CEILING, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "training.resolutoin: there is no such key; did you mean 'resolution'?" in done.stderr
    assert "save_evry: there is no such key; did you mean 'save_every'?" in done.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"photos": {"folder": "nowhere"}}, "nowhere is not a folder"),
        ({"model": "nowhere"}, "'nowhere' is neither a folder"),
        ({"training": {"resolution": 60}}, "resolution is 60; it must be a multiple of 8"),
        (
            {"training": {"face_loss_weight": 2}},
            "face_loss_weight is 2.0, but only a search looks for faces; set it to 1",
        ),
        (
            {"photos": {**PHOTOS, "buckets": {"stop": 8}}},
            "photos.buckets.stop: there is no such key; did you mean 'step'?",
        ),
        ({"photos": {**PHOTOS, "buckets": {"step": 12}}}, "photos.buckets: step is 12; it must be a multiple of 8"),
        (
            {"photos": {**PHOTOS, "buckets": True}, "training": {"resolution": 56}},
            "photos.buckets has a step of 64 pixels, more than training.resolution, which is 56",
        ),
        ({"training": {"prior_loss_weight": 1}}, "prior_loss_weight is 1.0, but there are no class images"),
        (
            {"photos": {"folder": str(DEMO_BASE.parent / "photos"), "prior": {"promt": "a man"}}},
            "photos.prior.promt: there is no such key; did you mean 'prompt'?",
        ),
        (
            {"photos": {"folder": str(DEMO_BASE.parent / "photos"), "prior": {"prompt": "a man"}}},
            "nothing would learn from them; set training.prior_loss_weight",
        ),
        (
            {
                "photos": {"folder": str(DEMO_BASE.parent / "photos"), "prior": {"prompt": "a man", "folder": "men"}},
                "training": {"prior_loss_weight": 1},
            },
            "men is not a folder",
        ),
        ({"name": "pytorch_lora_weights"}, "name: this is the name of the file for diffusers; choose another"),
        ({"name": "a" * 101}, "name: String should match pattern"),
        (
            {"photos": {"folder": str(DEMO_BASE.parent / "photos"), "trigger": "{trigger}"}},
            "photos.trigger: String should match pattern",
        ),
        ({"save_every": 0}, "save_every: Input should be greater than or equal to 1 (found 0)"),
    ],
)
def test_bad_input_is_named(write: WriteDocument, changes: Document, message: str) -> None:
    done = invoke(write("run", **changes))
    assert done.code == 2
    assert message in done.stderr


def test_a_broken_photo_is_bad_input(write: WriteDocument, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"")
    done = invoke(write("run", photos={"folder": str(tmp_path / "photos")}))
    assert done.code == 2
    assert "a.jpg: is empty (0 bytes)" in done.stderr


def test_a_broken_class_image_is_bad_input(write: WriteDocument, tmp_path: Path) -> None:
    (tmp_path / "men").mkdir()
    (tmp_path / "men" / "a.jpg").write_bytes(b"")
    prior = {"prompt": "a photo of a man", "folder": "../men"}
    path = write(
        "run",
        photos={"folder": str(DEMO_BASE.parent / "photos"), "prior": prior},
        training={"resolution": 64, "prior_loss_weight": 1},
    )
    done = invoke(path)
    assert done.code == 2
    assert f"in the photo folder {tmp_path / 'men'}" in done.stderr
    assert "a.jpg: is empty (0 bytes)" in done.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.ckpt", "holds pickled weights, which can run code when opened; use its .safetensors version"),
        ("model.safetensors", "model.safetensors is damaged"),
    ],
)
def test_a_base_model_in_one_file_is_answered_with_the_remedy(
    write: WriteDocument, tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / name).write_bytes(b"weights")
    done = invoke(write("run", model=f"../{name}"))
    assert done.code == 2
    assert message in done.stderr


@pytest.mark.parametrize("name", ["1.50", "007", "2026-11-27", "1e4", "no"])
def test_a_name_is_what_is_written(name: str, write: WriteDocument) -> None:
    path = write("run", photos=PHOTOS)
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("name:")]
    path.write_text("\n".join([*lines, f"name: {name}"]), "utf-8")
    assert load_run_config(path).name == name
