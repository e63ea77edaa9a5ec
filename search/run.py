"""`python -m search.run`: from a configuration to a champion. Without an argument it runs the demo."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated

import typer

DEMO = Path(__file__).resolve().parent.parent / "demo" / "search.yaml"

NO_CANDIDATE, BAD_INPUT, INTERRUPTED = 1, 2, 130


def main(
    config: Annotated[Path | None, typer.Argument(help="Configuration of the search. Default: the demo.")] = None,
    trials: Annotated[int | None, typer.Option(help="Number of trials, instead of the configuration's.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run, instead of the configuration's.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster to use, such as auto. Default: this machine.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Run folder of a search that is to go on, such as runs/demo.")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value: replaces one setting.")] = None,
) -> None:
    """Search for the best LoRA adapter of one person.

    Exit codes: 0 winner, 1 no usable candidate, 2 bad input, 130 interrupted.
    """
    from search.config import ConfigurationError, load_config
    from search.resume import how_to_go_on, read_continuation

    overrides = list(set_ or [])
    if trials is not None:
        overrides.append(f"trials={trials}")
    if name is not None:
        overrides.append(f"name={name}")
    continuation = None
    try:
        if resume is not None:
            continuation = read_continuation(resume, config, overrides)
            checked = continuation.config
        else:
            checked = load_config(config or DEMO, overrides)
            if config is None and name is None:
                checked = checked.model_copy(update={"name": _free_name(checked.runs, checked.name)})
    except ConfigurationError as error:
        typer.secho(str(error), err=True)
        raise typer.Exit(BAD_INPUT) from None
    try:
        # Only now what takes seconds to import: a misspelt key is answered at once.
        from search.session import InputError, SearchInterrupted, run_search
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None

    try:
        result = run_search(checked, address=address, continuation=continuation)
    except InputError as error:
        typer.secho(str(error), err=True)
        raise typer.Exit(BAD_INPUT) from None
    except SearchInterrupted as error:
        typer.secho(how_to_go_on(error.folder, address), err=True)
        raise typer.Exit(INTERRUPTED) from None
    except KeyboardInterrupt:
        typer.secho("interrupted", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if result.interrupted:
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(0 if result.has_champion else NO_CANDIDATE)


def _free_name(runs: Path, name: str) -> str:
    """The demo may be run as often as one likes: its next name that is not in use, with a number from the second on."""
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(free for free in names if not (runs / free).exists())


if __name__ == "__main__":
    typer.run(main)
