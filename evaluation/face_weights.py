"""The weights of DeepFace's offline face model, Dlib, which a package carries, put where DeepFace looks for them."""

import hashlib
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

PACKAGE = "face_recognition_models"
"""PyPI package that carries the files (Davis King's, public domain), under `models/`."""

SHA256_BY_FILE: Mapping[str, str] = {
    "dlib_face_recognition_resnet_model_v1.dat": "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    "shape_predictor_5_face_landmarks.dat": "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
}
"""Files by the names under which DeepFace looks for them, 31 MB together."""


def weights_folder() -> Path:
    """Where DeepFace looks for weights: `.deepface/weights` under `DEEPFACE_HOME`, or else under the home folder."""
    return Path(os.environ.get("DEEPFACE_HOME", str(Path.home()))) / ".deepface" / "weights"


def install_dlib_weights() -> Path:
    """Put the two dlib files where DeepFace looks for them; files that are there and right are left alone.

    Each file is copied to a temporary name, checked and renamed, so several processes may do this at once and a
    damaged or half-downloaded file is replaced.

    Returns:
        The folder of the files.

    Raises:
        ValueError: the package is missing, or its file is not the expected one.
    """
    target_folder = weights_folder()
    missing = [name for name, sha256 in SHA256_BY_FILE.items() if _sha256(target_folder / name) != sha256]
    if missing:
        source_folder = _package_models()
        target_folder.mkdir(parents=True, exist_ok=True)
        for name in missing:
            _copy_checked(source_folder / name, target_folder / name, SHA256_BY_FILE[name])
    return target_folder


def _package_models() -> Path:
    # Found without importing it: the package imports pkg_resources, which setuptools no longer has.
    specification = importlib.util.find_spec(PACKAGE)
    if specification is None or not specification.submodule_search_locations:
        raise ValueError(
            f"the weights of the Dlib face model are not at {weights_folder()} and the package {PACKAGE}, which "
            f"carries them, is not installed; `pip install {PACKAGE}`, or choose another recognizer and detector"
        )
    return Path(specification.submodule_search_locations[0]) / "models"


def _sha256(path: Path) -> str | None:
    """Hex digest of a file, or None when there is none."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None


def _copy_checked(source: Path, target: Path, sha256: str) -> None:
    try:
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as copy:
            temporary = Path(copy.name)
            try:
                with source.open("rb") as original:
                    shutil.copyfileobj(original, copy)
                copy.flush()
                os.fsync(copy.fileno())
                # The copy is checked, not the source: what is renamed is then known to be right.
                found = _sha256(temporary)
                if found != sha256:
                    raise ValueError(
                        f"{source} has SHA-256 {found}, not {sha256}; reinstall it: "
                        f"`pip install --force-reinstall --no-deps {PACKAGE}`"
                    )
                temporary.chmod(0o644)
                temporary.replace(target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except FileNotFoundError as error:
        raise ValueError(
            f"{source} is missing; reinstall it: `pip install --force-reinstall --no-deps {PACKAGE}`"
        ) from error
