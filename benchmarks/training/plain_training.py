"""The peer of `benchmarks.training`: a plain loop in the way of diffusers' examples.

(examples/text_to_image/train_text_to_image_lora.py; as examples/dreambooth/train_dreambooth_lora.py where the text
encoder is trained, too.) As there, every step reads its photos, has the autoencoder encode them and the text encoder
their captions, trains LoRA layers that PEFT adds, with attention and torch.optim.AdamW as they are by default and
accelerate, and reads the loss for its log. Rank, targets, kind of start values, batch, loss and schedule are those of
our side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from accelerate.utils import set_seed  # type: ignore[import-untyped]
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.optimization import get_scheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.training_utils import compute_snr
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from transformers import CLIPTextModel, CLIPTokenizer

from benchmarks.training.training_run import DATA, Steps, Training, Work
from trainer.data.photos import CaptionedPhoto
from trainer.models.loading import set_threads
from trainer.models.quiet import quiet_loading
from trainer.models.targets import TEXT_ENCODER_TARGETS, UNET_TARGETS


class PhotoDataset(Dataset[dict[str, Tensor]]):
    """Photos and captions, read and prepared whenever they are asked for."""

    def __init__(self, photos: Sequence[CaptionedPhoto], tokenizer: CLIPTokenizer, side: int) -> None:
        self._photos = photos
        self._tokenizer = tokenizer
        self._side = side

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, at: int) -> dict[str, Tensor]:
        photo = self._photos[at]
        with Image.open(photo.path) as image:
            square = ImageOps.fit(image.convert("RGB"), (self._side, self._side), Image.Resampling.LANCZOS)
        pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 127.5 - 1
        tokens = self._tokenizer(
            photo.caption,
            max_length=self._tokenizer.model_max_length,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        )
        return {"pixel_values": pixels, "input_ids": tokens.input_ids[0]}


class PlainTraining(Training):
    """The loop of the examples, which trains once: a second adapter is for another process.

    Args:
        work: What to train.
        threads: Of the CPU.
    """

    def __init__(self, work: Work, threads: int) -> None:
        super().__init__()
        set_threads(threads)
        self._config = work.config
        self._accelerator = Accelerator(cpu=True, mixed_precision="no")
        folder: Any = work.model
        with quiet_loading():
            self._scheduler: Any = DDPMScheduler.from_pretrained(folder, subfolder="scheduler")
            self._tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")
            self._text_encoder: Any = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder")
            self._vae: Any = AutoencoderKL.from_pretrained(folder, subfolder="vae")
            self._unet: Any = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
        for module in (self._vae, self._text_encoder, self._unet):
            module.requires_grad_(False)
            module.to(self._accelerator.device)
        self._photos = PhotoDataset(work.split.training, self._tokenizer, work.config.resolution)
        self.loaded()

    def steps(self, seed: int) -> Steps:
        """The script from its seed on."""
        config, accelerator = self._config, self._accelerator
        set_seed(seed)
        parts = {"unet": self._unet}
        if config.trains_text_encoder:
            parts["text_encoder"] = self._text_encoder
        for part, module in parts.items():
            targets = UNET_TARGETS[config.targets] if part == "unet" else TEXT_ENCODER_TARGETS
            module.add_adapter(
                LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=list(targets))  # type: ignore[arg-type]
            )
        weights = [weight for module in parts.values() for weight in module.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=config.weight_decay)
        loader = DataLoader(self._photos, shuffle=True, batch_size=config.batch_size)
        schedule = get_scheduler(
            config.lr_scheduler,
            optimizer,
            num_warmup_steps=config.lr_warmup_steps,
            num_training_steps=config.steps,
        )
        optimizer, loader, schedule, *modules = accelerator.prepare(optimizer, loader, schedule, *parts.values())
        for module in modules:
            module.train()
        batches = self._batches(loader)
        for _ in range(config.steps):
            with self.clocks.measure(DATA):
                batch = next(batches)
            with accelerator.accumulate(*modules):
                loss = self._loss(batch)
                logged = float(accelerator.gather(loss.repeat(config.batch_size)).mean().item())
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(weights, config.max_grad_norm)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            yield len(batch["pixel_values"]), logged

    def weights(self) -> dict[str, dict[str, Tensor]]:
        """As they are now."""
        parts = {"unet": self._unet}
        if self._config.trains_text_encoder:
            parts["text_encoder"] = self._text_encoder
        return {
            part: {
                name: weight.detach().clone()
                for name, weight in get_peft_model_state_dict(module, save_embedding_layers=False).items()
            }
            for part, module in parts.items()
        }

    def _batches(self, loader: Any) -> Iterator[dict[str, Tensor]]:
        while True:
            yield from loader

    def _loss(self, batch: dict[str, Tensor]) -> Tensor:
        latents = self._vae.encode(batch["pixel_values"]).latent_dist.sample() * self._vae.config.scaling_factor
        noise = torch.randn_like(latents)
        timesteps = torch.randint(0, self._scheduler.config.num_train_timesteps, (len(latents),))
        noisy = self._scheduler.add_noise(latents, noise, timesteps)
        embeddings = self._text_encoder(batch["input_ids"], return_dict=False)[0]
        predicted = self._unet(noisy, timesteps, embeddings, return_dict=False)[0]
        if self._config.snr_gamma is None:
            return functional.mse_loss(predicted.float(), noise.float())
        snr = compute_snr(self._scheduler, timesteps)
        factors = torch.stack([snr, self._config.snr_gamma * torch.ones_like(timesteps)], dim=1).min(dim=1)[0] / snr
        errors = functional.mse_loss(predicted.float(), noise.float(), reduction="none").mean((1, 2, 3))
        weighted: Tensor = (errors * factors).mean()
        return weighted
