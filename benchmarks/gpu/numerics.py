"""Measurements 3, 4 and 15: 16-bit formats beside float32, and whether a training repeats itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from benchmarks.gpu.bench import Bench, do_steps, relative_difference, weights_of
from benchmarks.gpu.rows import Row, at_least, at_most, holds, not_measured
from trainer.models.loading import BaseModel

TIMESTEPS = 8
UNCLIPPED = float("inf")


def against_float32(bench: Bench) -> Iterator[Row]:
    """The device's own format beside float32: predictions, losses, gradients, 50 steps; and what TF32 does."""
    own, exact = bench.base, bench.load(torch.float32)
    with _tf32(False):
        yield from _compared(bench, own, exact)
    for name, base, tf32 in (("own format", own, True), ("float32", exact, False), ("TF32", exact, True)):
        with _tf32(tf32), bench.job(base, rank=64) as job:
            yield Row(name=f"step in {name}", value=1000 * bench.step_seconds(job, windows=3), unit="ms")


def _compared(bench: Bench, own: BaseModel, exact: BaseModel) -> Iterator[Row]:
    answer, wanted = _predictions(bench, own), _predictions(bench, exact)
    error = float((answer - wanted).norm() / wanted.norm())
    yield at_most(f"prediction at {TIMESTEPS} timesteps, relative error", error, 2e-2, "")
    gradients, loss = _gradients(bench, own)
    exact_gradients, exact_loss = _gradients(bench, exact)
    yield at_most("loss of a step, relative difference", abs(loss / exact_loss - 1), 0.01, "")
    cosines = {name: _cosine(gradients[name], exact_gradients[name]) for name in exact_gradients}
    whole, exact_whole = torch.cat([*gradients.values()]), torch.cat([*exact_gradients.values()])
    yield at_least("cosine of the gradients, all layers", _cosine(whole, exact_whole), 0.99, "")
    worst = min(cosines, key=lambda name: cosines[name])
    yield at_least("cosine of the gradients, the worst layer", cosines[worst], 0.95, "", note=worst)
    ratio = float(whole.norm() / exact_whole.norm())
    yield Row(name="norms of the gradients", value=ratio, criterion="0.97-1.03", met=0.97 <= ratio <= 1.03)
    mean, exact_mean = _mean_loss(bench, own), _mean_loss(bench, exact)
    yield at_most(f"mean loss of {bench.sizes.long} steps, relative difference", abs(mean / exact_mean - 1), 0.01, "")


@torch.no_grad()
def _predictions(bench: Bench, base: BaseModel) -> Tensor:
    cache = bench.cache().to(bench.device.device)
    generator = torch.Generator().manual_seed(0)
    photos = torch.zeros(TIMESTEPS, dtype=torch.long, device=bench.device.device)
    noise = torch.randn((TIMESTEPS, *cache.latent_shape), generator=generator).to(bench.device.device)
    times = torch.linspace(20, 980, TIMESTEPS, device=bench.device.device).long()
    noisy = (cache.latent_mean[photos] + noise) / 2**0.5
    return base.predict(noisy, times, cache.conditioning_of(photos)).float()


def _gradients(bench: Bench, base: BaseModel) -> tuple[dict[str, Tensor], float]:
    """Of the first step, by weight; those of A are 0 then and left out."""
    found: dict[str, Tensor] = {}
    with bench.job(base, batch_size=2, max_grad_norm=UNCLIPPED) as job:
        weights = {
            f"{part}.{name}": weight
            for part in job.adapter.parts
            for name, weight in job.adapter.named_parameters(part).items()
            if ".lora_B." in name
        }

        def look(optimizer: Any, arguments: Any, options: Any) -> None:
            for name, weight in weights.items():
                assert weight.grad is not None
                found[name] = weight.grad.detach().float().flatten().cpu()

        hook = register_optimizer_step_pre_hook(look)
        try:
            loss = job.step().loss
        finally:
            hook.remove()
    return found, loss


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0))


def _mean_loss(bench: Bench, base: BaseModel) -> float:
    with bench.job(base) as job:
        return float(torch.stack(do_steps(job, bench.sizes.long)).mean())


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def half_precision(bench: Bench) -> Iterator[Row]:
    """float16 with scaled losses, as on cards without bfloat16."""
    if not bench.device.is_cuda:
        yield not_measured("float16", "a CPU trains in float32")
        return
    base = bench.load(torch.float16)
    skipped, steps = 0, []
    with bench.job(base) as job:
        # A step that is not skipped moves every B.
        watched = next(weight for name, weight in job.adapter.named_parameters("unet").items() if ".lora_B." in name)
        for _ in range(bench.sizes.long):
            before = watched.detach().clone()
            steps += do_steps(job, 1)
            skipped += torch.equal(before, watched)
        losses = torch.stack(steps)
    yield holds("losses in float16 are finite", bool(losses.isfinite().all()))
    yield at_most("skipped steps in float16", skipped, 20, "")
    mean = _mean_loss(bench, bench.load(torch.float32))
    difference = abs(float(losses.mean()) / mean - 1)
    yield at_most("mean loss in float16 to float32, relative difference", difference, 0.01, "")


def repeats(bench: Bench) -> Iterator[Row]:
    """Two trainings of one seed, and one that is resumed half way."""
    first = _trained(bench, resumed=False)
    second = _trained(bench, resumed=False)
    yield Row(name="two runs, usual algorithms: bit-equal", value="yes" if _equal(first, second) else "no")
    yield at_most("  difference of their weights", relative_difference(second, first), 1e-3, "")
    resumed = _trained(bench, resumed=True)
    yield at_most("resumed, usual algorithms: difference of the weights", relative_difference(resumed, first), 1e-3, "")
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        first, resumed = _trained(bench, resumed=False), _trained(bench, resumed=True)
    finally:
        torch.use_deterministic_algorithms(False)
    yield holds("resumed, deterministic algorithms: bit-equal", _equal(first, resumed))


def _trained(bench: Bench, *, resumed: bool) -> dict[str, Tensor]:
    if not resumed:
        with bench.job() as job:
            do_steps(job, 2 * bench.sizes.resumed)
            return weights_of(job)
    folder = bench.scratch()
    with bench.job() as job:
        do_steps(job, bench.sizes.resumed)
        job.save(folder / "state")
    with bench.job() as job:
        job.restore(folder / "state")
        do_steps(job, bench.sizes.resumed)
        return weights_of(job)


def _equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
