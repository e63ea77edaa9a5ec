"""The report of a run, written as the end of a search writes it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from search.config.search_config import SearchConfig
from search.report.figures import draw_figures
from search.report.report_page import write_report
from search.storage.result import SearchResult
from search.storage.result_schema import Outcome
from trainer.data.photos import CaptionedPhoto


def write_page(result: SearchResult, config: SearchConfig, photos: Sequence[CaptionedPhoto] = ()) -> Path:
    """Draw the figures and write `report.html` into the run folder."""
    return write_report(result, config, photos, draw_figures(result, config))


def changed(result: SearchResult, **values: Any) -> SearchResult:
    """The result with other values, as the result file has them."""
    return SearchResult(folder=result.folder, outcome=Outcome.model_validate({**result.values, **values}))
