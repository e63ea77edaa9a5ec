"""`python -m search.sync RUN`: make MLflow show all that a run folder holds, because it was away or was killed."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from search.config.search_config import SearchConfig
    from search.storage.result import SearchResult
    from search.storage.trial_record import TrialRecord
    from search.tracking.tracker import Tracker

PENDING, BAD_INPUT = 1, 2


def main(
    run: Annotated[Path, typer.Argument(help="Run folder, such as runs/anna.")],
    uri: Annotated[
        str | None, typer.Option(help="Tracking URI, instead of the search's; with a password, if it needs one.")
    ] = None,
) -> None:
    """Deliver to MLflow what it has not taken of a search. What it has already is not written twice.

    Exit codes: 0 MLflow shows everything, 1 it is away or refuses something, 2 bad input.
    """
    from search.storage.result import read_result
    from search.storage.run_folder import RunFolder, RunFolderError, read_config
    from search.study.history import read_history
    from search.study.study import make_sampler
    from search.tracking.tracker import Tracker

    for name in ("optuna", "mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    path = run.resolve()
    try:
        config = read_config(path)
        with RunFolder.reopen(path) as folder:
            if not folder.layout.journal.exists():
                raise RunFolderError(f"{folder.layout.journal} is missing; put it back")
            tracker = Tracker(
                uri or config.tracking.uri, config.tracking.experiment, path.parent.parent, patience=math.inf
            )
            # Nothing is proposed, so what a warm start begins with does not have to be at hand.
            sampler = make_sampler(config.model_copy(update={"warm_start": None}), path)
            records = read_history(sampler, config, folder.layout.trials)
            result = read_result(path) if folder.layout.result.is_file() else None
            with tracker:
                tracker.start(path)
                if result is not None:
                    _complete(result, config, tracker, records)
                tracker.finish(records)
    except ValueError as error:
        typer.secho(str(error), err=True)
        raise typer.Exit(BAD_INPUT) from None
    if tracker.pending:
        typer.secho(f"MLflow has not taken all of {tracker.pending} runs: {tracker.failure}", err=True)
        raise typer.Exit(PENDING)
    typer.echo(f"MLflow at {tracker.shown_uri} shows all {1 + len(records)} runs of {run}")


def _complete(result: SearchResult, config: SearchConfig, tracker: Tracker, records: Sequence[TrialRecord]) -> None:
    """What only the result says of the trials, and what it could not say while MLflow was away."""
    from search.config.run_layout import RunLayout
    from search.storage.trial_record import JobState
    from search.tracking.registry import Champion

    outcome = result.outcome
    ended = {trial.id: trial for trial in outcome.trials}
    for record in records:
        # A trial that a limit has cut off goes on in the journal, for a later search with another limit.
        if record.state is JobState.RUNNING and record.id in ended and not result.interrupted:
            record.state, record.reason = JobState(ended[record.id].state), ended[record.id].reason
    tracker.flush()
    known = {"experiment_id": tracker.experiment_id, "run_id": tracker.run_id}
    mlflow = outcome.mlflow.model_copy(update=known if tracker.run_id else {})
    champion = outcome.champion
    if result.has_champion and champion is not None:
        adapter, final = RunLayout(result.folder).champion, champion.final.metrics
        winner = Champion(config=config, adapter=adapter, trial=champion.trial, step=champion.step, final=final)
        uri = tracker.champion(winner)
        champion = champion.model_copy(update={"model_uri": uri or champion.model_uri})
    complete = outcome.model_copy(update={"mlflow": mlflow, "champion": champion})
    if complete != outcome:
        replace(result, outcome=complete).write()


if __name__ == "__main__":
    typer.run(main)
