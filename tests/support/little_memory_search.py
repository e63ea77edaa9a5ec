"""A search whose workers have little memory, run as a process: `python little_memory_search.py CONFIG`.

A training forward pass holds as many photos as go into 16 divided by the rank; at most two images are made at once.
"""

import sys
from pathlib import Path

from rich.console import Console

from search.config.search_config import load_config
from search.search import run_search
from search.workers import pool
from search.workers.worker import WorkerSetup


def serve(setup: WorkerSetup) -> None:
    """In the worker's process: as a worker does, with less memory."""
    from typing import Any

    import torch

    from evaluation.generate import ImageBatch
    from search.workers import worker as worker
    from trainer.job.job import TrainingJob

    loss, drawn = TrainingJob._loss, ImageBatch._drawn

    def check(fits: bool) -> None:
        if not fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def limited_loss(job: Any, cache: Any, photos: Any, *rest: Any, weighted: bool) -> Any:
        check(not weighted or len(photos) * job.config.rank <= 16)
        return loss(job, cache, photos, *rest, weighted=weighted)

    def limited_drawn(batch: Any, start: int, stop: int, draw: Any) -> Any:
        check(stop - start <= 2)
        return drawn(batch, start, stop, draw)

    setattr(TrainingJob, "_loss", limited_loss)  # noqa: B010 - types know no other way to replace a method
    setattr(ImageBatch, "_drawn", limited_drawn)  # noqa: B010
    worker.serve(setup)


if __name__ == "__main__":
    pool.serve = serve  # type: ignore[attr-defined]
    run_search(load_config(Path(sys.argv[1])), console=Console())
