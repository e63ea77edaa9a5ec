"""Learning curves of a search, read from its run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.scores import FIDELITY, LIKENESS, OBJECTIVE, VALIDATION_LOSS
from search.config.run_layout import RunLayout
from search.report.figures import Curve
from search.storage.trial_record import CheckpointResult

CURVES = (OBJECTIVE, LIKENESS, FIDELITY, VALIDATION_LOSS)


def read_curves(folder: Path, trials: Sequence[Mapping[str, Any]]) -> Mapping[str, Mapping[str, Curve]]:
    """Each of `CURVES` by trial, as metric by step. Where a report is gone, the result still has its objective.

    Args:
        folder: The run folder.
        trials: As in the result.
    """
    curves: dict[str, dict[str, dict[int, float]]] = {name: {} for name in CURVES}
    for trial in trials:
        for checkpoint in trial["checkpoints"]:
            step = checkpoint["step"]
            try:
                metrics = CheckpointResult.read(RunLayout(folder).checkpoint(trial["id"], step)).metrics
            except (OSError, ValueError, KeyError):
                metrics = {OBJECTIVE: checkpoint["objective"]}
            for name in CURVES:
                if name in metrics:
                    curves[name].setdefault(trial["id"], {})[step] = metrics[name]
    return curves
