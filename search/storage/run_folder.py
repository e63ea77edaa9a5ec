"""The run folder: made new or opened again, held by one process at a time, cleared of what a kill left half done."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from pydantic import TypeAdapter

from evaluation.config import OnnxRecognizer
from search.config.run_layout import CONFIGURATION_FILE, STATE_FOLDER, RunLayout
from search.config.search_config import ConfigurationError, SearchConfig, dump_config
from search.storage.journal import mend_journal
from search.storage.result_schema import SCHEMA_VERSION
from trainer.data.photo_files import composed
from trainer.data.photos import CaptionedPhoto, PhotoSplit
from trainer.files import put_back, why_unwritable, write_file
from trainer.settings_file import read_settings

_SUMS = TypeAdapter(dict[str, str])


class RunFolder:
    """A run folder that this process holds until it leaves the `with` block, or dies.

    Attributes:
        path: The folder.
        layout: The paths in it.
        is_new: Whether this process has made it.
    """

    def __init__(self, path: Path, descriptor: int, *, is_new: bool) -> None:
        self.path = path
        self.layout = RunLayout(path)
        self.is_new = is_new
        self._descriptor = descriptor

    @classmethod
    def make(cls, config: SearchConfig) -> RunFolder:
        """A folder that did not exist: no run is ever overwritten.

        Raises:
            ConfigurationError: the run's name is in use, or the folder of runs cannot be written.
        """
        path = config.runs / config.name
        try:
            config.runs.mkdir(parents=True, exist_ok=True)
            path.mkdir()
        except FileExistsError:
            check_free(config)
            raise
        except OSError as error:
            raise _unusable(config.runs, error.strerror or str(error)) from error
        return cls(path, _lock(path), is_new=True)

    @classmethod
    def reopen(cls, path: Path) -> RunFolder:
        """A folder that an earlier process has left, cleared of what it has left half done.

        Raises:
            ConfigurationError: another process is at it.
            JournalError: the journal is damaged in the middle.
        """
        folder = cls(path, _lock(path), is_new=False)
        try:
            _put_back(path)
            mend_journal(folder.layout.journal)
        except BaseException:
            folder.__exit__(None, None, None)
            raise
        # Ray's own snapshots, which nothing here reads: a kill may have left them in any shape.
        shutil.rmtree(folder.layout.ray, ignore_errors=True)
        return folder

    @property
    def inputs(self) -> Mapping[str, str]:
        """See `read_inputs`."""
        return read_inputs(self.path)

    def begin(self, config: SearchConfig, inputs: Mapping[str, str]) -> None:
        """Write down what is searched, with what."""
        text = json.dumps(inputs, indent=1)
        write_file(self.layout.inputs, lambda path: path.write_text(text, "utf-8"))
        write_file(self.layout.configuration, lambda path: path.write_text(dump_config(config), "utf-8"))

    def discard(self) -> None:
        """Remove a folder that this process has made and in which nothing has been done."""
        if self.is_new:
            shutil.rmtree(self.path)

    def remove_leftovers(self, kept: Sequence[str]) -> None:
        """Remove what stopped or killed trainings keep to resume from.

        Args:
            kept: Trials that were only cut off, which a later search may resume.
        """
        for folder in (self.layout.trials, self.layout.final):
            for leftover in (*folder.glob(f"*/{STATE_FOLDER}"), *folder.glob("*/*.tmp"), *folder.glob("*/*.old")):
                if leftover.parent.name not in kept:
                    shutil.rmtree(leftover, ignore_errors=True)

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


def check_free(config: SearchConfig) -> None:
    """That the folder of a new run can be made. Makes nothing.

    Raises:
        ConfigurationError: the run's name is in use, or the folder of runs cannot be written.
    """
    if reason := why_unwritable(config.runs):
        raise _unusable(config.runs, reason)
    path = config.runs / config.name
    if path.exists():
        raise ConfigurationError(
            f"the run {path} exists already; give another --name, or go on with it: --resume {shlex.quote(str(path))}"
        )


def _unusable(runs: Path, reason: str) -> ConfigurationError:
    return ConfigurationError(f"runs: no run can be kept in {runs} ({reason}); name another with --set runs=FOLDER")


def _lock(path: Path) -> int:
    """A lock that ends with this process, however that ends; the file itself says nothing.

    Raises:
        ConfigurationError: another process holds it.
    """
    # Python closes it in processes that are started: none of Ray's outlives us with our lock.
    descriptor = os.open(RunLayout(path).lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ConfigurationError(
            f"another process is searching in {path}; wait for its end, or interrupt it with Ctrl-C"
        ) from None
    return descriptor


def _put_back(path: Path) -> None:
    """Finish what `trainer.files` was doing when it was killed: a folder is the old or the new one, never neither."""
    layout = RunLayout(path)
    jobs = (*_folders(layout.trials), *_folders(layout.final))
    for kept in (path, layout.final, *jobs, layout.second_judge):
        put_back(kept)
    for job in jobs:
        put_back(job / STATE_FOLDER)


def _folders(path: Path) -> list[Path]:
    return [folder for folder in path.glob("*") if folder.is_dir() and not folder.name.endswith((".tmp", ".old"))]


class RunFolderError(ValueError):
    """A run folder cannot be voted on; the message says what is missing and the remedy."""


def read_config(folder: Path) -> SearchConfig:
    """The configuration of a run folder, as resolved when its search began.

    Raises:
        RunFolderError: it is no run folder, or its configuration is damaged.
    """
    path = RunLayout(folder).configuration
    # Not `load_config`: that wants the models at hand, which voting does not need.
    if not path.is_file():
        raise RunFolderError(
            f"{path.parent} is not a run folder: it holds no {CONFIGURATION_FILE}. Give one, such as runs/demo"
        )
    try:
        return SearchConfig.model_validate(read_settings(path, SearchConfig))
    except ValueError as error:
        raise RunFolderError(f"{path} is not the configuration that a search wrote: {error}") from error


def inputs_of(config: SearchConfig, split: PhotoSplit, class_photos: Sequence[CaptionedPhoto] = ()) -> dict[str, str]:
    """SHA-256 sums by name: of every photo with its caption and side of the split, of class images, of the prompts.

    Of models and recognisers the files' names and sizes; their weights take too long to read.
    """
    found = {"version of the score": str(SCHEMA_VERSION)}
    for side, photos in (("training", split.training), ("reference", split.reference)):
        for photo in photos:
            found[f"photo {photo.path.name}"] = sum_of(f"{side} {photo.sha256} {photo.crop} {photo.caption}".encode())
    for photo in class_photos:
        found[f"class image {photo.path.name}"] = sum_of(f"{photo.sha256} {photo.caption}".encode())
    prompts = {
        "evaluation.prompts": config.evaluation.prompts,
        "evaluation.others.prompts": config.evaluation.others.prompts,
        "final.prompts": config.final.prompts,
    }
    found |= {f"file {name}": sum_of(path.read_bytes()) for name, path in prompts.items() if path is not None}
    for name, model in (("model", config.model), ("evaluation.clip", config.evaluation.clip)):
        files = sorted(path for path in Path(model).rglob("*") if path.is_file()) if Path(model).is_dir() else []
        if Path(model).is_file():
            found[f"file {name}"] = sum_of(f"{Path(model).name} {Path(model).stat().st_size}".encode())
        if files:
            sizes = [f"{path.relative_to(model)} {path.stat().st_size}" for path in files]
            found[f"folder {name}"] = sum_of("\n".join(sizes).encode())
    for name, faces in (("faces", config.evaluation.faces), ("second_judge", config.evaluation.second_judge)):
        if faces is not None and isinstance(faces.recognizer, OnnxRecognizer):
            path = faces.recognizer.onnx
            found[f"file evaluation.{name}.recognizer"] = sum_of(f"{path.name} {path.stat().st_size}".encode())
    return found


def read_inputs(folder: Path) -> Mapping[str, str]:
    """What the search of a run folder was begun with, by name; empty if that was not written down."""
    try:
        return _SUMS.validate_json(RunLayout(folder).inputs.read_bytes())
    except (OSError, ValueError):
        return {}


def changed_inputs(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What differs, in words; nothing if it was not written down before."""
    if not before:
        return []
    # A folder that was copied to another system may have its names in another Unicode form.
    before, now = ({composed(name): value for name, value in sums.items()} for sums in (before, now))
    told = {(True, False): "is gone", (False, True): "is new", (True, True): "has changed"}
    names = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    return [f"{name} {told[name in before, name in now]}" for name in names]


def sum_of(content: bytes) -> str:
    """Its SHA-256 in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()
