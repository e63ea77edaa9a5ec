"""The layout of a run folder."""

from __future__ import annotations

CONFIGURATION_FILE = "search.yaml"
JOURNAL_FILE = "journal.log"
LOCK_FILE = "search.lock"

STATE = "state"
"""Folder within a job's folder that holds what an interrupted training needs to go on."""

ANCHORS_FILE = "anchors.json"
"""File in an anchor job's folder: the anchors, and which photos and images they were measured between."""


def finalist_folder(trial: str, step: int) -> str:
    """Name of the folder in `final/` that holds a finalist's own checkpoint as the final scored it."""
    return f"{trial}-step-{step}"


JOURNAL = "journal.log"
"""The file in a run folder that holds the Optuna study."""
