"""One rank of a job of two whose memory runs out: `python memory_rank.py FOLDER RANK`."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainer.config import TrainingConfig
from trainer.data.cache import DataCache
from trainer.job.job import TrainingJob
from trainer.models.loading import load_base_model, set_threads
from trainer.out_of_memory import OutOfMemory

MESSAGE = "CUDA out of memory. Tried to allocate 2.00 GiB."


def main(folder: Path, rank: int) -> None:
    """Two steps that run out of memory and a third that cannot be done; then the same two as told from the start."""
    set_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    description = json.loads((folder / "job.json").read_text())
    base = load_base_model(description["base"], device="cpu")
    cache = DataCache.from_tensors(load_file(folder / "cache.safetensors"))
    config = TrainingConfig(**description["config"])
    told: dict[str, Any] = {"losses": [], "micro_batches": [], "expected_losses": []}
    with TrainingJob(base, cache, config) as job:

        def forward(module: Any, arguments: tuple[Any, ...]) -> None:
            short = rank == 1 and len(arguments[0]) > 2 if job.step_count == 0 else rank == 0 and job.step_count == 2
            if torch.is_grad_enabled() and short:
                raise torch.OutOfMemoryError(MESSAGE)

        def optimizer(*arguments: Any) -> None:
            if rank == 1 and job.step_count == 1 and job.micro_batch > 1:
                raise torch.OutOfMemoryError(MESSAGE)

        hook = base.denoiser.register_forward_pre_hook(forward)
        job._optimizer_step.optimizer.register_step_post_hook(optimizer)
        for _ in range(2):
            told["losses"].append(job.step().loss)
            told["micro_batches"].append(job.micro_batch)
        try:
            job.step()
        except OutOfMemory as error:
            told["failure"] = str(error)
        told["remarks"] = job.remarks
        save_file(weights_of(job), folder / f"weights-{rank}.safetensors")
        hook.remove()
    with TrainingJob(base, cache, config, micro_batch=2) as job:
        told["expected_losses"].append(job.step().loss)
        job._micro_batch.size = 1
        told["expected_losses"].append(job.step().loss)
        save_file(weights_of(job), folder / f"expected-{rank}.safetensors")
    (folder / f"told-{rank}.json").write_text(json.dumps(told))
    torch.distributed.destroy_process_group()


def weights_of(job: TrainingJob) -> dict[str, Tensor]:
    """A copy."""
    return {name: weight.detach().clone() for name, weight in job.adapter.named_parameters("unet").items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
