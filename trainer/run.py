"""`python -m trainer.run CONFIG`: one adapter without any search, for people who know their numbers."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from trainer.exit_codes import BAD_INPUT, FAILED, INTERRUPTED
from trainer.terminal import escape_what_cannot_be_shown


def main(config: Annotated[Path, typer.Argument(help="Configuration of the run, a YAML file.")]) -> None:
    """Train one LoRA adapter of one person. The same command again resumes a run that was stopped or killed.

    Exit codes: 0 adapter written, 1 training diverged, out of memory or the disk failed, 2 bad input, 130 interrupted.
    """
    escape_what_cannot_be_shown()
    from trainer.run_config import load_run_config
    from trainer.settings_file import ConfigurationError

    try:
        checked = load_run_config(config)
    except ConfigurationError as error:
        typer.secho(str(error), err=True)
        raise typer.Exit(BAD_INPUT) from None
    # Only now what takes seconds to import: a misspelt key is answered at once.
    from rich.console import Console

    from trainer.job.job import TrainingDiverged
    from trainer.out_of_memory import OutOfMemory, is_out_of_memory
    from trainer.training_run import RunInputError, run_training

    try:
        with _stop_signal() as stopped:
            result = run_training(checked, Console(), stopped)
    except RunInputError as error:
        typer.secho(str(error), err=True)
        raise typer.Exit(BAD_INPUT) from None
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, TrainingDiverged | OutOfMemory) and not is_out_of_memory(error):
            raise
        typer.secho(str(error) or "out of memory", err=True)
        raise typer.Exit(FAILED) from None
    except OSError as error:  # a full disk, as `StorageError`, or rights that were taken away
        typer.secho(f"{error}; then the same command goes on from the newest state", err=True)
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt:
        typer.secho("interrupted", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if not result.files:
        typer.secho(f"interrupted at step {result.step}; resume with: python -m trainer.run {config}", err=True)
        raise typer.Exit(INTERRUPTED)
    for path in result.files:
        typer.echo(f"written: {path}")


@contextmanager
def _stop_signal() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM end the run after the step that it is in; a second one ends it at once."""
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    typer.run(main)
