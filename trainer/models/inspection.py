"""What a base model's files say of it before it is loaded: names and headers only, so that it takes no second.

Imports neither torch nor diffusers, but where a single file is given without its configuration beside it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from trainer.models.model_files import (
    DENOISER,
    check_has_safetensors,
    check_not_pickled,
    fetch,
    fetch_base_model,
    is_offline,
)

VARIANT = "fp16"
"""The only kind of weights that is read in place of the full ones, where these are not there."""
VOCABULARIES = ("tokenizer.json", "vocab.json", "spiece.model")
"""Files of which a tokenizer needs one."""
WEIGHTS = ("model", "diffusion_pytorch_model")
"""What transformers and diffusers call a part's weights."""


@dataclass(frozen=True)
class Layout:
    """What of a pipeline's folders is read, without the classes that read it."""

    weights: tuple[str, ...]
    """Folders with weights."""
    tokenizer: str = "tokenizer"
    """Folder of the tokenizer that reads most of a caption."""
    length: int | None = None
    """Tokens that it reads; None: as many as it says."""


LAYOUTS: Mapping[str, Layout] = {
    "StableDiffusionPipeline": Layout(("text_encoder", "unet", "vae")),
    "StableDiffusionXLPipeline": Layout(("text_encoder", "text_encoder_2", "unet", "vae")),
    "StableDiffusion3Pipeline": Layout(
        ("text_encoder", "text_encoder_2", "text_encoder_3", "transformer", "vae"), "tokenizer_3", 256
    ),
    "FluxPipeline": Layout(("text_encoder", "text_encoder_2", "transformer", "vae"), "tokenizer_2", 512),
}
"""By the name of the pipeline's class, as `trainer.models.families` has them."""


class TextReader:
    """How much of a text a base model reads: its tokenizer alone."""

    def __init__(self, folder: Path, layout: Layout, name: str) -> None:
        """Args: a folder of diffusers' layout, what is in it, and what the user called the model.

        Raises:
            ValueError: the tokenizer cannot be read.
        """
        from transformers import CLIPTokenizer, T5Tokenizer  # takes a second to import

        kind: Any = CLIPTokenizer if layout.length is None else T5Tokenizer
        if not any((folder / layout.tokenizer / file).is_file() for file in VOCABULARIES):
            # Without any, transformers would make an empty one.
            raise ValueError(
                f"base model {name}: {layout.tokenizer} holds no {', '.join(VOCABULARIES[:-1])} or {VOCABULARIES[-1]}; "
                "put its files back"
            )
        try:
            self._tokenizer = kind.from_pretrained(folder / layout.tokenizer)
        except Exception as error:  # whatever the formats' readers throw
            raise ValueError(
                f"base model {name}: {layout.tokenizer} cannot be read ({type(error).__name__}: {error}); put its "
                "files back"
            ) from error
        self.length: int = layout.length or self._tokenizer.model_max_length
        """Tokens, start and end included."""

    def tokens(self, text: str) -> int:
        """How many tokens a text has, start and end included."""
        return len(self._tokenizer(text, verbose=False).input_ids)


def inspect_base_model(name: str) -> TextReader:
    """Refuses a base model that cannot be loaded, as far as the names and headers of its files say.

    Of a hub model that is not on this machine yet only the tokenizer is fetched, unless HF_HUB_OFFLINE is set.

    Args:
        name: a folder in diffusers layout, a single .safetensors file or a hub name.

    Returns:
        What reads its captions.

    Raises:
        ValueError: it is not there, of a kind that is not known, or lacks weights; the message has the remedy.
    """
    path = Path(name)
    check_not_pickled(path)
    if path.is_dir():
        layout = read_layout(path, name)
        check_weights(path, layout, name)
        return TextReader(path, layout, name)
    if path.suffix == ".safetensors":
        folder = _configuration_of(path)
        return TextReader(folder, read_layout(folder, name), name)
    if is_offline():
        folder = fetch_base_model(name, sorted({part for layout in LAYOUTS.values() for part in layout.weights}))
        layout = read_layout(folder, name)
        check_weights(folder, layout, name)
    else:
        try:
            folder = fetch(name, ["model_index.json", "tokenizer*/*"])
        except ValueError as error:
            raise ValueError(f"base model {name!r} is neither a folder nor {error}") from error
        layout = read_layout(folder, name)
    return TextReader(folder, layout, name)


def read_layout(folder: Path, name: str) -> Layout:
    """The layout that model_index.json names.

    Raises:
        ValueError: the folder does not say, or the kind of model is not known here.
    """
    try:
        kind = str(json.loads((folder / "model_index.json").read_text("utf-8"))["_class_name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"base model {name} has no readable model_index.json ({error!r}); name a folder or hub model in the "
            "diffusers layout"
        ) from error
    if kind not in LAYOUTS:
        raise ValueError(f"base model {name} is a {kind}; only {', '.join(LAYOUTS)} can be fine-tuned")
    return LAYOUTS[kind]


def check_weights(folder: Path, layout: Layout, name: str) -> None:
    """Refuses parts without configuration or weights, and weights that are damaged.

    Raises:
        ValueError: the first such part; pickled weights are named and not opened.
    """
    rest = "; put back what is missing, or unset HF_HUB_OFFLINE to download it" if is_offline() else "; put it back"
    for part in layout.weights:
        place = folder / part
        _read_json(place / "config.json", f"base model {name}: {part}/config.json", rest)
        check_has_safetensors(place)
        files = weight_files(place)
        if not files:
            there = ", ".join(sorted(path.name for path in place.glob("*.safetensors")))
            only = f" (only {there}, which is a variant that is not read: rename it)" if there else ""
            raise ValueError(f"base model {name} holds no weights of its {part} in {place}{only}{rest}")
        for file in files:
            _check_header(file, f"base model {name}: {part}/{file.name}", rest)


def weight_files(part: Path) -> list[Path]:
    """The files of a part's weights, whether they are there or not: the full ones, or those of `VARIANT` without them.

    Empty where neither is there.
    """
    for suffix, index in ((".safetensors", ".safetensors.index.json"), *_variant_names()):
        for stem in WEIGHTS:
            if (file := part / f"{stem}{suffix}").is_file():
                return [file]
            if (file := part / f"{stem}{index}").is_file():
                shards = _read_json(file, str(file), "; put it back").get("weight_map", {})
                return [part / shard for shard in sorted(set(shards.values()))]
    return []


def only_variant(folder: Path, parts: tuple[str, ...]) -> bool:
    """Whether the weights of one of the parts are there as `VARIANT` only."""
    files = (file.name for part in parts for file in weight_files(folder / part))
    return any(f".{VARIANT}." in name or f".{VARIANT}-" in name for name in files)


def check_single_file(path: Path) -> None:
    """Refuses a file that holds no whole model in 16 or 32 bits.

    Raises:
        ValueError: there is no such file, it is damaged, in 8 bits, or an adapter or a part.
    """
    if not path.is_file():
        raise ValueError(f"base model {path} does not exist; name a file, a folder or a hub model")
    try:
        with safe_open(path, framework="np") as file:
            names = list(file.keys())
            narrow = sorted(name for name in names if file.get_slice(name).get_dtype().startswith("F8"))
    except (OSError, SafetensorError) as error:
        raise ValueError(f"base model {path} is damaged ({error}); download it again") from error
    if narrow:
        raise ValueError(
            f"base model {path} holds weights in 8 bits, such as {narrow[0]}; use a version in 16 or 32 bits"
        )
    if not any(name.startswith(DENOISER) for name in names):
        raise ValueError(
            f"base model {path} holds no whole model (no weights named {DENOISER}*): is it an adapter, or a part? Name "
            "a checkpoint with UNet, VAE and text encoders"
        )


def _configuration_of(path: Path) -> Path:
    """The folder that describes a single file."""
    check_single_file(path)
    beside = path.with_suffix("")
    if (beside / "model_index.json").is_file():
        return beside
    from trainer.models.single_file import configuration_folder  # takes seconds to import

    return configuration_folder(path)


def _variant_names() -> tuple[tuple[str, str], ...]:
    """diffusers and transformers put the variant into an index's name in two ways."""
    return (
        (f".{VARIANT}.safetensors", f".safetensors.index.{VARIANT}.json"),
        (f".{VARIANT}.safetensors", f".{VARIANT}.safetensors.index.json"),
    )


def _read_json(path: Path, shown: str, remedy: str) -> Any:
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"{shown} cannot be read ({error.strerror}){remedy}") from error
    except ValueError as error:
        raise ValueError(f"{shown} is damaged ({error}); download it again") from error
    if not isinstance(document, dict):
        raise ValueError(f"{shown} is damaged (it holds no settings); download it again")
    return document


def _check_header(file: Path, shown: str, remedy: str) -> None:
    if not file.is_file():
        raise ValueError(f"{shown} is missing{remedy}")
    try:
        with safe_open(file, framework="np") as opened:
            opened.keys()
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{shown} is damaged ({error}); download it again") from error
