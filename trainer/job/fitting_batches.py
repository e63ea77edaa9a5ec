"""How many photos at a time have fitted into memory in earlier jobs of a process, so that the next need not try."""

from dataclasses import dataclass, field
from typing import Any

from trainer.config import TrainingConfig
from trainer.job.job import TrainingJob
from trainer.job.ranks import Ranks
from trainer.out_of_memory import halved


@dataclass(frozen=True, kw_only=True)
class FirstBatch:
    """What a job begins with."""

    size: int
    """Photos in a forward pass of this process."""
    remarks: tuple[str, ...] = ()
    """What a user should know of it; none where it is the whole share."""


@dataclass
class FittingBatches:
    """The memory of a process for what has fitted, by what decides over it."""

    _sizes: dict[tuple[Any, ...], int] = field(default_factory=dict)

    def start(self, config: TrainingConfig, halvings: int = 0) -> FirstBatch:
        """What a job begins with, given the jobs that were learnt from.

        Args:
            config: of the job.
            halvings: how often a process has died of too little memory in this job.

        Raises:
            ValueError: a batch cannot be shared evenly by the processes.
        """
        share = Ranks().share_of(config.batch_size)
        size = min(halved(share, halvings), self._sizes.get(_decisive(config), share))
        if size == share:
            return FirstBatch(size=size)
        return FirstBatch(
            size=size,
            remarks=(
                f"begun with {size} of {share} photos in a forward pass, for with more memory ran out before; "
                "gradients accumulated",
            ),
        )

    def learn(self, job: TrainingJob) -> None:
        """Take note of what has fitted in a job that ran out of memory and has gone on."""
        if job.remarks:
            self._sizes[_decisive(job.config)] = job.micro_batch


def _decisive(config: TrainingConfig) -> tuple[Any, ...]:
    """What the memory of a forward and backward pass depends on, apart from the number of photos.

    The rank is left out: activations are many times larger than an adapter.
    """
    return (
        config.resolution,
        config.adapter,
        config.targets,
        config.trains_text_encoder,
        config.gradient_checkpointing,
        config.mixed_precision,
    )
