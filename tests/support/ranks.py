"""A training job in two processes, each a program of this folder: `python PROGRAM FOLDER RANK`."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save_file

from tests.support.command import CEILING
from tests.trainer.conftest import DEMO_BASE
from trainer.config import TrainingConfig
from trainer.data.cache import DataCache

SUPPORT = Path(__file__).parent


def run_two_ranks(program: str, folder: Path, config: TrainingConfig, cache: DataCache) -> None:
    """Run `program` as rank 0 and rank 1 until both have ended well.

    Args:
        program: A file of this folder.
        folder: Gets `job.json` and `cache.safetensors`, from which the ranks read, and whatever they write.
        config: Of the job, on the demo's base model.
        cache: The photos.
    """
    (folder / "job.json").write_text(json.dumps({"base": str(DEMO_BASE), "config": asdict(config)}))
    save_file(cache.tensors(), folder / "cache.safetensors")
    environment = {"PYTHONPATH": str(SUPPORT.parents[1]), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(SUPPORT / program), str(folder), str(rank)], env={**os.environ, **environment}
        )
        for rank in range(2)
    ]
    try:
        assert [process.wait(timeout=CEILING) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
