"""Pickled weights are refused by name: unpickling a file runs whatever code its author put into it."""

from pathlib import Path

PICKLED_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")


class PickledWeightsError(ValueError):
    """Weights are pickled and were not opened."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} holds pickled weights, which can run code when opened; use its .safetensors version, or have "
            "somebody convert it whom you trust with the machine that it is opened on"
        )
        self.path = path


def check_not_pickled(path: Path) -> None:
    """Raises PickledWeightsError if the file's name says that it is pickled; whether it exists does not matter."""
    if path.suffix.lower() in PICKLED_SUFFIXES:
        raise PickledWeightsError(path)


def check_has_safetensors(folder: Path) -> None:
    """Raises PickledWeightsError if `folder` holds pickled weights and no safetensors beside them."""
    files = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    if not any(path.suffix == ".safetensors" for path in files):
        for path in files:
            check_not_pickled(path)
