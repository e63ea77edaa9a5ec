"""One input that a user may give, what the command answers to it, and what it must not say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

CONFIGURATION = "search.yaml"
TRAINING = "run.yaml"


@dataclass(frozen=True)
class Case:
    """A change to a small project, a command in it, and its answer.

    The project is a folder of its own for every case: `search.yaml` (a search of seconds at 64 pixels), `run.yaml` (a
    training of six steps), and copies of the demo's `photos`, `prompts`, `base` and `clip`.
    """

    name: str
    """Short, unique, and readable in the test's name."""
    change: Callable[[Path], None] = lambda folder: None
    """Makes the input: is given the project's folder."""
    command: tuple[str, ...] = ("search.run", CONFIGURATION, "--dry-run")
    """Module and arguments, as after `python -m`."""
    exit_code: int = 2
    says: tuple[str, ...] = ()
    """All of these are in what is printed: the value, and what to do about it. Runs of white space are one space."""
    silent: tuple[str, ...] = ()
    """None of these is in what is printed."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of the environment; `{folder}` in a value is the project's folder."""
    leaves: tuple[str, ...] = ()
    """Files and folders that the command may leave in the project, as patterns. Default: none."""


def append(path: str, text: str) -> Callable[[Path], None]:
    """A change: the text at the end of a file."""

    def change(folder: Path) -> None:
        with (folder / path).open("a", encoding="utf-8") as file:
            file.write(text)

    return change


def replace(path: str, old: str, new: str) -> Callable[[Path], None]:
    """A change: one text in a file for another; it must be there."""

    def change(folder: Path) -> None:
        content = (folder / path).read_text("utf-8")
        assert old in content, f"{path} holds no {old!r}"
        (folder / path).write_text(content.replace(old, new), "utf-8")

    return change


def setting(*pairs: str) -> tuple[str, ...]:
    """The command of a dry run with `--set` for each pair `key=value`."""
    return ("search.run", CONFIGURATION, "--dry-run", *(word for pair in pairs for word in ("--set", pair)))
