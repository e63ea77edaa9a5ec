"""The kit's UNet and text encoder: Stable Diffusion's training, at 16x16 latents.

Legend: latents are [batch, 4, 16, 16], scaled to unit variance; token numbers are [batch, 24].
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from demo.kit.captions import Attributes, random_caption
from demo.kit.clip_model import tokenize
from demo.kit.tokenizer import CONTEXT_LENGTH
from demo.kit.training import Budget, TrainingRun, averaged_weights

BATCH_SIZE = 32
TEXT_WIDTH = 128
CAPTION_DROPOUT = 0.1
SNR_GAMMA = 5.0


def make_scheduler() -> DDIMScheduler:
    """Stable Diffusion's schedule with more noise at its end (0.02 for 0.012).

    A plain background is the mean of 256 latents: under the original schedule it would still shine through the last
    step's noise, and generation, which starts from pure noise, would not follow the background of a prompt.
    """
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.02,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="trailing",
        prediction_type="epsilon",
    )


def make_unet(seed: int) -> UNet2DConditionModel:
    """A fresh UNet of 6.7 million parameters, initialised from a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return UNet2DConditionModel(
            sample_size=16,
            in_channels=4,
            out_channels=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            mid_block_type="UNetMidBlock2DCrossAttn",
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=(64, 128, 128),
            layers_per_block=1,
            cross_attention_dim=TEXT_WIDTH,
            attention_head_dim=4,
            norm_num_groups=16,
        )


def make_text_encoder(tokenizer: CLIPTokenizer, seed: int) -> CLIPTextModel:
    """A fresh text encoder of 0.4 million parameters, initialised from a seed."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=3 * TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT_LENGTH,
        projection_dim=TEXT_WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return CLIPTextModel(config)


class Denoiser(nn.Module):
    """UNet and text encoder together, as they are trained."""

    def __init__(self, tokenizer: CLIPTokenizer, seed: int) -> None:
        super().__init__()
        self.unet = make_unet(seed)
        self.text_encoder = make_text_encoder(tokenizer, seed)
        # Measured on the CPU: plain attention took 0.73 s a step, torch's fused one 1.00 s.
        self.unet.set_attn_processor(AttnProcessor())

    def forward(self, noisy: Tensor, timesteps: Tensor, ids: Tensor) -> Tensor:
        """Predicted noise, [batch, 4, 16, 16]."""
        text = self.text_encoder(input_ids=ids).last_hidden_state
        noise: Tensor = self.unet(noisy, timesteps, encoder_hidden_states=text).sample
        return noise


def train_denoiser(
    means: Tensor,
    deviations: Tensor,
    known: list[Attributes],
    tokenizer: CLIPTokenizer,
    folder: Path,
    *,
    budget: Budget,
    seed: int,
    every_minutes: float,
    export: Callable[[Denoiser], None],
) -> None:
    """Trains UNet and text encoder with min-SNR weights (Hang et al. 2023) and 10 % empty captions.

    Args:
        means, deviations: scaled latents of the training set, [n, 4, 16, 16] each; a sample is drawn at each step.
        known: what is true of each picture.
        folder: keeps the state.
        export: is given a copy with averaged weights every so many minutes.
    """
    denoiser = Denoiser(tokenizer, seed)
    scheduler = make_scheduler()
    signal = scheduler.alphas_cumprod
    snr = signal / (1 - signal)

    def loss(generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(means), (BATCH_SIZE,), generator=generator)
        random = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        captions = [
            "" if random.random() < CAPTION_DROPOUT else random_caption(known[index], random)[0]
            for index in chosen.tolist()
        ]
        latents = means[chosen] + deviations[chosen] * torch.randn(len(chosen), 4, 16, 16, generator=generator)
        noise = torch.randn(latents.shape, generator=generator)
        timesteps = torch.randint(len(signal), (BATCH_SIZE,), generator=generator)
        noisy = scheduler.add_noise(latents, noise, timesteps)
        with torch.autocast("cpu", torch.bfloat16):
            predicted = denoiser(noisy, timesteps, tokenize(tokenizer, captions))
        weights = snr[timesteps].clamp(max=SNR_GAMMA) / snr[timesteps]
        error: Tensor = (weights * (predicted.float() - noise).square().mean(dim=(1, 2, 3))).mean()
        return error

    def export_average(run: TrainingRun) -> None:
        averaged = Denoiser(tokenizer, seed)
        averaged.load_state_dict(run.averaged("denoiser"))
        export(averaged.eval())

    run = TrainingRun({"denoiser": denoiser}, budget, folder / "denoiser.safetensors", seed)
    run.train(loss, every_minutes=every_minutes, export=export_average)


def load_denoiser(folder: Path, tokenizer: CLIPTokenizer) -> Denoiser:
    """The averaged denoiser of the newest state in a build folder.

    Raises:
        ValueError: none has been trained yet.
    """
    denoiser = Denoiser(tokenizer, 0)
    denoiser.load_state_dict(averaged_weights(folder / "denoiser.safetensors", "denoiser"))
    return denoiser.eval()
