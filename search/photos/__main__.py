"""`python -m search.photos FOLDER`: what a search would make of the photos of a folder, photo by photo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainer.exit_codes import BAD_INPUT
from trainer.terminal import escape_what_cannot_be_shown

if TYPE_CHECKING:
    from search.photos.check import PhotoReport

REPORT, SHEET = "photos.json", "photos.png"


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of photos.")],
    output: Annotated[Path, typer.Option(help="Folder for photos.json and the contact sheet photos.png.")] = Path(
        "photos-report"
    ),
    trigger: Annotated[str, typer.Option(help="The word that stands for the person.")] = "sks",
    caption_template: Annotated[
        str | None, typer.Option(help="Caption of photos without one, such as: a photo of {trigger}.")
    ] = None,
    face_crop: Annotated[
        float | None, typer.Option(help="Cut to a square of this many sides of the face's box.")
    ] = None,
    nearest: Annotated[int | None, typer.Option(help="Keep this many photos, the nearest to the mean face.")] = None,
    bucket_step: Annotated[
        int | None, typer.Option(help="Sort into aspect buckets whose sides are multiples of this, such as 64.")
    ] = None,
    bucket_ratio: Annotated[
        float | None, typer.Option(help="Sort into aspect buckets, their longest side at most this many shortest ones.")
    ] = None,
    resolution: Annotated[int, typer.Option(min=8, help="Side of the training images in pixels.")] = 512,
    recognizer: Annotated[str, typer.Option(help="DeepFace recognition model.")] = "GhostFaceNet",
    detector: Annotated[str, typer.Option(help="DeepFace detector, or none to leave faces out.")] = "ssd",
) -> None:
    """Report which photos a search would use, crop or refuse and why, in which shape, how near each face is, how sharp.

    Exit codes: 0 some photo can be used, 2 none can, or bad input.
    """
    escape_what_cannot_be_shown()
    # Only now what takes seconds to import.
    from pydantic import ValidationError

    from evaluation.config import FaceConfig
    from search.config.sections import PhotosConfig
    from search.photos.check import examine_photos
    from search.photos.contact_sheet import write_contact_sheet
    from search.photos.split import load_face_model
    from trainer.data.buckets import AspectBuckets

    chosen = {
        name: value for name, value in (("step", bucket_step), ("maximum_ratio", bucket_ratio)) if value is not None
    }
    try:
        photos = PhotosConfig(
            folder=folder,
            trigger=trigger,
            caption_template=caption_template,
            face_crop=face_crop,
            nearest=nearest,
            buckets=AspectBuckets(**chosen) if chosen else None,  # type: ignore[arg-type]
        )
        if detector == "none" and (face_crop is not None or nearest is not None):
            raise ValueError("--face-crop and --nearest need faces; give a --detector other than none")
        faces = FaceConfig(recognizer=recognizer, detector=detector)
        finder = None if detector == "none" else load_face_model(faces)
        report = examine_photos(photos, finder, resolution=resolution)
    except ValidationError as error:
        for problem in error.errors():
            option = "".join(f"--{str(name).replace('_', '-')}: " for name in problem["loc"][:1])
            typer.secho(option + problem["msg"].removeprefix("Value error, "), err=True)
        raise typer.Exit(BAD_INPUT) from None
    except ValueError as error:
        typer.secho(str(error), err=True)
        raise typer.Exit(BAD_INPUT) from None
    report.write(output / REPORT)
    if report.photos:
        write_contact_sheet(report, output / SHEET)
    _print(report, output)
    raise typer.Exit(0 if report.usable else BAD_INPUT)


def _print(report: PhotoReport, output: Path) -> None:
    from search.photos.check import STATUSES, size_name

    width = max((len(row.file) for row in report.photos), default=0)
    for row in report.photos:
        distance = "-" if row.identity_distance is None else f"{row.identity_distance:.2f}"
        sharp = "-" if row.sharpness is None else f"{row.sharpness:.0f}"
        notes = "; ".join((*row.reasons, *row.warnings))
        shape = f"{size_name(row.bucket) if row.bucket else '-':>9}  " if report.buckets else ""
        typer.echo(
            f"{row.file:{width}}  {row.status:7}  {shape}distance {distance:>4}  sharpness {sharp:>6}  {notes}".rstrip()
        )
    for problem in report.problems:
        typer.echo(problem)
    for warning in report.warnings:
        typer.echo(f"photos: {warning}")
    if report.buckets:
        typer.echo("buckets: " + ", ".join(f"{name} ({count})" for name, count in report.buckets.items()))
    typer.echo(", ".join(f"{report.count(status)} {status}" for status in STATUSES))
    typer.echo(f"report: {output / REPORT}" + (f", contact sheet: {output / SHEET}" if report.photos else ""))


if __name__ == "__main__":
    typer.run(main)
