"""A base model in one .safetensors file, as people pass it around: made into a folder of diffusers' layout, once.

diffusers converts the weights, but knows the shapes of a model only from a configuration in its own layout. That is
taken from a folder of the file's name beside it, otherwise from the hub's model of the same kind.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import diffusers
import torch
from diffusers.loaders.single_file_utils import (
    DIFFUSERS_DEFAULT_PIPELINE_PATHS,
    SingleFileComponentError,
    infer_diffusers_model_type,
)
from safetensors import safe_open
from torch import Tensor, nn

from trainer.files import written_folder
from trainer.models.base_model import BaseModel
from trainer.models.families import family_of
from trainer.models.flow_model import FlowModel
from trainer.models.inspection import check_single_file
from trainer.models.model_files import fetch, is_offline
from trainer.models.quiet import quiet_loading

CONFIGURATION = (".json", ".txt", ".model")
"""Endings of the files of a diffusers folder that are no weights."""
FORMATS = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
"""Floating point formats by safetensors' names."""
VELOCITY, ZERO_TERMINAL = "v_pred", "ztsnr"
"""Names of empty tensors by which files of SDXL's shape say that they predict the velocity, and to no signal at all."""


def diffusers_folder(path: Path) -> Path:
    """The folder of diffusers' layout that holds the same model as the file.

    It lies in `likeness/models` of the user's cache folder (`XDG_CACHE_HOME`, or `~/.cache`) under a hash of the file,
    the configuration and diffusers' version; later calls, from other processes too, find it there. The weights keep
    their number format, or all get the widest of the file's.

    Args:
        path: a .safetensors file.

    Raises:
        ValueError: there is no such file, it is damaged or holds no whole model, or no configuration is at hand.
    """
    tensors = _read_shapes(path)
    source = _configuration(path, tensors)
    family = family_of(source, path)
    if issubclass(family, FlowModel):
        raise ValueError(
            f"base model {path} is a single file of {family.title}; name a folder or hub model in the diffusers layout"
        )
    files = sorted(file for file in source.rglob("*") if file.suffix in CONFIGURATION and file.is_file())
    content = {file.relative_to(source).as_posix(): _sha256(file) for file in files}
    key = hashlib.sha256(json.dumps([diffusers.__version__, _sha256(path), content]).encode()).hexdigest()[:32]
    folder = _cache() / key
    with _locked(folder):
        if folder.exists():
            return folder
        with TemporaryDirectory() as temporary:
            # A copy without the weights beside them: what the file lacks must not come from there unseen.
            for file in files:
                copy = Path(temporary) / file.relative_to(source)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
            pipeline = _load(path, family, temporary, dtype=_widest(tensors))
        _check_complete(path, pipeline)
        if VELOCITY in tensors:
            pipeline.scheduler = type(pipeline.scheduler).from_config(
                pipeline.scheduler.config,
                prediction_type="v_prediction",
                rescale_betas_zero_snr=ZERO_TERMINAL in tensors,
            )
        with quiet_loading(), written_folder(folder) as unfinished:
            pipeline.save_pretrained(unfinished)
    return folder


def _read_shapes(path: Path) -> dict[str, Tensor]:
    """Tensors of the file's names, shapes and number formats without their contents."""
    check_single_file(path)
    with safe_open(path, framework="pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        return {
            name: torch.empty(piece.get_shape(), dtype=FORMATS.get(piece.get_dtype(), torch.int64), device="meta")
            for name, piece in slices.items()
        }


def configuration_folder(path: Path) -> Path:
    """A folder of diffusers' layout, with or without weights, that describes the file's model.

    Raises:
        ValueError: as `diffusers_folder`.
    """
    return _configuration(path, _read_shapes(path))


def _configuration(path: Path, tensors: Mapping[str, Tensor]) -> Path:
    """A folder of diffusers' layout, with or without weights, that describes the file's model."""
    beside = path.with_suffix("")
    if (beside / "model_index.json").is_file():
        return beside
    repository = str(
        DIFFUSERS_DEFAULT_PIPELINE_PATHS[infer_diffusers_model_type(tensors)]["pretrained_model_name_or_path"]
    )
    patterns = [f"{place}*{suffix}" for suffix in CONFIGURATION for place in ("", "*/")]
    try:
        return fetch(repository, patterns)
    except ValueError as error:
        remedy = "unset HF_HUB_OFFLINE to fetch its few kilobytes, or " if is_offline() else ""
        raise ValueError(
            f"base model {path} does not say its configuration, and that of {repository} is not {error}; {remedy}put "
            f"the configuration files of a model of the same shape into the folder {beside}, in diffusers' layout"
        ) from error


def _load(path: Path, family: type[BaseModel], config: str, *, dtype: torch.dtype) -> Any:
    try:
        # It warns of modules to keep in float32, naming none, and of weights left over, as of EMA, which are many.
        with quiet_loading(errors_only=True):
            return family.pipeline_class.from_single_file(
                str(path), config=config, local_files_only=True, dtype=dtype, **family.pipeline_arguments
            )
    except NotImplementedError as error:  # a weight without contents is moved
        raise ValueError(_lacking(path, "UNet or VAE")) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError, SingleFileComponentError) as error:
        reason = str(error).split("\n", 1)[0]
        raise ValueError(
            f"base model {path} does not load as a {family.pipeline_class.__name__} ({reason}); its configuration "
            "must be that of a model of the same shape, and the file must hold UNet, VAE and text encoders"
        ) from error


def _check_complete(path: Path, pipeline: Any) -> None:
    """Refuses text encoders of which the file lacks weights: diffusers leaves these without contents."""
    for part, module in pipeline.components.items():
        if isinstance(module, nn.Module) and any(tensor.is_meta for tensor in module.state_dict().values()):
            raise ValueError(_lacking(path, part))


def _lacking(path: Path, part: str) -> str:
    return (
        f"base model {path} lacks weights of the {part} that its configuration names; use a file with UNet, VAE and "
        "text encoders, or the configuration of its own shape"
    )


def _widest(tensors: Mapping[str, Tensor]) -> torch.dtype:
    """The narrowest number format that holds all of the file's floating point weights exactly."""
    return reduce(torch.promote_types, {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()})


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "likeness" / "models"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Within it no other process makes `folder`; what a killed one left of it is removed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in folder.parent.glob(f"{folder.name}.*.tmp"):
            shutil.rmtree(leftover)
        yield


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
