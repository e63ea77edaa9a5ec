"""One person's captioned photos as a folder, as the search takes them: `python -m demo.kit.photos P008 FOLDER`."""

from pathlib import Path
from typing import Annotated

import typer
from PIL import Image

from demo.kit.captions import subject_caption
from demo.kit.crops import face_crops
from demo.kit.people import SUBJECT

PHOTO_PIXELS = 128
"""Side of a committed photo."""


def write_photos(person: str, folder: Path) -> list[str]:
    """Writes NAME.png (128 px) and NAME.txt (caption with `{trigger}`) for each face picture; returns the names.

    Raises:
        ValueError: the person is unknown, or the package does not hold the expected pictures.
    """
    crops = list(face_crops(person))
    folder.mkdir(parents=True, exist_ok=True)
    for crop in crops:
        photo = Image.fromarray(crop.pixels).resize((PHOTO_PIXELS, PHOTO_PIXELS), Image.Resampling.LANCZOS)
        photo.save(folder / f"{crop.name}.png", optimize=True)
        caption = subject_caption(crop.expression, crop.person.sex, crop.background)
        (folder / f"{crop.name}.txt").write_text(f"{caption}\n", encoding="utf-8")
    return [crop.name for crop in crops]


def main(
    person: Annotated[str, typer.Argument(help="P001 ... P010")] = SUBJECT,
    folder: Annotated[Path, typer.Argument(help="where the photos and captions go")] = Path("photos"),
) -> None:
    """Write the captioned face photos of one fictional person."""
    try:
        names = write_photos(person, folder)
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(f"{len(names)} photos of {person} in {folder}")


if __name__ == "__main__":
    typer.run(main)
