"""Measurements 7 and 8: images a second by batch and kind of adapter, and whether they are the same images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.gpu.bench import Bench, do_steps, levels_apart
from benchmarks.gpu.device import GB
from benchmarks.gpu.rows import Row, at_least, at_most, holds
from evaluation.clip_score import ClipScorer
from trainer.adapters.adapter_files import load_adapter, save_adapter
from trainer.adapters.merged import merged

TRAINED = 10
"""Optimizer steps of the adapters that draw."""
RERUNS = 2


def image_rate(bench: Bench) -> Iterator[Row]:
    """Images a second, and the decoder's memory."""
    cuda, sizes = bench.device.is_cuda, bench.sizes
    bench.draw(1)
    for batch in sizes.image_batches:
        seconds = bench.device.seconds(partial(bench.draw, batch), repeats=1, warm_up=0)
        peak = bench.device.peak(partial(bench.draw, batch)) / GB if batch == sizes.image_batches[-1] else None
        name, rate = f"images a second, {batch} at once, no adapter", batch / seconds
        if cuda and batch == 8:
            yield at_least(name, rate, 7.0, "1/s", note="goal 12")
        else:
            yield Row(name=name, value=rate, unit="1/s")
        if cuda and peak is not None:
            yield Row(name=f"  peak, {batch} at once", value=peak, unit="GB")
    yield from _adapter_rates(bench)
    yield from _decoder(bench)


def _adapter_rates(bench: Bench) -> Iterator[Row]:
    count = bench.sizes.lora_images
    draw = partial(bench.draw, count)
    plain = bench.device.seconds(draw, repeats=RERUNS)
    yield Row(name=f"{count} images, no adapter", value=plain, unit="s")
    for rank in (4, 64):
        for kind, adapter in adapted(bench, rank):
            with adapter:
                seconds = bench.device.seconds(draw, repeats=RERUNS)
            name = f"{count} images, rank {rank} {kind}, to none"
            if bench.device.is_cuda:
                yield at_most(name, seconds / plain, 1.05, "x")
            else:
                yield Row(name=name, value=seconds / plain, unit="x")


def adapted(bench: Bench, rank: int) -> Iterator[tuple[str, AbstractContextManager[None]]]:
    """The base with one trained adapter: as training holds it, as the final loads it, and merged."""
    folder = bench.scratch()

    @contextmanager
    def live() -> Iterator[None]:
        with bench.job(rank=rank) as job:
            do_steps(job, TRAINED)
            save_adapter(job.adapter, folder)
            with job.evaluation_mode():
                yield

    yield "live", live()
    yield "loaded", _loaded(bench, folder, merge=False)
    yield "merged", _loaded(bench, folder, merge=True)


@contextmanager
def _loaded(bench: Bench, folder: Path, *, merge: bool) -> Iterator[None]:
    adapter = load_adapter(bench.base, folder)
    try:
        with merged(adapter) if merge else nullcontext():
            yield
    finally:
        adapter.detach()


def _decoder(bench: Bench) -> Iterator[Row]:
    """What the VAE takes of time and memory, one image after the other and all at once."""
    vae, count = bench.base.vae, bench.sizes.lora_images
    side = bench.sizes.resolution // 2 ** (len(vae.config["block_out_channels"]) - 1)
    latents = torch.randn(count, 4, side, side, device=bench.device.device, dtype=bench.base.dtype)
    ways: tuple[tuple[str, Callable[[], object]], ...] = (
        ("1 image", lambda: vae.decode(latents[:1])),
        (f"{count} images one by one", lambda: [vae.decode(latent[None]) for latent in latents]),
        (f"{count} images at once", lambda: vae.decode(latents)),
    )
    with torch.inference_mode():
        for name, way in ways:
            seconds, held = bench.device.seconds(way, repeats=RERUNS), bench.device.allocated()
            peak = bench.device.peak(way) - held
            yield Row(name=f"decode {name} of {bench.sizes.resolution} px", value=1000 * seconds, unit="ms")
            if bench.device.is_cuda:
                yield Row(name="  memory besides", value=peak / GB, unit="GB")


def same_images(bench: Bench) -> Iterator[Row]:
    """Mean levels between images that should be the same; rounding alone is what another batch size changes."""
    count = bench.sizes.lora_images
    base = bench.draw(count)
    yield holds("every image has more than one colour", all(_varied(image) for image in base))
    yield holds("two runs draw the same bits", levels_apart(bench.draw(count), base) == 0.0)
    floor = levels_apart(bench.draw(count, at_once=1), base)
    yield Row(name="levels between one and many at once, no adapter", value=floor, unit="levels")
    scorer = ClipScorer(bench.setup.clip, bench.device.device)
    drawn: dict[str, list[Image.Image]] = {}
    for kind, adapter in adapted(bench, 64):
        with adapter:
            drawn[kind] = bench.draw(count)
    after = bench.draw(count)
    apart = levels_apart(drawn["live"], base)
    yield Row(name="levels between adapter and none", value=apart, unit="levels", note="what training did")
    for first, second in (("live", "loaded"), ("loaded", "merged"), ("live", "merged")):
        value, name = levels_apart(drawn[first], drawn[second]), f"levels between {first} and {second}"
        if bench.device.is_cuda:
            yield at_most(name, value, 1.2 * floor, "levels", note="criterion: 1.2 of those of another batch size")
        else:
            yield Row(name=name, value=value, unit="levels")
    yield holds("the base draws the same bits after training and merging", levels_apart(after, base) == 0.0)
    texts = list(bench.setup.prompt_sets["validation"].prompts)
    texts = [texts[number % len(texts)] for number in range(count)]
    scores = {kind: scorer.score(images, texts) for kind, images in drawn.items()}
    difference = float(np.abs(scores["live"] - scores["merged"]).mean())
    yield Row(name="CLIP score, live to merged, mean difference an image", value=difference)


def _varied(image: Image.Image) -> bool:
    return bool(np.asarray(image).std() > 0)
