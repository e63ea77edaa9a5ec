"""The trials as a table, `trials.csv`: for a spreadsheet, and for MLflow's page of a run, which shows it as a table."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from search.record import EFFORTS
from trainer.files import write_file

TRIALS_FILE = "trials.csv"


def write_trials(trials: Sequence[Mapping[str, Any]], folder: Path) -> Path:
    """Write the table: a row a trial, in the order of the trials; a cell is empty where there is nothing to say.

    Args:
        trials: As in `result.json`.
        folder: The run folder.

    Returns:
        The file.
    """
    params = list(dict.fromkeys(name for trial in trials for name in trial["params"]))
    metrics = list(dict.fromkeys(name for trial in trials for name in trial["metrics"]))
    path = folder / TRIALS_FILE

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["trial", "state", *params, "best_step", *metrics, "seconds", *EFFORTS, "reason"])
            for trial in trials:
                table.writerow(
                    [
                        trial["id"],
                        trial["state"],
                        *(trial["params"].get(name, "") for name in params),
                        "" if trial["best_step"] is None else trial["best_step"],
                        *(trial["metrics"].get(name, "") for name in metrics),
                        trial["seconds"],
                        *("" if trial[name] is None else trial[name] for name in EFFORTS),
                        trial["reason"],
                    ]
                )

    write_file(path, write)
    return path
