"""`python -m search.vote runs/NAME`: people compare a run's pictures blindly; their votes judge its objective."""

from __future__ import annotations

import secrets
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from search.config.run_layout import RunLayout
from trainer.exit_codes import BAD_INPUT


def main(
    run: Annotated[Path, typer.Argument(help="Folder of a run, finished or not, such as runs/demo.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page. Default: any free one.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Decides between pairs that tell equally much.")] = 0,
    report: Annotated[bool, typer.Option("--report", help="Print what the votes so far say, and end.")] = False,
    browser: Annotated[
        bool | None, typer.Option("--browser/--no-browser", help="Open the page. Default: if this is a terminal.")
    ] = None,
) -> None:
    """Vote blindly on the candidates of a search, and see how far its objective agrees.

    Exit codes: 0 voting has ended (Ctrl-C) or the report is printed, 2 bad input, or no votes to report.
    """
    from search.config.search_config import ConfigurationError
    from search.storage.run_folder import RunFolderError
    from search.voting.page import PortError
    from search.voting.votes import VotesError
    from trainer.data.photos import PhotoFolderError

    try:
        if report:
            print_report(run)
        else:
            serve(run, port=port, seed=seed, browser=sys.stdout.isatty() if browser is None else browser)
    except (RunFolderError, ConfigurationError, PhotoFolderError, VotesError, PortError) as error:
        typer.secho(str(error), err=True)
        raise typer.Exit(BAD_INPUT) from None


def print_report(folder: Path) -> None:
    """Print the results of the votes so far.

    Raises:
        RunFolderError, VotesError: the run or its votes cannot be used, or there are no votes.
    """
    from search.voting.candidates import read_run
    from search.voting.results import as_text, judge_votes
    from search.voting.votes import VotesError, read_votes

    run = read_run(folder)
    content = read_votes(RunLayout(folder).votes)
    if content.warning:
        typer.secho(content.warning, err=True)
    if not content.votes:
        raise VotesError(f"{folder} has no votes yet; cast some with: python -m search.vote {folder}")
    typer.echo(as_text(judge_votes(run, content.votes, RunLayout(folder).votes)))


def serve(folder: Path, *, port: int, seed: int, browser: bool) -> None:
    """Serve the page until Ctrl-C.

    Raises:
        RunFolderError, ConfigurationError, PhotoFolderError, VotesError, PortError: see there.
    """
    from search.voting.candidates import read_run
    from search.voting.page import ADDRESS, VotingSession, create_app, listening
    from search.voting.votes import VotesFile

    run = read_run(folder)
    with VotesFile(RunLayout(folder).votes) as votes:
        if votes.content.warning:
            typer.secho(votes.content.warning, err=True)
        token = secrets.token_urlsafe(16)
        with listening(create_app(VotingSession(run, votes, seed=seed), token), port) as server:
            address = f"http://{ADDRESS}:{server.port}/{token}/"
            typer.echo(f"vote here, for you alone: {address}\nend with Ctrl-C; every vote is kept at once")
            if browser:
                webbrowser.open(address)
            server.serve_forever()
        typer.echo(f"{len(votes.content.votes)} votes in {votes.path}; python -m search.vote {folder} --report")


if __name__ == "__main__":
    typer.run(main)
