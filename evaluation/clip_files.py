"""What a CLIP model's files say of it before it is loaded: names and headers only. Imports no torch."""

import json
import re
from collections import defaultdict
from pathlib import Path

from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open

from evaluation.loading_error import is_offline

TOWERS = ("text", "vision")
"""CLIP's halves, each with its own layers."""
LAYERS = 12
"""Of a tower whose configuration does not say."""


def clip_problem(name: str, error: object) -> str:
    """The message on a CLIP model that cannot be used."""
    return (
        f"the CLIP model {name!r} cannot be loaded: {error}; give a folder that holds a CLIPModel in safetensors and "
        "its tokenizer, or a name on the Hugging Face hub (not with HF_HUB_OFFLINE=1, unless it was downloaded before)"
    )


def inspect_clip(name: str) -> Path | None:
    """Refuses a CLIP model that cannot be loaded, as far as the names and headers of its files say.

    Args:
        name: a folder, or a name on the hub.

    Returns:
        Its folder; None if it has to be downloaded first.

    Raises:
        ValueError: it is not there, another kind of model, or lacks weights; the message has the remedy.
    """
    folder = Path(name)
    try:
        if not folder.is_dir():
            if not is_offline():
                return None
            folder = Path(snapshot_download(name, local_files_only=True))
        _check(folder)
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(clip_problem(name, str(error).split("\n", 1)[0])) from error
    return folder


def _check(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    stated = config.get("model_type") if isinstance(config, dict) else None
    if stated != "clip":
        raise ValueError(f"its config.json says model_type {stated!r}, not 'clip'")
    names = {weight for file in _weight_files(folder) for weight in _weights_in(file)}
    expected = ["text_projection.weight", "visual_projection.weight"]
    for tower in TOWERS:
        count = (config.get(f"{tower}_config") or {}).get("num_hidden_layers", LAYERS)
        expected += _expected(names, f"{tower}_model.encoder.layers", count)
    if lacking := sorted(set(expected) - names):
        raise ValueError(f"its file has no fitting weights for {len(lacking)} of the model's, such as {lacking[0]}")
    if not (folder / "tokenizer.json").is_file() and not (folder / "vocab.json").is_file():
        raise ValueError("it has no tokenizer.json, nor vocab.json and merges.txt")


def _expected(names: set[str], place: str, count: int) -> list[str]:
    """Each of so many layers has what any of them has."""
    layers: dict[int, set[str]] = defaultdict(set)
    for name in names:
        if found := re.fullmatch(rf"{re.escape(place)}\.(\d+)\.(.+)", name):
            layers[int(found[1])].add(found[2])
    parts = {part for layer in layers.values() for part in layer} or {"*"}
    return [f"{place}.{layer}.{part}" for layer in range(count) for part in parts]


def _weight_files(folder: Path) -> list[Path]:
    if (file := folder / "model.safetensors").is_file():
        return [file]
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return [folder / name for name in sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))]
    pickled = sorted(path.name for path in folder.glob("*.bin"))
    only = f", only {', '.join(pickled)}, which is pickled and is not opened" if pickled else ""
    raise ValueError(f"there is no model.safetensors in {folder}{only}")


def _weights_in(file: Path) -> list[str]:
    try:
        with safe_open(file, framework="np") as opened:
            return list(opened.keys())
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{file.name} is damaged or missing ({error})") from error
