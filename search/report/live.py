"""`report.html` while the search runs: written anew as checkpoints come, so that it can be watched from anywhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from search.config.search_config import SearchConfig
from search.report.figures import draw_figures
from search.report.outcome import build_result
from search.report.report_page import write_report
from search.storage.result_schema import MlflowResult
from search.storage.trial_listener import TrialListener
from search.storage.trial_record import CheckpointResult, TrialRecord
from trainer.data.photos import CaptionedPhoto

LEAST_SECONDS = 20.0
"""Between two reports."""
SHARE = 0.05
"""Of the time, at most, that reports are written in: they take a core from the workers."""


class LiveReport(TrialListener):
    """Writes the report of a search that runs, in a thread of its own. A report that fails costs nothing but itself.

    Args:
        config: The search.
        folder: Its run folder.
        photos: Reference photos, of which a few are shown.
        base: The untuned model on the validation prompts.
        records: The trials so far; the list grows while the search runs.
        mlflow: Says where MLflow keeps the search.
    """

    def __init__(
        self,
        config: SearchConfig,
        folder: Path,
        photos: Sequence[CaptionedPhoto],
        *,
        base: CheckpointResult,
        records: Sequence[TrialRecord],
        mlflow: Callable[[], MlflowResult],
    ) -> None:
        self._config, self._folder, self._photos = config, folder, photos
        self._base, self._records, self._mlflow = base, records, mlflow
        self._began = time.monotonic()
        self._news = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="live-report", daemon=True)
        self.failure = ""
        """Why the last report could not be written; empty if it could."""

    def checkpoint(self, record: TrialRecord, result: CheckpointResult) -> None:
        self._news.set()

    def ended(self, record: TrialRecord) -> None:
        self._news.set()

    def __enter__(self) -> LiveReport:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Waits for the report that is being written: who writes the last one comes after it."""
        self._done.set()
        self._news.set()
        self._thread.join()

    def write(self) -> None:
        """Write the report of what there is now."""
        records = list(self._records)
        ended = sum(record.is_over for record in records)
        at = time.strftime("%H:%M:%S")
        result = build_result(
            self._config,
            self._folder,
            status=f"{ended} of {self._config.trials} trials have ended at {at}",
            base=self._base,
            final=None,
            opinion=None,
            records=records,
            model_uri=None,
            seconds={"total": time.monotonic() - self._began},
            workers=0,
            mlflow=self._mlflow(),
        )
        write_report(result, self._config, self._photos, draw_figures(result, self._config), running=True)

    def _renew(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            if self._done.is_set():
                return
            began = time.monotonic()
            try:
                self.write()
                self.failure = ""
            except Exception as error:  # whatever it is, the search goes on
                self.failure = f"{type(error).__name__}: {error}"
            took = time.monotonic() - began
            self._done.wait(max(LEAST_SECONDS, took / SHARE))
