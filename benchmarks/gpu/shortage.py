"""Measurements 10 and 11: what happens when the card is really full, and what fits into how much."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from benchmarks.gpu.bench import Bench, do_steps, relative_difference, weights_of
from benchmarks.gpu.rows import Row, at_most, holds, not_measured
from evaluation.generate import ImageBatch
from evaluation.memory import is_out_of_memory
from trainer.out_of_memory import OutOfMemory

LEFT = (4.0, 2.0, 1.0, 0.3)
"""Gigabytes that are left to a training or to images, beside the model; on a CPU, photos in a forward pass."""
BATCH = 8
STEPS = 3
SAME_WEIGHTS = 1e-3
CAPS = (4.0, 6.0, 8.0, 12.0, 16.0, 24.0)
"""Gigabytes that a process may hold at most."""


def shortage(bench: Bench) -> Iterator[Row]:
    """Training and drawing with hardly any memory left: halved, refused with remedies, and right again afterwards."""
    with bench.job(batch_size=BATCH) as job:
        do_steps(job, STEPS)
        wanted = weights_of(job)
    halved = refused = 0
    for left in LEFT:
        size, reason = _train(bench, left, wanted)
        name = f"training, {left:g} GB left: photos at a time of {BATCH}"
        if isinstance(size, int):
            halved += size < BATCH
            yield Row(name=name, value=size)
            yield at_most("  weights' difference to those undisturbed", float(reason), SAME_WEIGHTS, "")
        else:
            refused += size == "refused"
            yield Row(name=name, value=size, criterion="a reason", met=size == "refused", note=str(reason))
    yield holds("out of memory was met and halved", halved > 0)
    yield holds("too little for one photo was refused with remedies", refused > 0)
    yield from _images(bench)
    with bench.job(batch_size=BATCH) as job:
        do_steps(job, STEPS)
        yield holds("the next training has its whole batch again", job.micro_batch == BATCH)
        difference = relative_difference(weights_of(job), wanted)
    yield at_most("  its weights' difference to those undisturbed", difference, SAME_WEIGHTS, "")


def _train(bench: Bench, left: float, wanted: Mapping[str, Tensor]) -> tuple[int | str, float | str]:
    """How many photos went through the model at a time, and how far off the weights are; or what became of it, and
    why."""
    try:
        with bench.job(batch_size=BATCH) as job:
            with bench.device.memory_left(left, bench.base.denoiser):
                do_steps(job, STEPS)
                bench.device.wait()
            return job.micro_batch, relative_difference(weights_of(job), wanted)
    except OutOfMemory as error:
        return "refused", str(error)
    except RuntimeError as error:
        known = "known" if is_out_of_memory(error) else "NOT KNOWN as out of memory"
        return f"failed ({known})", f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"


def _images(bench: Bench) -> Iterator[Row]:
    count = 2 * bench.sizes.lora_images
    halved = refused = 0
    for left in LEFT:
        name = f"images, {left:g} GB left: at a time of {count}"
        batch = ImageBatch(count)
        try:
            with bench.device.memory_left(left, bench.base.denoiser):
                drawn = bench.draw(count, batch=batch)
        except ValueError as error:
            refused += 1
            yield Row(name=name, value="refused", criterion="a reason", met=True, note=str(error)[:300])
        except RuntimeError as error:
            reason = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
            yield Row(name=name, value="failed", criterion="a reason", met=False, note=reason)
        else:
            halved += batch.size < count
            yield Row(name=name, value=batch.size, met=len(drawn) == count, criterion="all drawn")
    yield holds("images were halved", halved > 0)
    yield holds("too little for one image was refused with remedies", refused > 0)


def caps(bench: Bench) -> Iterator[Row]:
    """What fits where a process may hold only so much."""
    if not bench.device.is_cuda:
        yield not_measured("what fits into a smaller card", "a CPU has no such limit")
        return
    for cap in CAPS:
        with bench.device.memory_cap(cap):
            try:
                with bench.job(batch_size=BATCH, rank=64) as job:
                    do_steps(job, 2)
                    photos: int | str = job.micro_batch
            except (OutOfMemory, RuntimeError) as error:
                photos = type(error).__name__
            batch = ImageBatch(max(bench.sizes.image_batches))
            try:
                bench.draw(batch.size, batch=batch)
                images: int | str = batch.size
            except (ValueError, RuntimeError) as error:
                images = type(error).__name__
        yield Row(name=f"photos at a time of {BATCH} within {cap:g} GB", value=photos)
        yield Row(name=f"images at a time of {max(bench.sizes.image_batches)} within {cap:g} GB", value=images)
