"""`python -m search.run` with a moment staged in it, so that a test need not catch it:
`python staged_search.py SCENE ARGUMENT...`.

A scene plays in the processes that train. What it leaves lies in the current folder of the command.
"""

import os
import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

GATE = "gate"
"""The file for which trainings wait in the scene `gated`."""

HELD_AT = 21
"""The step after which a training is held: the first one after the first checkpoint."""

STUCK = "stuck"
"""The file that says in the scene `stuck` that a training stands still."""

KILLED = "killed"
"""The file into which the scene `killed` writes the number of the process that it kills."""

KILLED_AT = 30
"""The step after which it is killed: midway between two checkpoints."""


def gated(home: Path) -> None:
    """Trainings are held between two checkpoints until the file `gate` is there, or the search wants them to end."""
    import time

    from search.workers import worker

    asks = worker._Service._go_on

    def go_on(service: Any, step: int) -> bool:
        while (wanted := asks(service, step)) and step >= HELD_AT and not (home / GATE).exists():
            time.sleep(0.05)
        return wanted

    setattr(worker._Service, "_go_on", go_on)  # noqa: B010 - types know no other way to replace a method


def stuck(home: Path) -> None:
    """Trainings stand still between two checkpoints and hear nothing any more."""
    import threading

    from search.workers import worker

    asks = worker._Service._go_on

    def go_on(service: Any, step: int) -> bool:
        if step >= HELD_AT:
            (home / STUCK).touch()
            threading.Event().wait()
        return asks(service, step)

    setattr(worker._Service, "_go_on", go_on)  # noqa: B010


def killed(home: Path) -> None:
    """The first training that comes to a certain step is killed with its process; once in a search."""
    import signal

    from search.workers import worker

    asks = worker._Service._go_on

    def go_on(service: Any, step: int) -> bool:
        if step == KILLED_AT:
            try:
                with (home / KILLED).open("x") as file:
                    file.write(str(os.getpid()))
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return asks(service, step)

    setattr(worker._Service, "_go_on", go_on)  # noqa: B010


def little_memory(home: Path) -> None:
    """A training forward pass holds as many photos as go into 16 divided by the rank; two images are made at once."""
    import torch

    from evaluation.generate import ImageBatch
    from trainer.job.job import TrainingJob

    predict, drawn = TrainingJob._predict, ImageBatch._drawn

    def check(fits: bool) -> None:
        if not fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def limited_predict(job: Any, cache: Any, rows: Any, *rest: Any) -> Any:
        check(not torch.is_grad_enabled() or len(rows) * job.config.rank <= 16)
        return predict(job, cache, rows, *rest)

    def limited_drawn(batch: Any, start: int, stop: int, draw: Any) -> Any:
        check(stop - start <= 2)
        return drawn(batch, start, stop, draw)

    setattr(TrainingJob, "_predict", limited_predict)  # noqa: B010
    setattr(ImageBatch, "_drawn", limited_drawn)  # noqa: B010


SCENES: dict[str, Callable[[Path], None]] = {
    scene.__name__.replace("_", " "): scene for scene in (gated, stuck, killed, little_memory)
}


class AfterImport(MetaPathFinder):
    """Calls `act` with a module as soon as it is imported: what the program does before that stays as it is."""

    def __init__(self, name: str, act: Callable[[ModuleType], None]) -> None:
        self._name = name
        self._act = act

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            self._act(module)

        setattr(spec.loader, "exec_module", exec_module)  # noqa: B010
        return spec


def stage(scene: Callable[[Path], None]) -> None:
    """Have every worker of the search begin with the scene. Ray sends the function by value: this is `__main__`."""
    home = Path.cwd()

    def replace(pool: ModuleType) -> None:
        def serve(setup: Any) -> None:
            from search.workers import worker

            scene(home)
            worker.serve(setup)

        setattr(pool, "serve", serve)  # noqa: B010

    sys.meta_path.insert(0, AfterImport("search.workers.pool", replace))


if __name__ == "__main__":
    import typer

    from search import run

    stage(SCENES[sys.argv.pop(1)])
    typer.run(run.main)
