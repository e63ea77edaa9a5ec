"""The files of a model: fetched from the hub, and refused where they are pickled.

Unpickling a file runs whatever code its author put into it, so pickled weights are refused by their name alone.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import DisabledRepoError, RepositoryNotFoundError, RevisionNotFoundError

DENOISER = "model.diffusion_model."
"""What the names of the UNet's weights begin with in every single file that holds a whole model."""
PICKLED_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")


UNKNOWN_ON_THE_HUB = (RepositoryNotFoundError, RevisionNotFoundError, DisabledRepoError, ValueError)
"""The hub's answers to a name that it does not have, does not show to this user, or that is none."""


class DownloadError(OSError):
    """A model could not be fetched: the network, the hub or the disk has failed. It may be there later."""


class PickledWeightsError(ValueError):
    """Weights are pickled and were not opened."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} holds pickled weights, which can run code when opened; use its .safetensors version, or have "
            "somebody convert it whom you trust with the machine that it is opened on"
        )
        self.path = path


def check_not_pickled(path: Path) -> None:
    """Raises PickledWeightsError if the file's name says that it is pickled, whether it exists or not."""
    if path.suffix.lower() in PICKLED_SUFFIXES:
        raise PickledWeightsError(path)


def check_has_safetensors(folder: Path) -> None:
    """Raises PickledWeightsError if `folder` holds pickled weights and no safetensors beside them."""
    files = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    if not any(path.suffix == ".safetensors" for path in files):
        for path in files:
            check_not_pickled(path)


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids asking the hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "on", "true", "yes")


DOWNLOADED = ("json", "txt", "model", "safetensors")
"""Endings of the files that are fetched from the hub: configurations, vocabularies and weights."""


def fetch_base_model(name: str, parts: Sequence[str]) -> Path:
    """The local folder of a hub model in diffusers' layout, downloaded with full weights unless offline.

    Weights in 16 bits are downloaded only of a model that has no others.

    Args:
        name: on the hub.
        parts: sub-folders that may be wanted.

    Raises:
        ValueError: it is not there.
    """
    patterns = ["*.json", *(f"{part}/*.{suffix}" for part in parts for suffix in DOWNLOADED)]
    try:
        folder = fetch(name, patterns, ignored=["*.fp16.*", "*.fp16-*", "*.non_ema.*"])
        if not is_offline() and not any(folder.glob("*/*.safetensors")):
            folder = fetch(name, patterns, ignored=["*.non_ema.*"])
    except ValueError as error:
        raise ValueError(f"base model {name!r} is neither a folder nor {error}") from error
    return folder


def fetch(name: str, patterns: Sequence[str], *, ignored: Sequence[str] = ()) -> Path:
    """The local folder of a hub model with the files that fit `patterns`; downloads what is missing unless offline.

    Raises:
        ValueError: they are not there; the message begins with where they were looked for.
        DownloadError: they could not be fetched now.
    """
    offline = is_offline()
    try:
        return Path(
            snapshot_download(
                name, local_files_only=offline, allow_patterns=list(patterns), ignore_patterns=list(ignored)
            )
        )
    except Exception as error:  # what the hub's client throws shares no class
        if offline or isinstance(error, UNKNOWN_ON_THE_HUB):
            where = "in the hub's local cache (HF_HUB_OFFLINE is set)" if offline else "on the hub"
            raise ValueError(f"{where}: {error}") from error
        raise DownloadError(
            f"{name} could not be fetched from the hub: {error}; try again later, or fetch it beforehand and set "
            "HF_HUB_OFFLINE=1"
        ) from error
