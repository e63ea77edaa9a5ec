"""A dispatcher without Ray, and jobs for it."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from search.workers.dispatcher import Dispatcher
from search.workers.jobs import AnchorJob
from tests.support.command import CEILING


def job(name: str) -> AnchorJob:
    return AnchorJob(id=name, folder=Path(name), prompt_set="validation")


def run(test: Callable[[Dispatcher], Coroutine[Any, Any, None]], tries: int = 3) -> None:
    """Runs what is tested beside a dispatcher's own tasks; fails if it hangs."""

    async def limited() -> None:
        await asyncio.wait_for(test(Dispatcher(tries)), timeout=CEILING)

    asyncio.run(limited())
