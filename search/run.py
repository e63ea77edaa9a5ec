"""`python -m search.run`: from a configuration to a champion. Without an argument it runs the demo.

`search` does the same from Python, in a notebook for instance.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from search.config.run_layout import CONFIGURATION_FILE
from trainer.exit_codes import BAD_INPUT, FAILED, INTERRUPTED
from trainer.terminal import escape_what_cannot_be_shown

if TYPE_CHECKING:
    from search.config.defaults import Added
    from search.config.search_config import SearchConfig
    from search.storage.result import SearchResult
    from search.storage.resume import Continuation

DEMO = Path(__file__).resolve().parent.parent / "demo" / CONFIGURATION_FILE


def search(
    config: SearchConfig | Path | str,
    overrides: Sequence[str] = (),
    *,
    address: str | None = None,
) -> SearchResult:
    """Search for the best LoRA adapter of one person.

    Args:
        config: A configuration file, or a configuration as `search.config.search_config.load_config` gives it.
        overrides: `key=value` pairs as the command's `--set`; only with a file.
        address: A running Ray cluster; None starts Ray on this machine.

    Raises:
        ValueError: the configuration, photos, prompts, MLflow or the run's name cannot be used.
    """
    from search.config.search_config import SearchConfig, load_config

    if isinstance(config, SearchConfig):
        if overrides:
            raise ValueError(f"overrides {list(overrides)} go with a file only; give them to load_config")
        checked = config
    else:
        checked = load_config(Path(config), overrides)
    from search.search import run_search

    return run_search(checked, address=address)


def main(
    config: Annotated[Path | None, typer.Argument(help="Configuration of the search. Default: the demo.")] = None,
    trials: Annotated[int | None, typer.Option(help="Number of trials, instead of the configuration's.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run, instead of the configuration's.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="quick, standard or thorough: settings for what the configuration leaves open.")
    ] = None,
    max_gpu_hours: Annotated[
        float | None,
        typer.Option(help="End the search, final included, within these GPU hours (worker hours on CPUs)."),
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option(help="The same for money; budget.gpu_hour_price says what an hour costs.")
    ] = None,
    max_minutes: Annotated[float | None, typer.Option(help="The same for minutes by the clock.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what the search would do and cost.")] = False,
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
    escape_what_cannot_be_shown()
    from search.config.defaults import what_is_added
    from search.config.search_config import ConfigurationError, load_config, read_document
    from search.storage.resume import read_continuation

    flags: dict[str, Any] = {
        "trials": trials,
        "name": name,
        "preset": preset,
        "budget.max_gpu_hours": max_gpu_hours,
        "budget.max_cost": max_cost,
        "budget.max_minutes": max_minutes,
    }
    overrides = [*(set_ or []), *(f"{key}={value}" for key, value in flags.items() if value is not None)]
    continuation = None
    added: Sequence[Added] = ()
    try:
        if resume is not None:
            continuation = read_continuation(resume, config, overrides)
            checked = continuation.config
        else:
            checked = load_config(config or DEMO, overrides)
            file = config or DEMO
            added = what_is_added(read_document(file, overrides), file.parent)
            if config is None and name is None:
                checked = checked.model_copy(update={"name": _free_name(checked.runs, checked.name)})
    except ConfigurationError as error:
        typer.secho(str(error), err=True)
        raise typer.Exit(BAD_INPUT) from None
    if dry_run:
        _show_plan(checked, added, address, resumed=resume is not None)
        return
    _search(checked, address, continuation)


def _search(config: SearchConfig, address: str | None, continuation: Continuation | None) -> NoReturn:
    """Search, and leave with the exit code."""
    from search.storage.resume import how_to_resume

    # Both are read by Ray when it is imported. It warns of more workers than cores, which thin trials are bound to be.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "PYTHON worker processes have been started")
    if address is None:
        # All that this machine's own Ray listens on stays on it.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        # Only now what takes seconds to import: a misspelt key is answered at once.
        from search.search import InputError, SearchInterrupted, run_search
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None

    try:
        result = run_search(config, address=address, continuation=continuation)
    except InputError as error:
        typer.secho(str(error), err=True)
        raise typer.Exit(BAD_INPUT) from None
    except SearchInterrupted as error:
        if error.reason:
            typer.secho(error.reason, err=True)
        typer.secho(how_to_resume(error.folder, address), err=True)
        raise typer.Exit(INTERRUPTED) from None
    except KeyboardInterrupt:
        typer.secho("interrupted", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if result.interrupted:
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(0 if result.has_champion else FAILED)


def _free_name(runs: Path, name: str) -> str:
    """The demo may be run as often as one likes: its next name that is not in use, with a number from the second on."""
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(free for free in names if not (runs / free).exists())


def _show_plan(config: SearchConfig, added: Sequence[Added], address: str | None, *, resumed: bool) -> None:
    from search.study.dry_run import check, describe

    try:
        checked = check(config, address=address, resumed=resumed)
        lines = describe(config, added, checked.setup.split)
    except ValueError as error:
        typer.secho(str(error), err=True)
        raise typer.Exit(BAD_INPUT) from None
    for line in (*lines, *checked.warnings):
        typer.echo(line)


if __name__ == "__main__":
    typer.run(main)
