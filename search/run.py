"""`python -m search.run`: from a configuration to a champion. Without an argument it runs the demo."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

DEMO = Path(__file__).resolve().parent.parent / "demo" / "search.yaml"

NO_CANDIDATE, BAD_INPUT, INTERRUPTED = 1, 2, 130


def main(
    config: Annotated[Path, typer.Argument(help="Configuration of the search. Default: the demo.")] = DEMO,
    trials: Annotated[int | None, typer.Option(help="Number of trials, instead of the configuration's.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run, instead of the configuration's.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster to use, such as auto. Default: this machine.")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value: replaces one setting.")] = None,
) -> None:
    """Search for the best LoRA adapter of one person.

    Exit codes: 0 winner, 1 no usable candidate, 2 bad input, 130 interrupted.
    """
    from search.config import ConfigurationError, load_config

    overrides = list(set_ or [])
    if trials is not None:
        overrides.append(f"trials={trials}")
    if name is not None:
        overrides.append(f"name={name}")
    try:
        checked = load_config(config, overrides)
    except ConfigurationError as error:
        typer.secho(str(error), err=True)
        raise typer.Exit(BAD_INPUT) from None
    if address is None:
        # All that this machine's own Ray listens on stays on it. Ray reads this when it is imported.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    # Only now what takes seconds to import: a misspelt key is answered at once.
    from search.session import InputError, run_search

    try:
        result = run_search(checked, address=address, new_name=name is None)
    except InputError as error:
        typer.secho(str(error), err=True)
        raise typer.Exit(BAD_INPUT) from None
    except KeyboardInterrupt:
        typer.secho("interrupted", err=True)
        raise typer.Exit(INTERRUPTED) from None
    raise typer.Exit(0 if result.has_champion else NO_CANDIDATE)


if __name__ == "__main__":
    typer.run(main)
