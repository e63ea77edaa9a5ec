"""Builds the whole kit from the `openpeople` package: `python -m demo.build`.

Stages, in this order; each goes on where it was stopped, and is skipped once its result exists:
photos, data, encoder, decoder, clip, unet (all in `build/demo`), export (into `demo/base` and `demo/clip`), card.
"""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from transformers import CLIPTokenizer

from demo.kit.autoencoder import Pictures, encode_all, load_autoencoder, train_decoder, train_encoder
from demo.kit.base_model import export_base_model, latent_scaling
from demo.kit.captions import corpus
from demo.kit.clip_model import export_clip, load_clip, train_clip
from demo.kit.dataset import build_dataset, build_scenes, build_sharp_crops, load_dataset, load_pictures
from demo.kit.denoiser import Denoiser, load_denoiser, train_denoiser
from demo.kit.people import SPARE, SUBJECT
from demo.kit.photos import write_photos
from demo.kit.tokenizer import build_tokenizer
from demo.kit.training import Budget

SEED = 20240601
PICTURES = 12_000
SCENES = 6_000
SHARP_CROPS = 5_000


class Stage(StrEnum):
    """Parts of the build, in the order in which they run."""

    PHOTOS = "photos"
    DATA = "data"
    ENCODER = "encoder"
    DECODER = "decoder"
    CLIP = "clip"
    UNET = "unet"
    EXPORT = "export"
    CARD = "card"


BUDGETS = {
    Stage.ENCODER: Budget(minutes=50, learning_rate=1.5e-3),
    Stage.DECODER: Budget(minutes=20, learning_rate=1.2e-3),
    Stage.CLIP: Budget(minutes=42, learning_rate=1e-3, warmup_steps=200),
    Stage.UNET: Budget(minutes=65, learning_rate=1e-3, warmup_steps=200, average_decay=0.999),
}
"""Training time and peak learning rate of each trained part."""


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """The kit's tokenizer, built on first use."""
    if not (folder / "tokenizer" / "tokenizer.json").exists():
        build_tokenizer(corpus(np.random.default_rng(0), 4000)).save_pretrained(folder / "tokenizer")
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    return tokenizer


def _pictures(data: Path) -> Pictures:
    return Pictures(
        faces=load_dataset(data)[0],
        sharp=load_pictures(data / "sharp.npy"),
        scenes=load_pictures(data / "scenes.npy"),
    )


def _latents(folder: Path) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Scaled means and deviations of the latents of all pictures, [n, 4, 16, 16], and the scale."""
    images, _ = load_dataset(folder / "data")
    means, deviations = encode_all(load_autoencoder(folder), images)
    scaling = latent_scaling(means, deviations)
    return means * scaling, deviations * scaling, scaling


def _train_unet(folder: Path, output: Path, budget: Budget, every_minutes: float) -> None:
    _, known = load_dataset(folder / "data")
    tokenizer = load_tokenizer(folder)
    means, deviations, scaling = _latents(folder)

    def export(denoiser: Denoiser) -> None:
        export_base_model(load_autoencoder(folder), scaling, denoiser, tokenizer, output / "base")

    train_denoiser(
        *(means, deviations, known, tokenizer, folder),
        budget=budget,
        seed=SEED,
        every_minutes=every_minutes,
        export=export,
    )


def run_stage(stage: Stage, folder: Path, output: Path, budget: Budget | None, export_minutes: float) -> None:
    """Runs one stage.

    Args:
        folder: intermediate results.
        output: the kit's folder.
        budget: of a trained stage, None for the others.
        export_minutes: how often the UNet in training is written into the kit.
    """
    if stage is Stage.PHOTOS:
        write_photos(SUBJECT, output / "photos")
        write_photos(SPARE, output / "spare")
    elif stage is Stage.DATA:
        if not (folder / "data" / "attributes.json").exists():
            build_dataset(folder / "data", pictures=PICTURES, seed=SEED)
        if not (folder / "data" / "scenes.npy").exists():
            build_scenes(folder / "data", pictures=SCENES, seed=SEED)
        if not (folder / "data" / "sharp.npy").exists():
            build_sharp_crops(folder / "data", pictures=SHARP_CROPS, seed=SEED)
    elif stage is Stage.EXPORT:
        tokenizer = load_tokenizer(folder)
        _, _, scaling = _latents(folder)
        export_base_model(
            load_autoencoder(folder), scaling, load_denoiser(folder, tokenizer), tokenizer, output / "base"
        )
        export_clip(load_clip(folder, tokenizer), tokenizer, output / "clip")
    elif stage is Stage.CARD:
        from demo.kit.measurement import write_card

        write_card(output)
    else:
        assert budget is not None
        if stage is Stage.ENCODER:
            train_encoder(_pictures(folder / "data"), folder, budget=budget, seed=SEED)
        elif stage is Stage.DECODER:
            train_decoder(_pictures(folder / "data"), folder, budget=budget, seed=SEED)
        elif stage is Stage.CLIP:
            train_clip(*load_dataset(folder / "data"), load_tokenizer(folder), folder, budget=budget, seed=SEED)
        else:
            _train_unet(folder, output, budget, export_minutes)


def main(
    stage: Annotated[list[Stage] | None, typer.Option(help="only this stage; may be repeated")] = None,
    minutes: Annotated[float | None, typer.Option(help="training time of a single chosen stage", min=0.1)] = None,
    folder: Annotated[Path, typer.Option(help="intermediate results")] = Path("build/demo"),
    output: Annotated[Path, typer.Option(help="where the kit is written")] = Path("demo"),
    threads: Annotated[int, typer.Option(help="CPU threads", min=1)] = 1,
    export_minutes: Annotated[float, typer.Option(help="write the UNet in training this often", min=0.1)] = 10.0,
) -> None:
    """Build the demo kit from the openpeople package, or some stages of it."""
    if minutes is not None and (stage is None or len(stage) != 1 or stage[0] not in BUDGETS):
        raise typer.BadParameter(f"--minutes needs one --stage out of {', '.join(BUDGETS)}")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    torch.set_num_threads(threads)
    for chosen in stage or list(Stage):
        budget = BUDGETS.get(chosen)
        if budget is not None and minutes is not None:
            budget = Budget(
                minutes=minutes,
                learning_rate=budget.learning_rate,
                warmup_steps=budget.warmup_steps,
                average_decay=budget.average_decay,
            )
        typer.echo(f"stage {chosen}")
        run_stage(chosen, folder, output, budget, export_minutes)


if __name__ == "__main__":
    typer.run(main)
