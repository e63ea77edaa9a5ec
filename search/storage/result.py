"""The result file: what a search found, in a shape that other programs may rely on. One writer, one reader."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from search.config.run_layout import RESULT_FILE, RunLayout
from search.storage.result_schema import SCHEMA_VERSION, Outcome
from search.storage.run_folder import RunFolderError
from trainer.files import write_file

NO_CANDIDATE = "no usable candidate"
"""How the reason begins why a search has no champion though it has done all it could."""

INTERRUPTED = "interrupted"
"""Status of a search that was interrupted and can be resumed."""

CHAMPION = "champion"
"""Status of a search that has a winner; every other status says why there is none."""


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """A search's outcome and where its files lie."""

    folder: Path
    """The run folder."""
    outcome: Outcome

    @property
    def has_champion(self) -> bool:
        return self.outcome.status == CHAMPION

    @property
    def has_no_candidate(self) -> bool:
        """Whether the search has done all it could and found nothing that may win."""
        return self.outcome.status.startswith(NO_CANDIDATE)

    @property
    def interrupted(self) -> bool:
        return self.outcome.status == INTERRUPTED

    @cached_property
    def values(self) -> dict[str, Any]:
        """The file's content as plain values."""
        return self.outcome.model_dump(mode="json")

    def write(self) -> Path:
        """Write the file into the run folder."""
        path = RunLayout(self.folder).result
        text = json.dumps(self.values, indent=2, allow_nan=False) + "\n"
        write_file(path, lambda temporary: temporary.write_text(text, "utf-8"))
        return path


def read_result(folder: Path) -> SearchResult:
    """The result that a run folder holds.

    Raises:
        RunFolderError: there is none yet, it is damaged, or another version wrote it.
    """
    path = RunLayout(folder).result
    try:
        values = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise RunFolderError(f"{folder} holds no {RESULT_FILE}; give a run whose search has ended") from None
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path} is damaged ({error}); restore it from a copy") from error
    version = values.get("schema_version", 1) if isinstance(values, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise RunFolderError(
            f"{path} was written by a later version of this program (schema {version}, here {SCHEMA_VERSION}); read it "
            "with that version"
        )
    if isinstance(version, int) and version < SCHEMA_VERSION:
        raise RunFolderError(
            f"{path} was written by an earlier version of this program (schema {version}, here {SCHEMA_VERSION}), "
            "whose scores do not compare with today's; read it with that version, or search again"
        )
    try:
        return SearchResult(folder=folder, outcome=Outcome.model_validate(values))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise RunFolderError(f"{path} is damaged ({place}: {first['msg']}); restore it from a copy") from error


def find_result(folder: Path) -> SearchResult | None:
    """The result that a run folder holds; None where there is none, or no whole one."""
    try:
        return read_result(folder)
    except RunFolderError:
        return None


def mark_unfinished(folder: Path) -> None:
    """Have the result say that it is not the last word: until the run has ended again it was interrupted.

    Or a run that is killed in its next final would pass for ended, by the result of the one before.
    """
    result = find_result(folder)
    if result is not None:
        outcome = result.outcome.model_copy(update={"status": INTERRUPTED})
        SearchResult(folder=folder, outcome=outcome).write()
