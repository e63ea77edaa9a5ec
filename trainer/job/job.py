"""One fine-tuning job as a live object: step it, look at it, save it, resume it, close it. Knows nothing of Ray.

Legend: batch = photos of one forward pass on this worker.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from diffusers.optimization import get_scheduler
from torch import Tensor

from trainer.adapters.adapter import Adapter, attach_adapter
from trainer.adapters.average import AveragedWeights
from trainer.config import TrainingConfig
from trainer.data.batches import StepDraw, draw_passes, shown, stream_seed
from trainer.data.bucketed_cache import BucketedCache
from trainer.data.cache import DataCache
from trainer.data.noise_offset import offset_noise
from trainer.data.prior import draw_class_step
from trainer.data.prior_config import no_class_images
from trainer.data.views import Views
from trainer.job import state as job_state
from trainer.job.acceleration import choose_precision, make_accelerator
from trainer.job.loss import NoiseSchedule, denoising_loss, face_weights, huber_thresholds, min_snr_weights
from trainer.job.memory import MicroBatch, PeakMemory, Shortage, free_memory, half
from trainer.job.optimizer import make_optimizer
from trainer.job.optimizer_step import OptimizerStep
from trainer.job.workers import Workers
from trainer.models.base_model import BaseModel, Part

VALIDATION_SEED = 0
VALIDATION_TIMESTEPS = 8
VALIDATION_BATCH = 8
VALIDATION_ROWS_A_PHOTO = 2
"""Without gradients two rows take less memory than one with: validation does not raise the peak above training's."""
FINITE_CHECK_STEPS = 25


class TrainingDiverged(RuntimeError):  # noqa: N818 - a state of the job, as much as an error
    """The loss is not finite any more; the job cannot go on."""

    def __init__(self, step: int) -> None:
        super().__init__(f"the training loss is not finite at step {step}; use a lower learning rate")
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

    In an initialised torch.distributed group every worker makes the same job: each trains on its share of every batch
    and gradients are averaged, so the number of workers does not change what is learnt. All randomness of a step is a
    function of (config.seed, step). Photos of several sizes never meet in one forward pass (`trainer.data.batches`).

    A step that runs out of memory, in any worker, is done again from its start in all of them with half the photos in a
    forward pass, and so are those after it; gradients are accumulated, so up to rounding it learns the same. (Dropout
    alone draws other masks, as it does with another number of workers.) A checkpoint does not know of it.

    Args:
        base: carries no adapter; the job attaches its own.
        cache: the training photos, of one size or several; moved to the base's device.
        config: what to do.
        views: the forms of each photo that `cache` holds.
        prior: the class images, needed where config.prior_loss_weight is above 0 and else left alone.
        micro_batch: photos in one forward pass on this worker to begin with, at least 1; None: its whole share.

    Raises:
        ValueError: the base carries an adapter, class images are weighed but not there, or config asks for what the
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
        workers = Workers()
        if config.batch_size % workers.count:
            raise ValueError(
                f"batch_size is {config.batch_size}, which {workers.count} workers cannot share evenly; "
                f"make it a multiple of {workers.count}"
            )
        share = config.batch_size // workers.count
        self._micro_batch = MicroBatch(share if micro_batch is None else micro_batch, config)
        self._workers = workers
        self._peak = PeakMemory(base.device)
        self._views = views or Views()
        self._views.check(config)
        if config.prior_loss_weight > 0 and prior is None:
            raise ValueError(no_class_images(config.prior_loss_weight))
        precision = choose_precision(config.mixed_precision, base.device, base.dtype)
        self.base = base
        self.config = config
        self.step_count = 0
        self.closed = False
        self._evaluating = False
        cache = BucketedCache.of(cache)
        self._caches = cache.to(base.device).buckets
        self._buckets = cache.outlines(self._views)
        self._cache_sha256 = cache.sha256
        prior = prior if config.prior_loss_weight > 0 else None
        self._prior = prior.to(base.device) if prior is not None else None
        self._prior_sha256 = prior.sha256 if prior is not None else None
        self._schedule = NoiseSchedule.of(base.scheduler, base.device)
        self._loss_weights = min_snr_weights(self._schedule.snr, config.snr_gamma, self._schedule.prediction_type)
        self._huber_deltas = (
            huber_thresholds(self._schedule, config.huber_c, config.huber_schedule) if config.loss == "huber" else None
        )
        self._finite = torch.ones((), dtype=torch.bool, device=base.device)
        self.adapter: Adapter = attach_adapter(base, config)
        try:
            self._accelerator = make_accelerator(base.device, precision, config.gradient_accumulation_steps)
            self._weights = [weight for part in self.adapter.parts for weight in self.adapter.parameters(part)]
            self._average = (
                AveragedWeights(job_state.named_weights(self.adapter), config.ema_decay) if config.ema_decay else None
            )
            if config.gradient_checkpointing:
                base.denoiser.enable_gradient_checkpointing()
            self._torch_optimizer = make_optimizer(
                config.optimizer,
                [(self.adapter.parameters(part), config.learning_rate_of(part)) for part in self.adapter.parts],
                weight_decay=config.weight_decay,
                device=base.device,
            )
            # Accelerate's scheduler wrapper would step once per worker, the plain one steps once per optimizer step.
            self._lr_scheduler = get_scheduler(
                "constant_with_warmup" if config.lr_scheduler == "constant" else config.lr_scheduler,
                self._torch_optimizer,
                num_warmup_steps=config.lr_warmup_steps,
                num_training_steps=config.steps,
                num_cycles=config.lr_cycles,
            )
            self._optimizer_step = OptimizerStep(
                self._accelerator,
                self._torch_optimizer,
                self._weights,
                workers=workers,
                config=config,
                micro_batch=self._micro_batch,
            )
            self.adapter.train()
            self._peak.begin()
        except BaseException:
            self.close()
            raise

    @property
    def micro_batch(self) -> int:
        """Photos in one forward pass on this worker, as it is now."""
        return self._micro_batch.size

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a user should know of how this job was done, in the order in which it came about."""
        return tuple(self._micro_batch.remarks)

    @property
    def peak_memory(self) -> int | None:
        """Most bytes that tensors have held on the device while this job trained, up to the last evaluation; None where
        nobody counts them (CUDA's allocator does) or before the first."""
        return self._peak.bytes

    @property
    def finished(self) -> bool:
        """Whether all config.steps are done."""
        return self.step_count >= self.config.steps

    def step(self) -> StepReport:
        """Does one optimizer step; waits for the device only to check the loss, every 25th step and at the last.

        Raises:
            TrainingDiverged: the loss of this step, or of one since the last check, is not finite.
            OutOfMemory: not even one photo at a time fits.
            RuntimeError: the job is finished or closed.
        """
        if self.closed or self.finished:
            raise RuntimeError(f"the job is {'closed' if self.closed else 'finished'} at step {self.step_count}")
        config = self.config
        draws = draw_passes(
            config.seed,
            self.step_count,
            buckets=self._buckets,
            batch_size=config.batch_size,
            passes=config.gradient_accumulation_steps,
            timesteps=len(self._loss_weights),
        )
        draws = offset_noise(draws, config.noise_offset, seed=config.seed, step=self.step_count)
        draws = shown(draws, buckets=self._buckets, views=self._views, config=config, step=self.step_count)
        rates = [float(rate) for rate in self._lr_scheduler.get_last_lr()]
        learning_rates = {
            str(part): rate if self._learns(part) else 0.0 for part, rate in zip(self.adapter.parts, rates, strict=True)
        }
        self._accelerator.gradient_accumulation_steps = config.gradient_accumulation_steps
        loss = self._optimizer_step.do(self.step_count + 1, partial(self._backward, draws))
        self._lr_scheduler.step()
        self.step_count += 1
        if self._average is not None:
            self._average.update(self.step_count)
        self._finite &= loss.isfinite()
        if self.base.device.type == "cpu" or self.step_count % FINITE_CHECK_STEPS == 0 or self.finished:
            self.check_finite()
        return StepReport(step=self.step_count, loss_tensor=loss, learning_rates=learning_rates)

    def check_finite(self) -> None:
        """Waits for the device and raises TrainingDiverged if any loss so far was not finite."""
        if not bool(self._finite):
            raise TrainingDiverged(self.step_count)

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
        """Unweighted denoising loss on photos that are not trained on; lower is better.

        Noise and timesteps are fixed, eight per photo spread evenly over the noise schedule, and the same in every job,
        so values of different jobs and steps compare. Where memory runs out, fewer rows go through
        the model at a time, which changes rounding only.
        """
        size = min(VALIDATION_BATCH, VALIDATION_ROWS_A_PHOTO * self.micro_batch)
        while True:
            loss = None
            with Shortage() as short:
                loss = self._validation_loss(reference, size)
            if loss is not None:
                return loss
            if size == 1:
                raise torch.OutOfMemoryError(f"out of memory with one row at a time in validation ({short.reason})")
            size = half(size)
            free_memory()

    def _validation_loss(self, reference: DataCache | BucketedCache, size: int) -> float:
        timesteps = len(self._loss_weights)
        reference = BucketedCache.of(reference)
        count = len(reference) * VALIDATION_TIMESTEPS
        generator = torch.Generator().manual_seed(VALIDATION_SEED)
        at = torch.arange(count, device=self.base.device).view(VALIDATION_TIMESTEPS, len(reference))
        spread = (at * timesteps + timesteps // 2) // count
        losses = []
        with self.evaluation_mode():
            first = 0
            for cache in reference.to(self.base.device).buckets:
                own_spread = spread[:, first : first + len(cache)].flatten()
                first += len(cache)
                noise = torch.randn((len(own_spread), *cache.latent_shape), generator=generator).to(self.base.device)
                for rows in torch.split(torch.arange(len(own_spread), device=self.base.device), size):
                    photos = rows % len(cache)
                    latents = cache.latent_mean[photos]
                    loss = self._loss(cache, photos, latents, noise[rows], own_spread[rows], weighted=False)
                    losses.append(loss * len(rows))
        return float(torch.stack(losses).sum() / count)

    def save(self, folder: Path) -> None:
        """Writes all that `restore` needs to go on exactly, as one atomic folder; only the first worker writes.

        The adapter lies in it as `pytorch_lora_weights.safetensors`, so that diffusers loads the folder as it is.

        Raises:
            TrainingDiverged: there is nothing worth keeping.
        """
        self.check_finite()
        if self._workers.rank == 0:
            job_state.save(self._state(), folder)

    def restore(self, folder: Path) -> None:
        """Takes up the state that `save` wrote for the same base, photos and config.

        Raises:
            ValueError: the folder is missing or damaged, or belongs to another job; the message names what differs.
        """
        self.step_count = job_state.restore(self._state(), folder)
        self._finite.fill_(True)

    def close(self) -> None:
        """Detaches the adapter and forgets the optimizer; the base is as before. Further calls do nothing."""
        if not self.closed:
            self.closed = True
            self.adapter.detach()
            self._workers.close()
            self._average = None
            if self.config.gradient_checkpointing:
                self.base.denoiser.disable_gradient_checkpointing()
            self._weights = []
            for name in ("_optimizer_step", "_torch_optimizer", "_lr_scheduler", "_accelerator"):
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
            optimizer=self._torch_optimizer,
            lr_scheduler=self._lr_scheduler,
            scaler=self._accelerator.scaler,
            step=self.step_count,
            config=self.config,
            base_sha256=self.base.sha256,
            cache_sha256=self._cache_sha256,
            prior_sha256=self._prior_sha256,
        )

    def _batches(self, draws: Sequence[StepDraw]) -> Iterator[StepDraw]:
        """This worker's part of each forward pass of a step, on the device."""
        share = self.config.batch_size // self._workers.count
        rows = slice(self._workers.rank * share, (self._workers.rank + 1) * share)
        for draw in draws:
            yield StepDraw(
                bucket=draw.bucket,
                indices=self._to_device(draw.indices[rows]),
                timesteps=self._schedule.density[self._to_device(draw.timesteps[rows])],
                latent_noise=self._to_device(draw.latent_noise[rows]),
                noise=self._to_device(draw.noise[rows]),
            )

    def _backward(self, draws: Sequence[StepDraw], size: int) -> Tensor:
        """Forward and backward of every batch of a step, `size` photos at a time; the loss over this worker's."""
        losses: list[Tensor] = []
        class_batches = self._class_batches()
        with self._dropout_randomness():
            for batch in self._batches(draws):
                with self._accelerator.accumulate():
                    losses += self._backward_parts(self._caches[batch.bucket], batch, size)
                    if self._prior is not None:
                        weight = self.config.prior_loss_weight
                        losses += self._backward_parts(self._prior, next(class_batches), size, weight=weight)
        return torch.stack(losses).sum() / self.config.gradient_accumulation_steps

    def _backward_parts(self, cache: DataCache, batch: StepDraw, size: int, *, weight: float = 1.0) -> list[Tensor]:
        """Forward and backward of a batch, `size` photos at a time, each apart so that memory holds one graph; what
        they add to its loss, which counts with a weight."""
        losses = []
        for part in batch.split(size):
            latents = cache.latent_mean[part.indices] + cache.latent_std[part.indices] * part.latent_noise
            loss = self._loss(cache, part.indices, latents, part.noise, part.timesteps, weighted=True)
            loss = weight * len(part) / len(batch) * loss
            self._accelerator.backward(loss)
            losses.append(loss.detach())
        return losses

    def _class_batches(self) -> Iterator[StepDraw]:
        """This worker's class images that go with each forward pass of a step, on the device; none without a prior."""
        if self._prior is None:
            return iter(())
        timesteps = len(self._loss_weights)
        return self._batches(draw_class_step(self.config, self.step_count, self._prior, timesteps=timesteps))

    def _loss(
        self, cache: DataCache, photos: Tensor, latents: Tensor, noise: Tensor, timesteps: Tensor, *, weighted: bool
    ) -> Tensor:
        """Denoising loss of [batch] rows of `cache`.

        `latents` and `noise` are Float32[batch, channels, height, width], `timesteps` Int64[batch] of the schedule.
        """
        noisy = self._schedule.add_noise(latents, noise, timesteps)
        target = self._schedule.target(latents, noise, timesteps)
        with self._accelerator.autocast():
            conditioning = cache.conditioning_of(photos)
            if len(self.adapter.parts) > 1:  # those after the first encode text
                conditioning = {**conditioning, **self.base.encode(conditioning)}
            prediction = self.base.predict(noisy, self._schedule.times[timesteps], conditioning)
        weights = self._loss_weights[timesteps] if weighted else torch.ones_like(timesteps, dtype=torch.float32)
        deltas = self._huber_deltas[timesteps] if weighted and self._huber_deltas is not None else None
        places = None
        if weighted and self.config.face_loss_weight > 1:
            places = face_weights(cache.face_mask[photos], self.config.face_loss_weight)
        return denoising_loss(prediction, target, weights, deltas, places=places)

    def _learns(self, part: Part) -> bool:
        """Whether the part's weights take this step; from the last that they take on they get no gradients."""
        learns = self.config.trains_at(part, self.step_count)
        for weight in self.adapter.parameters(part) if self.config.text_encoder_steps is not None else ():
            weight.requires_grad_(learns)
        return learns

    def _to_device(self, tensor: Tensor) -> Tensor:
        if self.base.device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self.base.device, non_blocking=True)

    @contextmanager
    def _dropout_randomness(self) -> Iterator[None]:
        """Within it dropout draws from a seed of this step and worker; the process's own generators are put back."""
        if not self.config.dropout:
            yield
            return
        with torch.random.fork_rng(devices=[self.base.device] if self.base.device.type == "cuda" else []):
            torch.manual_seed(stream_seed(self.config.seed, f"dropout/{self._workers.rank}", self.step_count))
            yield
