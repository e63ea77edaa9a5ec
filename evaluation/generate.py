"""Images from a diffusers pipeline, the same for every batch size."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache  # type: ignore[import-untyped]
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler, FluxPipeline
from PIL import Image

from evaluation.config import GenerationConfig
from evaluation.memory import is_out_of_memory, reason_in_short

Item = TypeVar("Item")

FREE_SHARE = 0.8
"""Of a device's free memory, what images may take; the rest is left to CUDA's libraries and to gaps."""


class MemoryCount(Protocol):
    """Counts the bytes that tensors hold on one device."""

    def begin(self) -> int:
        """Bytes held now; the peak is looked for from here on."""

    def peak(self) -> int:
        """The most bytes held at any moment since `begin`."""

    def available(self) -> int:
        """Bytes that could be held now without pressing anyone, those that are held included; 0 if others share it."""


class CudaMemory:
    """The count of CUDA's allocator.

    Args:
        device: a CUDA device.
        own: whether no other process is to use it.
    """

    def __init__(self, device: torch.device, *, own: bool = False) -> None:
        self._device = device
        self._own = own

    def begin(self) -> int:
        """See `MemoryCount`."""
        torch.cuda.reset_peak_memory_stats(self._device)
        return torch.cuda.memory_allocated(self._device)

    def peak(self) -> int:
        """See `MemoryCount`."""
        return torch.cuda.max_memory_allocated(self._device)

    def available(self) -> int:
        """See `MemoryCount`."""
        if not self._own:
            return 0
        free, _ = torch.cuda.mem_get_info(self._device)
        held = torch.cuda.memory_allocated(self._device)
        cached = torch.cuda.memory_reserved(self._device) - held
        return held + int(FREE_SHARE * (free + cached))


class ImageBatch:
    """The size of the batches in which one job makes its images. It changes speed and memory, not the images.

    It starts as configured, and is halved permanently whenever memory runs out. Where memory is counted and a budget is
    set (such as the peak of training), it starts with one image and grows as far as the budget certainly allows: with
    twice the images every tensor is at most twice as large, so if b images took m bytes beyond what was held before,
    b * room / m images stay within the room.

    Args:
        most: images at once as configured, at least 1.
        memory: counts bytes; None where nothing does, as on a CPU.
    """

    def __init__(self, most: int, memory: MemoryCount | None = None) -> None:
        self.size = most
        self.remarks: list[str] = []
        """What a user should know of it."""
        self._most = most
        self._memory = memory
        self._budget: int | None = None

    def stay_within(self, budget: int | None) -> None:
        """Hold at most `budget` bytes at any moment from here on, if one image at a time can; None: no limit.

        Where more is available on a device of one's own, that is the budget.
        """
        if self._memory is None or budget is None:
            return
        if self._budget is None:
            self.size = 1
        self._budget = max(budget, self._memory.available())

    def make(self, count: int, draw: Callable[[int, int], list[Item]]) -> list[Item]:
        """All `count` images, in order.

        Args:
            count: how many.
            draw: makes the images from the first number up to the second, without it; called again, with fewer, where
                it ran out of memory.

        Raises:
            ValueError: not even one image fits into memory.
        """
        made: list[Item] = []
        while len(made) < count:
            stop = min(len(made) + self.size, count)
            lack = ""
            try:
                made += self._drawn(len(made), stop, draw)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                lack = reason_in_short(error)
            # Only here, where the error and what it held is gone.
            if lack:
                self._halve(stop - len(made), lack)
        return made

    def _drawn(self, start: int, stop: int, draw: Callable[[int, int], list[Item]]) -> list[Item]:
        if self._memory is None or self._budget is None:
            return draw(start, stop)
        held, count = self._memory.begin(), stop - start
        images = draw(start, stop)
        taken = max(self._memory.peak() - held, 1)
        fitting = max(count * (self._budget - held) // taken, 1)
        if fitting < count:
            self.size = fitting
        else:
            self.size = min(max(self.size, fitting), self._most)
        return images

    def _halve(self, failed: int, reason: str) -> None:
        if failed == 1:
            raise ValueError(
                f"out of memory with a single image at a time ({reason}); lower evaluation.generation.resolution, or "
                "let fewer seats share a GPU (seats.count, seats.gpus_per_worker)"
            )
        self.size = self._most = (failed + 1) // 2
        self.remarks.append(f"out of memory with {failed} images at once: from there on {self.size} at a time")
        clear_device_cache(garbage_collection=True)


class ImagePipeline(Protocol):
    """A diffusers text-to-image pipeline of Stable Diffusion, SDXL, Stable Diffusion 3 or Flux."""

    scheduler: Any
    """The sampler; its config describes the noise schedule."""
    config: Any
    """The pipeline's own settings."""

    @property
    def components(self) -> dict[str, Any]:
        """The modules by the names that the pipeline's class takes them under."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Images for prompts."""


def generate_images(
    pipeline: ImagePipeline,
    prompts: Sequence[str],
    seeds: Sequence[int],
    config: GenerationConfig,
    batch: ImageBatch | None = None,
) -> list[Image.Image]:
    """One RGB image for each (prompt, seed) pair, in order.

    The first noise of each image comes from a generator of its own (`noise_generator`), so an image depends on its
    prompt and seed and not on its neighbours or the device (but see `GenerationConfig.shared_noise`); only float
    rounding changes with the batch size. The pipeline's modules are shared, its scheduler, progress bar and training
    modes are left as they were. A model that has diverged to NaN gives black pixels rather than an error: its images
    are then faceless and it ranks last. Latents are decoded one image after the other, which takes no longer and holds
    the decoder's activations of one image only.

    Args:
        pipeline: its denoiser and text encoders may carry PEFT adapters. Flow models (Stable Diffusion 3, Flux) draw
            with their own scheduler whatever the config says: the others' do not follow a flow. Flux takes the guidance
            scale as an input, and no negative prompt.
        prompts: as the text encoder reads them, triggers filled in.
        seeds: as many as prompts.
        batch: how many images are made at once from now on; None: config.batch_size, fewer where memory runs out.

    Raises:
        ValueError: there are not as many seeds as prompts, several seeds for one shared generator, or a negative
            prompt for Flux; or not even one image fits into memory.
    """
    if config.shared_noise and len(set(seeds)) > 1:
        raise ValueError(f"shared_noise draws from one generator, so it takes one seed, not {sorted(set(seeds))}")
    if len(prompts) != len(seeds):
        raise ValueError(f"{len(prompts)} prompts and {len(seeds)} seeds; give one seed for each prompt")
    if config.negative_prompt and isinstance(pipeline, FluxPipeline):
        raise ValueError(
            f"negative_prompt is {config.negative_prompt!r}, but Flux is guided without one; leave it empty"
        )
    sampler = _sampling_pipeline(pipeline, config)
    batch = batch or ImageBatch(config.batch_size)
    shared = torch.Generator(sampler.device).manual_seed(seeds[0]) if config.shared_noise and seeds else None

    def draw(start: int, stop: int) -> list[Image.Image]:
        generators = [noise_generator(*pair) for pair in zip(prompts[start:stop], seeds[start:stop], strict=True)]
        before = shared.get_state() if shared is not None else None
        try:
            pixels = sampler(
                prompt=list(prompts[start:stop]),
                negative_prompt=_negative_prompts(config, stop - start),
                generator=shared or generators,
                height=config.resolution,
                width=config.resolution,
                num_inference_steps=config.steps,
                guidance_scale=config.guidance_scale,
                output_type="pt",
            ).images
            return _to_images(pixels)
        except (RuntimeError, MemoryError):
            if shared is not None and before is not None:
                shared.set_state(before)  # these images may be asked for again, in smaller batches
            raise

    with torch.inference_mode(), _evaluation_mode(sampler), _one_by_one(sampler.vae):
        return batch.make(len(prompts), draw)


def noise_generator(prompt: str, seed: int) -> torch.Generator:
    """The source of one image's first noise, the same for every model that draws this prompt with this seed.

    Two prompts get unlike noise under the same seed: with one noise for all of them, its luck would not average out
    over the prompts. It is on the CPU, so that each device starts from the same noise.
    """
    digest = hashlib.sha256(f"{seed}\n{prompt}".encode()).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _sampling_pipeline(pipeline: Any, config: GenerationConfig) -> Any:
    """A second pipeline over the same modules with a scheduler of its own and without safety checker."""
    scheduler_config = pipeline.scheduler.config
    scheduler_class: Any
    options: dict[str, Any]
    if isinstance(pipeline.scheduler, FlowMatchEulerDiscreteScheduler):
        scheduler_class, options = type(pipeline.scheduler), {}
    elif config.scheduler == "dpmsolver++":
        scheduler_class, options = DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++"}
    elif config.scheduler == "ddim":
        # Latents are not bounded to [-1, 1]; a scheduler config from another class may leave clipping at its default.
        scheduler_class, options = DDIMScheduler, {"clip_sample": False}
    else:
        scheduler_class, options = type(pipeline.scheduler), {}
    scheduler = scheduler_class.from_config(scheduler_config, **options)
    components = {**pipeline.components, "scheduler": scheduler, "feature_extractor": None}
    if "safety_checker" in components:
        components.update(safety_checker=None, requires_safety_checker=False)
    if "force_zeros_for_empty_prompt" in pipeline.config:
        components.update(
            force_zeros_for_empty_prompt=pipeline.config["force_zeros_for_empty_prompt"], add_watermarker=False
        )
    sampler = type(pipeline)(**components)
    sampler.set_progress_bar_config(disable=True)
    return sampler


def _negative_prompts(config: GenerationConfig, count: int) -> list[str] | None:
    """None rather than empty texts: SDXL then guides away from zeros, as it was trained; the others do not tell them
    apart."""
    return [config.negative_prompt] * count if config.negative_prompt else None


@contextmanager
def _evaluation_mode(pipeline: Any) -> Iterator[None]:
    """Dropout off, and every module's training mode put back afterwards."""
    parts = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    training = [module for part in parts for module in part.modules() if module.training]
    for part in parts:
        part.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _one_by_one(vae: Any) -> Iterator[None]:
    """The VAE decodes one image after the other; put back afterwards."""
    before = vae.use_slicing
    vae.enable_slicing()
    try:
        yield
    finally:
        vae.use_slicing = before


def _to_images(pixels: torch.Tensor) -> list[Image.Image]:
    """[batch, 3, height, width] in [0, 1] to RGB images."""
    finite = torch.nan_to_num(pixels.float(), nan=0.0)
    arrays = (finite.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return [Image.fromarray(np.ascontiguousarray(array)) for array in arrays]
