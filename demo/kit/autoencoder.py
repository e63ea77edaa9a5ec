"""The kit's VAE: 64 px pictures to 16x16 latents of 4 channels and back.

Two stages: encoder and decoder together, then the decoder alone, since the latents may be used as soon as the encoder
stands still. Faces lose likeness here first, so the loss looks hardest at the middle of the picture, where every crop
has its face.

Legend: pictures are [batch, 3, 64, 64] in [-1, 1]; latents are [batch, 4, 16, 16], not yet scaled.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from demo.kit.training import Budget, TrainingRun, write_safetensors

KL_WEIGHT = 1e-3
SHARES = (3, 4, 1)
"""Faces of the training set, sharp crops and scenes in one batch."""
BATCH_SIZE = sum(SHARES)
DECODER_NOISE = 0.05
"""Standard deviation of the noise that the decoder learns to bear, in unscaled latents."""


def make_autoencoder(seed: int) -> AutoencoderKL:
    """A fresh VAE of 1.6 million parameters, initialised from a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoencoderKL(
            in_channels=3,
            out_channels=3,
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(32, 64, 96),
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=8,
            sample_size=64,
            mid_block_add_attention=False,
        )


def to_pictures(images: NDArray[np.uint8]) -> Tensor:
    """uint8 [n, 64, 64, 3] to float [n, 3, 64, 64] in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def face_weights(size: int = 64) -> Tensor:
    """How much a pixel's error counts, [size, size], mean 1: three times as much on the face as in corners."""
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    weights = 0.5 + torch.exp(-(((rows - 0.05) / 0.6) ** 2) - (columns / 0.5) ** 2)
    return weights / weights.mean()


def reconstruction_loss(output: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Weighted absolute and squared error, and the absolute error of gradients (edges tell faces apart)."""
    error = output - target
    across = (error[..., :, 1:] - error[..., :, :-1]).abs() * weights[:, 1:]
    down = (error[..., 1:, :] - error[..., :-1, :]).abs() * weights[1:, :]
    return (error.abs() * weights).mean() + 2 * (error.square() * weights).mean() + across.mean() + down.mean()


@dataclass(frozen=True, kw_only=True, eq=False)
class Pictures:
    """What the autoencoder learns from, each uint8 [n, 64, 64, 3]."""

    faces: NDArray[np.uint8]
    """The training set of the other models."""
    sharp: NDArray[np.uint8]
    """Face pictures that were scaled down only once."""
    scenes: NDArray[np.uint8]
    """Anything else."""

    def draw(self, generator: torch.Generator) -> Tensor:
        """A batch, half of it mirrored, colour channels mixed: the subject's colours are new to the VAE."""
        drawn = [
            source[torch.randint(len(source), (share,), generator=generator).numpy()]
            for source, share in zip((self.faces, self.sharp, self.scenes), SHARES, strict=True)
        ]
        pictures = to_pictures(np.concatenate(drawn))
        mirrored = torch.rand(BATCH_SIZE, generator=generator) < 0.5
        pictures = torch.where(mirrored[:, None, None, None], pictures.flip(-1), pictures)
        mixing = torch.eye(3) + 0.06 * torch.randn(BATCH_SIZE, 3, 3, generator=generator)
        return torch.einsum("bij,bjhw->bihw", mixing, pictures).clamp(-1, 1)


def _export(run: TrainingRun, target: Path) -> None:
    write_safetensors({name: value.float() for name, value in run.averaged("vae").items()}, target)


def train_encoder(pictures: Pictures, folder: Path, *, budget: Budget, seed: int) -> None:
    """Trains encoder and decoder together; writes `encoder.safetensors` (the whole VAE) into `folder` when done."""
    vae = make_autoencoder(seed)
    weights = face_weights()

    def loss(generator: torch.Generator) -> Tensor:
        batch = pictures.draw(generator)
        with torch.autocast("cpu", torch.bfloat16):
            distribution = vae.encode(batch).latent_dist
            output = vae.decode(distribution.sample(generator)).sample
        kl = 0.5 * (distribution.mean.float().square() + distribution.var.float() - 1 - distribution.logvar.float())
        total: Tensor = reconstruction_loss(output.float(), batch, weights) + KL_WEIGHT * kl.mean()
        return total

    run = TrainingRun({"vae": vae}, budget, folder / "vae-joint.safetensors", seed)
    run.train(loss)
    _export(run, folder / "encoder.safetensors")


def train_decoder(pictures: Pictures, folder: Path, *, budget: Budget, seed: int) -> None:
    """Trains the decoder alone after `train_encoder`; writes `vae.safetensors` every 5 minutes and when done."""
    vae = make_autoencoder(seed)
    vae.load_state_dict(load_file(folder / "encoder.safetensors"))
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    weights = face_weights()

    def loss(generator: torch.Generator) -> Tensor:
        batch = pictures.draw(generator)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                latents = vae.encode(batch).latent_dist.sample(generator)
                # The denoiser's latents are never exact: the decoder learns to bear a little noise.
                latents = latents + DECODER_NOISE * torch.randn(latents.shape, generator=generator)
            output = vae.decode(latents).sample
        return reconstruction_loss(output.float(), batch, weights)

    run = TrainingRun({"vae": vae}, budget, folder / "vae-decoder.safetensors", seed + 1)
    run.train(loss, every_minutes=5, export=lambda run: _export(run, folder / "vae.safetensors"))


def load_autoencoder(folder: Path) -> AutoencoderKL:
    """The newest VAE in a build folder, frozen: with its finished decoder if there is one."""
    for name in ("vae.safetensors", "encoder.safetensors"):
        if (folder / name).exists():
            vae = make_autoencoder(0)
            vae.load_state_dict(load_file(folder / name))
            return vae.eval().requires_grad_(False)
    raise ValueError(f"no trained VAE in {folder}; run `python -m demo.build --stage vae` first")


@torch.no_grad()
def encode_all(vae: AutoencoderKL, images: NDArray[np.uint8], batch_size: int = 64) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every picture's latents, each [n, 4, 16, 16]."""
    means, deviations = [], []
    for start in range(0, len(images), batch_size):
        distribution = vae.encode(to_pictures(images[start : start + batch_size])).latent_dist
        means.append(distribution.mean)
        deviations.append(distribution.std)
    return torch.cat(means), torch.cat(deviations)
