"""Measurement 16: what could make steps and images faster. Numbers only: they decide what is worth building."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.rows import Row, not_measured

COMPILED_REPEATS = 5


def levers(bench: Bench) -> Iterator[Row]:
    """Settings of torch, the layout of weights, autocast, and a CUDA graph of the UNet."""
    yield from _step_and_images(bench, "as it is")
    with _switched(torch.backends.cudnn, "benchmark", True):
        yield from _step_and_images(bench, "cudnn.benchmark")
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield from _step_and_images(bench, "TF32 for float32 products")
    finally:
        torch.set_float32_matmul_precision(before)
    with bench.job(rank=64, mixed_precision="no") as job:
        yield Row(name="step, without autocast", value=1000 * bench.step_seconds(job, windows=3), unit="ms")
    for part in (bench.base.denoiser, bench.base.vae):
        part.to(memory_format=torch.contiguous_format)
    yield from _step_and_images(bench, "weights contiguous, not channels last")
    bench.reset()
    yield from _graph(bench)


def _step_and_images(bench: Bench, name: str) -> Iterator[Row]:
    with bench.job(rank=64) as job:
        yield Row(name=f"step, {name}", value=1000 * bench.step_seconds(job, windows=3), unit="ms")
    count = bench.sizes.lora_images
    seconds = bench.device.seconds(partial(bench.draw, count), repeats=2)
    yield Row(name=f"{count} images, {name}", value=seconds, unit="s")


def _graph(bench: Bench) -> Iterator[Row]:
    """One pass of the UNet as sampling makes it, launched operator by operator and as one graph."""
    for count in (2, 2 * bench.sizes.lora_images):
        work = _forward(bench, count)
        seconds = bench.device.seconds(work, repeats=bench.sizes.windows)
        yield Row(name=f"UNet forward, {count} rows", value=1000 * seconds, unit="ms")
        if not bench.device.is_cuda:
            yield not_measured(f"UNet forward, {count} rows, as a graph", "graphs are CUDA's")
            continue
        graph = torch.cuda.CUDAGraph()
        bench.device.wait()
        with torch.cuda.graph(graph):
            work()
        seconds = bench.device.seconds(graph.replay, repeats=bench.sizes.windows)
        yield Row(name=f"UNet forward, {count} rows, as a graph", value=1000 * seconds, unit="ms")
        del graph


def compiled(bench: Bench) -> Iterator[Row]:
    """The UNet by torch.compile: what it costs and what it gives."""
    if not bench.device.is_cuda:
        yield not_measured("torch.compile", "measured on a CPU before, see trainer.job.acceleration")
        return
    count = 2 * bench.sizes.lora_images
    plain = _forward(bench, count)
    seconds = bench.device.seconds(plain, repeats=COMPILED_REPEATS)
    forward = bench.base.denoiser.forward
    bench.base.denoiser.forward = torch.compile(forward)
    try:
        first = bench.device.seconds(plain, repeats=1, warm_up=0)
        yield Row(name=f"UNet, {count} rows: compile and first pass", value=first, unit="s")
        later = bench.device.seconds(plain, repeats=COMPILED_REPEATS)
    finally:
        bench.base.denoiser.forward = forward
    yield Row(name=f"UNet, {count} rows: compiled to plain", value=later / seconds, unit="x")


def _forward(bench: Bench, count: int) -> Callable[[], Tensor]:
    """A pass of the UNet over `count` rows, always the same."""
    device, unet = bench.device.device, bench.base.denoiser
    channels, height, width = bench.cache().latent_shape
    noisy = torch.randn(count, channels, height, width, device=device, dtype=bench.base.dtype)
    times = torch.full((count,), 500, device=device)
    embeddings = bench.cache().conditioning["text_embeddings"][:1].to(device, bench.base.dtype)
    embeddings = embeddings.expand(count, -1, -1).contiguous()

    @torch.no_grad()
    def work() -> Tensor:
        answer: Tensor = unet(noisy, times, embeddings, return_dict=False)[0]
        return answer

    return work


@contextmanager
def _switched(owner: object, name: str, value: bool) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
