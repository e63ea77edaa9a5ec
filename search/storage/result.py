"""The result file: what a search found, in a shape that other programs may rely on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.config.run_layout import RunLayout
from search.storage.run_folder import RunFolderError
from trainer.files import write_file


def read_result(folder: Path) -> SearchResult:
    """The result that a run folder holds.

    Raises:
        RunFolderError: there is none yet, or it is damaged.
    """
    path = RunLayout(folder).result
    try:
        values: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise RunFolderError(f"{folder} holds no {path.name}; give a run whose search has ended") from None
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path} is damaged ({error}); restore it from a copy") from error
    return SearchResult(folder=folder, values=values)


NO_CANDIDATE = "no usable candidate"
"""How the reason begins why a search has no champion though it has done all it could."""

INTERRUPTED = "interrupted"
"""Status of a search that was interrupted."""

CHAMPION = "champion"
"""Status of a search that has a winner; every other status says why there is none."""


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """A search's outcome."""

    folder: Path
    """The run folder."""
    values: dict[str, Any]
    """What the file holds."""

    @property
    def has_champion(self) -> bool:
        return bool(self.values["status"] == CHAMPION)

    @property
    def has_no_candidate(self) -> bool:
        """Whether the search has done all it could and found nothing that may win."""
        return str(self.values["status"]).startswith(NO_CANDIDATE)

    @property
    def interrupted(self) -> bool:
        return bool(self.values["status"] == INTERRUPTED)

    def write(self) -> Path:
        """Write the file into the run folder."""
        path = RunLayout(self.folder).result
        text = json.dumps(self.values, indent=2, allow_nan=False) + "\n"
        write_file(path, lambda temporary: temporary.write_text(text, "utf-8"))
        return path
