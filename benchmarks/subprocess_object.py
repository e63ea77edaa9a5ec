"""A process of its own that holds one object, made there once, whose methods are called from here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from types import TracebackType
from typing import Any


class Held:
    """Starts the process at once and does not wait for it. Use as a context manager: leaving ends the process.

    Args:
        threads: CPU threads of the libraries that read OMP_NUM_THREADS.
        make: Makes the object in the new process; a class, or another function at the head of a module.
        arguments: Of `make`; they are pickled.
        environment: Environment variables of the new process besides.
    """

    def __init__(
        self, threads: int, make: Callable[..., Any], *arguments: Any, environment: Mapping[str, str] | None = None
    ) -> None:
        self._executor = ProcessPoolExecutor(
            1, mp_context=get_context("spawn"), initializer=_make, initargs=(make, *arguments)
        )
        # Read once, by the process that is started with the first task.
        with _environment({"OMP_NUM_THREADS": str(threads), **(environment or {})}):
            self._started = self._executor.submit(_nothing)

    def __enter__(self) -> Held:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)

    def wait(self) -> None:
        """Returns when the object has been made.

        Raises:
            BrokenProcessPool: it could not be; the process has said why on stderr.
        """
        self._started.result()

    def call(self, method: str, *arguments: Any) -> Future[Any]:
        """Call a method of the object, after those that were called before."""
        return self._executor.submit(_call, method, *arguments)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_object: Any = None


def _make(make: Callable[..., Any], *arguments: Any) -> None:
    global _object
    _object = make(*arguments)


def _call(method: str, *arguments: Any) -> Any:
    return getattr(_object, method)(*arguments)


def _nothing() -> None:
    """The first task of a process: done once its object is there."""
