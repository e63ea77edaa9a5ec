"""Names that look like dates, numbers or switches, and files as editors of other systems save them."""

from collections.abc import Callable
from pathlib import Path

from tests.odd_input.case import CONFIGURATION, TRAINING, Case, append, replace, setting

TRAIN = ("trainer.run", TRAINING)
TYPED = ("2026-11-27", "42", "007", "1e4", "1.50", "no", "on", "null", "true")
"""As people type them. In a file the last two could mean something else than text."""
WRITTEN = TYPED[:-2]


def encoded(path: str, encoding: str, end: str = "\n") -> Callable[[Path], None]:
    """A change: the file in another encoding, with other ends of lines."""

    def change(folder: Path) -> None:
        text = (folder / path).read_text("utf-8")
        (folder / path).write_bytes(text.replace("\n", end).encode(encoding))

    return change


def untrainable(name: str) -> Callable[[Path], None]:
    """A change: the training run's name, and a fault behind it, so that a name that is accepted trains nothing."""

    def change(folder: Path) -> None:
        replace(TRAINING, "name: one", f"name: {name}")(folder)
        append(TRAINING, "save_every: 0\n")(folder)
        replace(TRAINING, "save_every: 3\n", "")(folder)

    return change


def a_list(folder: Path) -> None:
    (folder / CONFIGURATION).write_text("- a\n", "utf-8")


def refused(pair: str, *says: str) -> Case:
    return Case(f"set-{pair[:30]}", command=setting(pair), says=says)


CASES = [
    *(
        Case(
            f"name-{name}",
            command=("search.run", CONFIGURATION, "--dry-run", "--name", name),
            exit_code=0,
            says=(f"{name}: the plan; nothing is started",),
        )
        for name in TYPED
    ),
    *(
        Case(
            f"name-in-the-file-{name}",
            replace(CONFIGURATION, "name: t", f"name: {name}"),
            exit_code=0,
            says=(f"{name}: the plan; nothing is started",),
        )
        for name in WRITTEN
    ),
    *(
        Case(
            f"name-in-the-file-of-a-training-run-{name}",
            untrainable(name),
            TRAIN,
            says=("save_every",),
            silent=("name",),
        )
        for name in WRITTEN
    ),
    *(
        Case(
            f"name-in-the-file-{name}",
            replace(CONFIGURATION, "name: t", f"name: {name}"),
            says=("name: Input should be a valid string", "in quotes"),
        )
        for name in ("null", "true")
    ),
    Case(
        "name-with-a-colon",
        command=("search.run", CONFIGURATION, "--dry-run", "--name", "12:30"),
        says=("name: String should match pattern", "(found '12:30')"),
    ),
    Case(
        "name-of-the-other-file",
        command=("search.run", CONFIGURATION, "--dry-run", "--name", "pytorch_lora_weights"),
        says=("name: this is the name of the file for diffusers; choose another",),
    ),
    Case(
        "name-of-the-other-file-in-a-training-run",
        replace(TRAINING, "name: one", "name: pytorch_lora_weights"),
        TRAIN,
        says=("name: this is the name of the file for diffusers; choose another",),
    ),
    Case("numbers-as-words", command=setting("photos.trigger=3007", "tracking.experiment=2026"), exit_code=0),
    Case(
        "no-template",
        replace(CONFIGURATION, "trigger: sks", "trigger: sks, caption_template: no"),
        says=("photos.caption_template: no is text here; for none write null, for the word put it in quotes",),
    ),
    *(
        Case(f"{encoding}-{ends}", encoded(CONFIGURATION, encoding, end), exit_code=0, says=("t: the plan",))
        for encoding in ("utf-8-sig", "utf-8")
        for ends, end in (("windows", "\r\n"), ("mac", "\r"))
    ),
    *(
        Case(
            f"{encoding}-{path}",
            encoded(path, encoding),
            command,
            says=(f"{path} is not UTF-8 text", "save it as UTF-8"),
        )
        for encoding in ("utf-16", "utf-16-le")
        for path, command in ((CONFIGURATION, Case("").command), (TRAINING, TRAIN))
    ),
    refused("photos.folder=~nobody-here", "a path cannot be used: Could not determine home directory"),
    refused("evaluation.prompts=" + "x" * 300, "cannot be used: File name too long"),
    refused("runs=" + "x" * 300, "cannot be used: File name too long"),
    Case(
        "a-path-too-long-in-a-training-run",
        replace(TRAINING, "output: out", "output: " + "x" * 300),
        TRAIN,
        says=("cannot be used: File name too long",),
    ),
    Case(
        "a-nul",
        replace(CONFIGURATION, "clip: clip", 'clip: "cl\\0ip"'),
        says=("evaluation.clip: this text holds a NUL character; leave it out", "line 14"),
    ),
    Case("tabs", replace(CONFIGURATION, "  steps:", "\tsteps:"), says=(f"{CONFIGURATION} is not YAML", "line 7")),
    Case("a-list", a_list, says=("must hold a mapping of settings, not list",)),
]
