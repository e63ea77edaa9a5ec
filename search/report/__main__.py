"""`python -m search.report runs/NAME` writes `report.html` again from the run folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from search.config.search_config import ConfigurationError
from search.photos.split import read_split
from search.report.figures import draw_figures
from search.report.report_page import write_report
from search.storage.result import read_result
from search.storage.run_folder import RunFolderError, read_config
from trainer.data.photos import CaptionedPhoto, PhotoFolderError
from trainer.exit_codes import BAD_INPUT


def main(
    run: Annotated[Path, typer.Argument(help="Folder of a run that has ended, such as runs/demo.")],
) -> None:
    """Write a run's report.html again, from what its folder holds.

    Exit codes: 0 written, 2 bad input.
    """
    logging.getLogger("optuna").setLevel(logging.ERROR)
    try:
        config, result = read_config(run), read_result(run)
        try:
            photos: Sequence[CaptionedPhoto] = read_split(config.photos, config.evaluation.faces).reference
        except (PhotoFolderError, ValueError) as error:
            typer.secho(f"the report has no photos: {error}", err=True)
            photos = ()
        typer.echo(write_report(result, config, photos, draw_figures(result, config)))
    except (RunFolderError, ConfigurationError) as error:
        typer.secho(str(error), err=True)
        raise typer.Exit(BAD_INPUT) from None


if __name__ == "__main__":
    typer.run(main)
