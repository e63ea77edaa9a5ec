"""One rank of a job of two: `python rank_process.py FOLDER RANK`."""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from trainer.config import TrainingConfig
from trainer.data.cache import DataCache
from trainer.job.job import TrainingJob
from trainer.models.loading import load_base_model, set_threads


def main(folder: Path, rank: int) -> None:
    """Trains three steps; leaves its losses, weights and checkpoint (if it wrote one) in `folder`/RANK."""
    set_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    job_description = json.loads((folder / "job.json").read_text())
    base = load_base_model(job_description["base"], device="cpu")
    cache = DataCache.from_tensors(load_file(folder / "cache.safetensors"))
    with TrainingJob(base, cache, TrainingConfig(**job_description["config"]), prior=cache) as job:
        losses = [job.step().loss for _ in range(3)]
        weights = {name: weight.detach().clone() for name, weight in job.adapter.named_parameters("unet").items()}
        job.save(folder / str(rank) / "checkpoint")
    (folder / str(rank)).mkdir(exist_ok=True)
    save_file(weights, folder / str(rank) / "weights.safetensors")
    (folder / str(rank) / "losses.json").write_text(json.dumps(losses))
    try:
        TrainingJob(base, cache, TrainingConfig(**{**job_description["config"], "batch_size": 3}))
    except ValueError as error:
        (folder / str(rank) / "error.txt").write_text(str(error))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
