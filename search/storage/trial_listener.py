"""Who hears of a search's trials: of each event one call, in the driver, within Tune's loop."""

from __future__ import annotations

from search.storage.trial_record import CheckpointResult, TrialRecord


class TrialListener:
    """Overrides what it wants to hear of. A call must not block: all trials wait for it."""

    def started(self, record: TrialRecord) -> None:
        """A trial starts, or starts again after a restart of the search or of its process."""

    def checkpoint(self, record: TrialRecord, result: CheckpointResult) -> None:
        """A checkpoint of a trial was scored; `record` holds it already."""

    def ended(self, record: TrialRecord) -> None:
        """A trial has ended; its record says how."""
