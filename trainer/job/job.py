"""One fine-tuning job as a live object: step it, evaluate it, save it, restore it, close it. Knows nothing of Ray."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from trainer.adapters.adapter import Adapter, attach_adapter
from trainer.adapters.average import AveragedWeights
from trainer.config import TrainingConfig
from trainer.data.bucketed_cache import BucketedCache
from trainer.data.cache import DataCache
from trainer.data.prior_config import no_class_images
from trainer.data.views import Views
from trainer.job import state as job_state
from trainer.job.acceleration import choose_precision, make_accelerator
from trainer.job.identity import JobIdentity
from trainer.job.loss import NoiseSchedule
from trainer.job.memory import MicroBatch, PeakMemory
from trainer.job.objective import Objective
from trainer.job.optimizer_step import OptimizerStep
from trainer.job.ranks import Ranks
from trainer.job.step_batches import Batch, StepBatches
from trainer.job.validation import validation_loss
from trainer.models.base_model import BaseModel

FINITE_CHECK_STEPS = 25


class TrainingDiverged(RuntimeError):  # noqa: N818 - a state of the job, as much as an error
    """Loss, gradients or weights are not finite any more; the job cannot continue."""

    def __init__(self, step: int, what: str = "training loss") -> None:
        super().__init__(f"the {what} is not finite at step {step}; use a lower learning rate")
        self.step = step


@dataclass(frozen=True, eq=False)
class StepReport:
    """What one optimizer step did."""

    step: int
    """Optimizer steps done, from 1."""
    loss_tensor: Tensor
    """Float32 scalar on the job's device: weighted loss averaged over all photos of the step, and the prior's share."""
    learning_rates: dict[str, float]
    """Rate that this step used, by part of the model."""

    @property
    def loss(self) -> float:
        """The loss as a number; waits for the device."""
        return float(self.loss_tensor)


class TrainingJob:
    """Fine-tunes one adapter on `base`, which it holds until `close`.

    In an initialised torch.distributed group every rank makes the same job: each trains on its share of every batch and
    gradients are averaged, so the number of ranks does not change what is learnt. All randomness of a step is a
    function of (config.seed, step). Photos of several sizes never meet in one forward pass (`trainer.data.batches`).

    A step that runs out of memory in any rank is done again from its start in all of them with half the photos in a
    forward pass, as are the steps after it; gradients are accumulated, so it learns the same up to rounding. (Only
    dropout draws other masks, as it does with another number of ranks.) A checkpoint does not record it.

    Args:
        base: carries no adapter; the job attaches its own.
        cache: the training photos, of one size or several; moved to the base's device.
        config: what to do.
        views: the forms of each photo that `cache` holds.
        prior: the class images, needed where config.prior_loss_weight is above 0 and otherwise ignored.
        micro_batch: photos in one forward pass on this rank at the start, at most; at least 1; None: its whole share.

    Raises:
        ValueError: the base carries an adapter, class images are weighed but missing, or config asks for what the
            device or group cannot do.
    """

    def __init__(
        self,
        base: BaseModel,
        cache: DataCache | BucketedCache,
        config: TrainingConfig,
        views: Views | None = None,
        prior: DataCache | None = None,
        *,
        micro_batch: int | None = None,
    ) -> None:
        self._ranks = Ranks()
        share = self._ranks.share_of(config.batch_size)
        self._micro_batch = MicroBatch(share if micro_batch is None else min(micro_batch, share), config)
        views = views or Views()
        views.check(config)
        if config.prior_loss_weight > 0 and prior is None:
            raise ValueError(no_class_images(config.prior_loss_weight))
        precision = choose_precision(config.mixed_precision, base.device, base.dtype)
        self.base = base
        self.config = config
        self.step_count = 0
        self.closed = False
        self._evaluating = False
        self._objective = Objective(NoiseSchedule.of(base.scheduler, base.device), config)
        self._batches = StepBatches(
            BucketedCache.of(cache),
            views,
            prior if config.prior_loss_weight > 0 else None,
            config=config,
            ranks=self._ranks,
            density=self._objective.schedule.density,
        )
        self._peak = PeakMemory(base.device)
        self._average: AveragedWeights | None = None
        self.adapter: Adapter = attach_adapter(base, config)
        try:
            self._accelerator = make_accelerator(base.device, precision, config.gradient_accumulation_steps)
            if config.ema_decay:
                self._average = AveragedWeights(job_state.named_weights(self.adapter), config.ema_decay)
            if config.gradient_checkpointing:
                base.denoiser.enable_gradient_checkpointing()
            self._optimizer_step = OptimizerStep(
                self._accelerator, self.adapter, config, ranks=self._ranks, micro_batch=self._micro_batch
            )
            self.adapter.train()
            self._peak.begin()
        except BaseException:
            self.close()
            raise

    @property
    def micro_batch(self) -> int:
        """Photos in one forward pass on this rank, as it is now."""
        return self._micro_batch.size

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a user should know of how this job ran, in the order of events."""
        return tuple(self._micro_batch.remarks)

    @property
    def peak_memory(self) -> int | None:
        """Most bytes that tensors have held on the device while this job trained, up to the last evaluation.

        None where nothing counts them (only CUDA's allocator does) or before the first evaluation.
        """
        return self._peak.bytes

    @property
    def finished(self) -> bool:
        """Whether all config.steps are done."""
        return self.step_count >= self.config.steps

    def step(self) -> StepReport:
        """Does one optimizer step; waits for the device only to check the loss, every 25th step and at the last.

        Raises:
            TrainingDiverged: the loss or the gradient of this step, or of one since the last check, is not finite, or
                a weight.
            OutOfMemory: not even one photo at a time fits.
            RuntimeError: the job is finished or closed.
        """
        if self.closed or self.finished:
            raise RuntimeError(f"the job is {'closed' if self.closed else 'finished'} at step {self.step_count}")
        learning_rates = self._optimizer_step.begin(self.step_count)
        loss = self._optimizer_step.do(self.step_count + 1, self._backward)
        self.step_count += 1
        if self._average is not None:
            self._average.update(self.step_count)
        if self.base.device.type == "cpu" or self.step_count % FINITE_CHECK_STEPS == 0 or self.finished:
            self._check_finite()
        return StepReport(step=self.step_count, loss_tensor=loss, learning_rates=learning_rates)

    @contextmanager
    def evaluation_mode(self) -> Iterator[None]:
        """Within it the base generates with the adapter as trained so far, or its average: no dropout, no gradients."""
        before = self._evaluating
        self._evaluating = True
        if not before:
            self._peak.pause()
        self.adapter.train(False)
        try:
            with self._average.applied() if self._average is not None else nullcontext(), torch.no_grad():
                yield
        finally:
            self._evaluating = before
            self.adapter.train(not before)
            if not before:
                self._peak.begin()

    def validation_loss(self, reference: DataCache | BucketedCache) -> float:
        """Denoising loss on photos that are not trained on; lower is better (see `trainer.job.validation`)."""
        with self.evaluation_mode():
            return validation_loss(
                self._objective,
                self._predict,
                BucketedCache.of(reference),
                micro_batch=self.micro_batch,
                device=self.base.device,
            )

    def save(self, folder: Path) -> None:
        """Writes all that `restore` needs to resume exactly, as one atomic folder; only the first rank writes.

        The folder holds the adapter as `pytorch_lora_weights.safetensors`, so diffusers loads the folder as it is.

        Raises:
            TrainingDiverged: there is nothing worth keeping.
        """
        self._check_finite()
        if self._ranks.rank == 0:
            job_state.save(self._state(), folder)

    def restore(self, folder: Path) -> None:
        """Resumes from the state that `save` wrote for the same base, photos and config (see `trainer.job.identity`).

        Raises:
            OtherJobError: the folder belongs to another job; the message names what differs.
            ValueError: it is missing, damaged, or holds weights that are not finite. After either the job is as before.
        """
        self.step_count = job_state.restore(self._state(), folder)
        self._optimizer_step.finite.fill_(True)

    def close(self) -> None:
        """Detaches the adapter and frees the optimizer; the base is as before. Further calls do nothing."""
        if not self.closed:
            self.closed = True
            self.adapter.detach()
            self._average = None
            if self.config.gradient_checkpointing:
                self.base.denoiser.disable_gradient_checkpointing()
            for name in ("_optimizer_step", "_accelerator"):
                if hasattr(self, name):
                    delattr(self, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _state(self) -> job_state.JobState:
        return job_state.JobState(
            adapter=self.adapter,
            average=self._average,
            optimizer=self._optimizer_step.optimizer,
            lr_scheduler=self._optimizer_step.lr_scheduler,
            scaler=self._accelerator.scaler,
            step=self.step_count,
            identity=JobIdentity(
                config=self.config,
                base_sha256=self.base.sha256,
                photos=self._batches.inputs,
                class_images=self._batches.class_inputs,
                tag_orders=self._batches.tag_orders,
            ),
        )

    def _backward(self, size: int) -> Tensor:
        """Forward and backward of the whole next step, `size` photos at a time; the loss over this rank's photos."""
        losses: list[Tensor] = []
        class_images = self._batches.class_images(self.step_count)
        with self._batches.dropout_randomness(self.step_count):
            for batch in self._batches.photos(self.step_count):
                with self._accelerator.accumulate():
                    losses += self._backward_batch(batch, size)
                    if (class_batch := next(class_images, None)) is not None:
                        losses += self._backward_batch(class_batch, size, weight=self.config.prior_loss_weight)
        return torch.stack(losses).sum() / self.config.gradient_accumulation_steps

    def _backward_batch(self, batch: Batch, size: int, *, weight: float = 1.0) -> list[Tensor]:
        """Forward and backward of a batch, `size` photos at a time, so that memory holds the graph of these only.

        Returns:
            What each part adds to the loss of the batch, which counts with a weight.
        """
        losses = []
        for part in batch.split(size):
            loss = self._objective.loss(
                self._predict, part.cache, part.rows, part.latents(), part.noise, part.timesteps, weighted=True
            )
            loss = weight * len(part) / len(batch) * loss
            self._accelerator.backward(loss)
            losses.append(loss.detach())
        return losses

    def _predict(self, cache: DataCache, rows: Tensor, noisy: Tensor, times: Tensor) -> Tensor:
        """See `trainer.job.objective.Predict`; trained text encoders encode the captions anew."""
        with self._accelerator.autocast():
            conditioning = cache.conditioning_of(rows)
            if len(self.adapter.parts) > 1:  # those after the first encode text
                conditioning = {**conditioning, **self.base.encode(conditioning)}
            return self.base.predict(noisy, times, conditioning)

    def _check_finite(self) -> None:
        """Waits for the device; raises TrainingDiverged if any loss or gradient so far, or a weight, is not finite."""
        weights = [*self._optimizer_step.weights, *(self._average.average.values() if self._average else ())]
        size = get_total_norm(weights, math.inf).isfinite()
        finite = torch.cat([self._optimizer_step.finite, size.view(1)])
        if not bool(finite.all()):
            what = ("training loss", "gradient", "adapter")[finite.tolist().index(False)]
            raise TrainingDiverged(self.step_count, what)
