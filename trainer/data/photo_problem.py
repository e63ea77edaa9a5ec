"""One thing wrong with a photo folder, or worth a look, and the error that lists all of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SHOWN = 5
"""Names that a line lists at most, before it says how many more there are."""


@dataclass(frozen=True, kw_only=True)
class PhotoProblem:
    """One thing wrong with a photo folder."""

    file: str
    """Name within the folder; "" when the folder as a whole is meant."""
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file + ': ' if self.file else ''}{self.reason}; {self.remedy}"


class PhotoFolderError(ValueError):
    """A photo folder cannot be used; `problems` lists everything that is wrong with it, in order of file name."""

    def __init__(self, folder: Path, problems: Iterable[PhotoProblem]) -> None:
        self.folder = folder
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.file, problem.reason)))
        count = f"{len(self.problems)} problem{'s' if len(self.problems) > 1 else ''}"
        where = printable(str(folder))
        super().__init__("\n".join([f"{count} in the photo folder {where}:", *(f"  - {p}" for p in self.problems)]))


def printable(name: str) -> str:
    """A file's name as every program can show it: bytes that are no text appear as `\\xe4`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def listed(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    every = list(dict.fromkeys(names))
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return ", ".join(every[:SHOWN]) + more
