"""The kit's CLIP: a small CLIPModel that tells whether a 64 px picture shows what a caption says.

Captions state a random part of what is known, and one caption often fits several pictures of a batch, so the
contrastive loss counts every pair as a match whose caption says nothing false of the picture.

It judges expression and background only; of who is in the picture it knows nothing. Hair is never said, and the sex is
said at random: with two men among eight people the model would learn that long hair is a woman's, and hold the looks of
the subject against every adapter (measured: told the sex, it took 5 of the subject's 21 photos for a man's).
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from demo.kit.autoencoder import to_pictures
from demo.kit.captions import Attributes, random_caption
from demo.kit.tokenizer import CONTEXT_LENGTH
from demo.kit.training import Budget, TrainingRun, averaged_weights, write_safetensors

BATCH_SIZE = 64

PREPROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": 64},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 64, "width": 64},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "do_convert_rgb": True,
}
"""What `CLIPImageProcessor` does to a picture before this model sees it: 64 px, channels in [-1, 1]."""


def make_clip(tokenizer: CLIPTokenizer, seed: int) -> CLIPModel:
    """A fresh CLIPModel of 1.5 million parameters for 64 px pictures, initialised from a seed."""
    tokens = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = CLIPConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": CONTEXT_LENGTH,
            "projection_dim": 64,
            **tokens,
        },
        vision_config={
            "image_size": 64,
            "patch_size": 8,
            "hidden_size": 160,
            "intermediate_size": 480,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "projection_dim": 64,
        },
        projection_dim=64,
        logit_scale_init_value=2.3,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return CLIPModel(config)


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Token numbers [captions, 24], padded with the end token."""
    encoded = tokenizer(captions, padding="max_length", max_length=CONTEXT_LENGTH, truncation=True, return_tensors="pt")
    ids: Tensor = encoded.input_ids
    return ids


def matches(known: list[Attributes], said: list[Attributes]) -> Tensor:
    """1 where the picture's attributes imply what the caption says, [pictures, captions]."""
    return torch.tensor([[float(picture.implies(caption)) for caption in said] for picture in known])


def anybody(known: Attributes, random: Generator) -> Attributes:
    """The same picture of a man, a woman or a person, whoever it shows, with any hair."""
    return replace(known, sex=str(random.choice(["man", "woman", "person"])), hair="")


def contrastive_loss(logits: Tensor, matching: Tensor) -> Tensor:
    """Symmetric cross-entropy of CLIP (Radford et al. 2021) with every match as an equal target.

    Args:
        logits: scaled cosines, [pictures, captions].
        matching: 1 where a caption fits a picture; every row and column holds at least one.
    """
    by_picture = -(functional.log_softmax(logits, dim=1) * matching).sum(dim=1) / matching.sum(dim=1)
    by_caption = -(functional.log_softmax(logits, dim=0) * matching).sum(dim=0) / matching.sum(dim=0)
    return (by_picture.mean() + by_caption.mean()) / 2


def _draw_pictures(images: NDArray[np.uint8], chosen: Tensor, generator: torch.Generator) -> Tensor:
    """Chosen pictures, mirrored at random, shifted by up to 3 px, lighter or darker, blurred as generated ones are."""
    pictures = to_pictures(images[chosen.numpy()])
    count = len(pictures)
    mirrored = torch.rand(count, generator=generator) < 0.5
    pictures = torch.where(mirrored[:, None, None, None], pictures.flip(-1), pictures)
    down, right = (int(shift) - 3 for shift in torch.randint(7, (2,), generator=generator))
    padded = functional.pad(pictures, (3, 3, 3, 3), mode="replicate")
    pictures = padded[..., 3 + down : 67 + down, 3 + right : 67 + right]
    blurred = functional.avg_pool2d(functional.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    share = torch.rand(count, generator=generator)[:, None, None, None] * 0.8
    pictures = pictures + share * (blurred - pictures)
    light = 1 + 0.12 * torch.randn(count, 1, 1, 1, generator=generator)
    return ((pictures + 1) * light - 1 + 0.02 * torch.randn(pictures.shape, generator=generator)).clamp(-1, 1)


def train_clip(
    images: NDArray[np.uint8],
    known: list[Attributes],
    tokenizer: CLIPTokenizer,
    folder: Path,
    *,
    budget: Budget,
    seed: int,
) -> None:
    """Trains a CLIPModel; its state is kept in `folder`."""
    clip = make_clip(tokenizer, seed)

    def loss(generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(images), (BATCH_SIZE,), generator=generator)
        random = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        shown = [anybody(known[index], random) for index in chosen.tolist()]
        pairs = [random_caption(attributes, random) for attributes in shown]
        ids = tokenize(tokenizer, [text for text, _ in pairs])
        with torch.autocast("cpu", torch.bfloat16):
            output = clip(input_ids=ids, pixel_values=_draw_pictures(images, chosen, generator))
        cosines = output.image_embeds.float() @ output.text_embeds.float().T
        matching = matches(
            [replace(attributes, sex="") for attributes in shown], [replace(said, sex="") for _, said in pairs]
        )
        return contrastive_loss(cosines * clip.logit_scale.exp().clamp(max=30), matching)

    TrainingRun({"clip": clip}, budget, folder / "clip.safetensors", seed).train(loss)


def load_clip(folder: Path, tokenizer: CLIPTokenizer) -> CLIPModel:
    """The averaged CLIPModel of the newest state in a build folder.

    Raises:
        ValueError: none has been trained yet.
    """
    clip = make_clip(tokenizer, 0)
    clip.load_state_dict({**clip.state_dict(), **averaged_weights(folder / "clip.safetensors", "clip")})
    clip.eval()  # type: ignore[no-untyped-call]
    return clip


def export_clip(clip: CLIPModel, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Writes what `CLIPModel`, `CLIPTokenizer` and `CLIPImageProcessor` load by `from_pretrained`; weights in fp16."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    # Stated, or the model would load in the half precision of its file.
    clip.config.dtype = torch.float32
    clip.config.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR, indent=2) + "\n")
    state = {name: value.half() if value.is_floating_point() else value for name, value in clip.state_dict().items()}
    write_safetensors(state, folder / "model.safetensors")


@torch.no_grad()
def accuracy(
    clip: CLIPModel, tokenizer: CLIPTokenizer, images: NDArray[np.uint8], truths: list[str], captions: dict[str, str]
) -> float:
    """Share of the pictures for which the caption of the true word scores best.

    Args:
        images: uint8 [n, 64, 64, 3].
        truths: the true word of each picture.
        captions: the caption that stands for each word.
    """
    words = list(captions)
    output = clip(input_ids=tokenize(tokenizer, list(captions.values())), pixel_values=to_pictures(images))
    best = (output.image_embeds @ output.text_embeds.T).argmax(dim=1)
    return float(np.mean([words[index] == truth for index, truth in zip(best.tolist(), truths, strict=True)]))
