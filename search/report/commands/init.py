"""`python -m search.init PHOTOS`: from a folder of photos to a configuration that can be searched."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainer.exit_codes import BAD_INPUT

if TYPE_CHECKING:
    from evaluation.faces import FaceModel
    from search.config.sections import PhotosConfig
    from search.photos.check import PhotoReport

DEFAULT_MODEL = "stable-diffusion-v1-5/stable-diffusion-v1-5"
CLIP_BESIDE = "clip"
"""Folder beside the base model's in which a CLIP model is looked for where the hub's is not at hand."""


def main(
    photos: Annotated[Path, typer.Argument(help="Folder of photos of one person.")],
    model: Annotated[
        str, typer.Option(help="Base model: a folder, a .safetensors file or a hub name.")
    ] = DEFAULT_MODEL,
    class_: Annotated[str, typer.Option("--class", help="What the person is: man, woman, person ...")] = "person",
    trigger: Annotated[str, typer.Option(help="The word that stands for the person.")] = "sks",
    name: Annotated[str | None, typer.Option(help="Name of the run. Default: the folder's.")] = None,
) -> None:
    """Look at the photos, write NAME.yaml and prompts beside it, and say what was decided and what comes next.

    Exit codes: 0 written, 2 the photos or the model cannot be used, or a file would be overwritten.
    """
    from search.photos.proposal import propose_name

    run = name or propose_name(photos.resolve().name)
    configuration, prompts = Path(f"{run}.yaml"), Path(f"{run}-prompts")
    try:
        section = _checked(run, photos, trigger, class_)
        for path in (configuration, prompts):
            if path.exists():
                raise ValueError(f"{path} exists already and is left as it is; give another --name, or remove it")
        document, reasons = _propose(section, model, run, prompts)
        try:
            _write(document, configuration, prompts, class_)
            plan = _plan(configuration)
        except BaseException:
            _remove(configuration, prompts)
            raise
    except ValueError as error:
        typer.secho(str(error), err=True)
        raise typer.Exit(BAD_INPUT) from None
    for line in (*reasons, f"written: {configuration}, {prompts}/", *plan):
        typer.echo(line)
    typer.echo(f"next: python -m search.run {shlex.quote(str(configuration))}")


def _checked(run: str, folder: Path, trigger: str, class_word: str) -> PhotosConfig:
    """The section `photos`, once the options are what a configuration takes.

    Raises:
        ValueError: one of them is not, by its name.
    """
    from pydantic import BaseModel, ValidationError

    from search.config.defaults import CAPTION
    from search.config.sections import PhotosConfig
    from trainer.settings_file import Name

    class Options(BaseModel):
        name: Name

    values = {"folder": folder, "trigger": trigger, "class": class_word}
    try:
        Options(name=run)
        section = PhotosConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"--{first['loc'][0]} {first['input']!r}: {message}") from None
    if not class_word:
        raise ValueError("--class is empty; say what the person is: man, woman, person ...")
    return section.model_copy(update={"caption_template": f"{CAPTION}{class_word}"})


def _propose(section: PhotosConfig, model: str, run: str, prompts: Path) -> tuple[dict[str, Any], list[str]]:
    """The configuration's content, and a line for each decision.

    Raises:
        ValueError: the photos or the model cannot be used.
    """
    from search.config.model_kind import kind_of
    from search.photos.check import examine_photos
    from search.photos.proposal import propose_cut
    from trainer.models.device import usable_gpus
    from trainer.settings_file import resolve_model

    resolve_model(model, Path(), needed="model_index.json")
    faces, finder, of_faces = _faces()
    clip, of_clip = _clip(model)
    kind = kind_of(model, Path())
    side = (kind.side if kind else None) or 512
    report = examine_photos(section, finder, resolution=side)
    _check_usable(report)
    cut = propose_cut(report.photos, side)
    gpu = usable_gpus() > 0
    document = {
        "name": run,
        "model": model,
        "photos": {
            "folder": str(section.folder),
            "trigger": section.trigger,
            "class": section.class_word,
            **cut.photos,
        },
        "preset": "standard" if gpu else "quick",
        "evaluation": {
            "prompts": str(prompts / "validation.txt"),
            "seeds": [1],
            "others": {"prompts": str(prompts / "others.txt")},
            **clip,
            **faces,
        },
        "final": {"prompts": str(prompts / "final.txt")},
    }
    reasons = [
        f"photos: {len(report.photos)}, all of which can be used",
        *(f"  {row.file}: {'; '.join(row.warnings)}" for row in report.photos if row.warnings),
        *cut.reasons,
        f"captions: a photo without a text file of its own gets `{section.caption_template}`",
        f"preset: {document['preset']}, since there is {'a' if gpu else 'no'} GPU",
        *of_faces,
        *of_clip,
    ]
    return document, reasons


def _check_usable(report: PhotoReport) -> None:
    """Raises ValueError with all photos that a search would refuse: they are not made into one."""
    refused = [f"{row.file}: {'; '.join(row.reasons)}" for row in report.photos if row.status == "refused"]
    if report.problems or refused or not report.photos:
        raise ValueError("\n".join([f"{report.folder} cannot be used:", *report.problems, *refused]))


def _faces() -> tuple[dict[str, Any], FaceModel, list[str]]:
    """The face model: the default one, or Dlib where its weights cannot be had."""
    from evaluation.config import FaceConfig
    from search.photos.split import load_face_model

    try:
        default = FaceConfig()
        return {}, load_face_model(default), [f"faces: {default.name}"]
    except ValueError:
        offline = FaceConfig(recognizer="Dlib", detector="dlib")
        chosen = {"faces": {"recognizer": offline.recognizer_name, "detector": offline.detector}}
        return chosen, load_face_model(offline), [f"faces: {offline.name}, since {default.name} cannot be loaded here"]


def _clip(model: str) -> tuple[dict[str, Any], list[str]]:
    """The CLIP model: the default one, or a folder beside the base model's where the hub must not be asked for it."""
    from huggingface_hub import try_to_load_from_cache

    from search.config.sections import EvaluationConfig
    from trainer.models.model_files import is_offline

    default = str(EvaluationConfig.model_fields["clip"].default)
    beside = Path(model).expanduser().parent / CLIP_BESIDE
    if not is_offline() or isinstance(try_to_load_from_cache(default, "config.json"), str):
        return {}, [f"CLIP: {default}"]
    if (beside / "config.json").is_file():
        return {"clip": str(beside)}, [f"CLIP: {beside}, since HF_HUB_OFFLINE is set and {default} is not in the cache"]
    return {}, [f"CLIP: {default}, which is not in the hub's cache: unset HF_HUB_OFFLINE, or set evaluation.clip"]


def _write(document: Mapping[str, Any], configuration: Path, prompts: Path, class_word: str) -> None:
    from search.config.defaults import PROMPT_FILES
    from search.config.prompts import CLASS_FIELD
    from trainer.yaml_text import dump_yaml

    prompts.mkdir()
    for file in sorted(PROMPT_FILES.glob("*.txt")):
        (prompts / file.name).write_text(file.read_text("utf-8").replace(CLASS_FIELD, class_word), "utf-8")
    text = dump_yaml(dict(document), width=120)
    configuration.write_text(f"# What is left out has a default: `--dry-run` prints it.\n{text}", "utf-8")


def _remove(configuration: Path, prompts: Path) -> None:
    import shutil

    configuration.unlink(missing_ok=True)
    shutil.rmtree(prompts, ignore_errors=True)


def _plan(configuration: Path) -> list[str]:
    from search.config.defaults import what_is_added
    from search.config.search_config import load_config, read_document
    from search.study.dry_run import describe
    from search.workers.setup import RunnerSetup

    config = load_config(configuration)
    setup, _ = RunnerSetup.prepare(config)
    added = what_is_added(read_document(configuration), configuration.parent)
    return [*describe(config, added, setup.split), *setup.warnings(config)]


if __name__ == "__main__":
    typer.run(main)
