"""What lies where `trainer.run` keeps its output and its states."""

from collections.abc import Callable
from pathlib import Path

from tests.odd_input.case import TRAINING, Case, replace

COMMAND = ("trainer.run", TRAINING)


def state(content: str) -> Callable[[Path], None]:
    """A change: a state that holds this."""

    def change(folder: Path) -> None:
        path = folder / "out" / "state" / "step-3" / "training_state.json"
        path.parent.mkdir(parents=True)
        path.write_text(content, "utf-8")

    return change


CASES = [
    Case(
        "output-is-a-file",
        replace(TRAINING, "output: out", "output: search.yaml"),
        COMMAND,
        says=("output: ", "search.yaml cannot be a folder (File exists); name another"),
    ),
    Case(
        "output-below-a-file",
        replace(TRAINING, "output: out", "output: search.yaml/out"),
        COMMAND,
        says=("search.yaml/out cannot be a folder (Not a directory); name another",),
    ),
    Case(
        "state-of-an-older-version",
        state('{"version": 2, "step": 3}'),
        COMMAND,
        says=("checkpoint version 2, not 3", "to begin anew, remove", "or name another output"),
        leaves=("out/cache/*",),
    ),
    Case(
        "no-state-is-whole",
        state("[]"),
        COMMAND,
        says=("cannot resume from step-3: ", "training_state.json is missing or damaged", "to begin anew, remove"),
        leaves=("out/cache/*",),
    ),
]
