"""`python -m search.sync RUN`: tell MLflow what it has not heard of a search, because it was away or was killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from search.config.run_layout import RunLayout
from trainer.exit_codes import BAD_INPUT, FAILED


def main(
    run: Annotated[Path, typer.Argument(help="Run folder, such as runs/anna.")],
    uri: Annotated[
        str | None, typer.Option(help="Tracking URI, instead of the search's; with a password, if it needs one.")
    ] = None,
) -> None:
    """Tell MLflow what it has not heard of a search. What it knows already is not told twice.

    Exit codes: 0 MLflow knows everything, 1 it is away or refuses something, 2 bad input.
    """
    from search.tracking.mlflow_writer import Bookkeeper, InUseError, TrackingError
    from search.tracking.outbox import LEDGER_FILE, LedgerError, read_entries

    if not (run / LEDGER_FILE).is_file():
        _refuse(f"{run} is no run folder that has something to tell: it holds no {LEDGER_FILE}")
    try:
        entries = read_entries(run)
        if not entries:
            _refuse(f"{run / LEDGER_FILE} is empty: the search ended before it had anything to tell")
        started = entries[0].values
        bookkeeper = Bookkeeper(uri or started["uri"], started["experiment"], run.resolve().parent.parent)
        if not bookkeeper.reachable():
            typer.secho(f"MLflow at {bookkeeper.shown_uri} does not answer; start it, or name another --uri", err=True)
            raise typer.Exit(FAILED)
        bookkeeper.open(run)
    except (LedgerError, TrackingError, InUseError) as error:
        _refuse(str(error))
    told = 0
    try:
        for number, reason in sorted(bookkeeper.refused.items()):
            typer.echo(f"once more: record {number + 1} ({entries[number].kind}), which was refused: {reason}")
            bookkeeper.tell_again(number, entries[number])
            told += 1
        for entry in entries[bookkeeper.told :]:
            bookkeeper.tell(entry)
            told += 1
    except Exception as error:  # MLflow raises whatever it likes; the records stay where they are.
        left = len(entries) - bookkeeper.told + len(bookkeeper.refused)
        typer.secho(f"told {told} records; {left} are left, for MLflow at {bookkeeper.shown_uri}: {error}", err=True)
        raise typer.Exit(FAILED) from None
    finally:
        bookkeeper.close()
        _note(run, bookkeeper)
    typer.echo(f"told {told} records; MLflow at {bookkeeper.shown_uri} knows all {len(entries)}")


def _note(run: Path, bookkeeper: Any) -> None:
    """What the result could not say while MLflow was away."""
    from trainer.files import write_file

    path = RunLayout(run).result
    if not path.is_file() or not bookkeeper.run_id:
        return
    result = json.loads(path.read_text("utf-8"))
    result["mlflow"] |= {"experiment_id": bookkeeper.experiment_id, "run_id": bookkeeper.run_id}
    if bookkeeper.model_uri and result["champion"]:
        result["champion"]["model_uri"] = bookkeeper.model_uri
    text = json.dumps(result, allow_nan=False, indent=1)
    write_file(path, lambda temporary: temporary.write_text(text + "\n", "utf-8"))


def _refuse(message: str) -> None:
    typer.secho(message, err=True)
    raise typer.Exit(BAD_INPUT)


if __name__ == "__main__":
    typer.run(main)
