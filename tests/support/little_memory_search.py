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

    setattr(TrainingJob, "_predict", limited_predict)  # noqa: B010 - types know no other way to replace a method
    setattr(ImageBatch, "_drawn", limited_drawn)  # noqa: B010
    worker.serve(setup)


if __name__ == "__main__":
    pool.serve = serve  # type: ignore[attr-defined]
    run_search(load_config(Path(sys.argv[1])), console=Console())
