"""Models that are not there, not whole, or of another kind; and texts that are longer than they read."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from tests.odd_input.case import CONFIGURATION, TRAINING, Case, append, setting

LONG = "smiling in the garden, " * 30
UNET = "base/unet/diffusion_pytorch_model.safetensors"
DRY_RUN = ("search.run", CONFIGURATION, "--dry-run")
SEARCH = ("search.run", CONFIGURATION)
TRAIN = ("trainer.run", TRAINING)
HALF = (
    ("base/unet", "diffusion_pytorch_model"),
    ("base/vae", "diffusion_pytorch_model"),
    ("base/text_encoder", "model"),
)


def fp16_only(folder: Path) -> None:
    for part, stem in HALF:
        (folder / part / f"{stem}.safetensors").rename(folder / part / f"{stem}.fp16.safetensors")


def without(path: str) -> Callable[[Path], None]:
    return lambda folder: (folder / path).unlink()


def torn(path: str) -> Callable[[Path], None]:
    """The file as a download leaves it that was broken off."""

    def change(folder: Path) -> None:
        content = (folder / path).read_bytes()
        (folder / path).unlink()
        (folder / path).write_bytes(content[: len(content) // 2])

    return change


def other_variant(folder: Path) -> None:
    (folder / UNET).rename(folder / "base/unet/diffusion_pytorch_model.non_ema.safetensors")


def pickled(folder: Path) -> None:
    (folder / UNET).unlink()
    (folder / "base/unet/diffusion_pytorch_model.bin").write_bytes(b"never opened")


def lacking_a_shard(folder: Path) -> None:
    (folder / UNET).rename(folder / "base/unet/diffusion_pytorch_model-00001-of-00002.safetensors")
    shards = {
        "a": "diffusion_pytorch_model-00001-of-00002.safetensors",
        "b": "diffusion_pytorch_model-00002-of-00002.safetensors",
    }
    index = {"metadata": {}, "weight_map": shards}
    (folder / f"{UNET}.index.json").write_text(json.dumps(index), "utf-8")


def an_adapter(folder: Path) -> None:
    save_file({"unet.down.lora_A.weight": np.zeros((2, 2), np.float32)}, folder / "anna.safetensors")


def no_model_at_all(folder: Path) -> None:
    (folder / "anna.safetensors").write_text("<html>404</html>")


def other_pipeline(folder: Path) -> None:
    (folder / "base/model_index.json").write_text('{"_class_name": "KolorsPipeline"}', "utf-8")


def clip_without_a_layer(folder: Path) -> None:
    path = folder / "clip/model.safetensors"
    weights = load_file(path)
    path.unlink()
    save_file({name: value for name, value in weights.items() if ".layers.1.mlp.fc1" not in name}, path)


def clip_of_another_kind(folder: Path) -> None:
    (folder / "clip/config.json").write_text('{"model_type": "siglip"}', "utf-8")


def long_caption(folder: Path) -> None:
    (folder / "photos/happy.txt").write_text("a photo of {trigger} man, " + LONG, "utf-8")
    (folder / "photos/sad.txt").write_text("a photo of {trigger} man, " + LONG, "utf-8")


def class_images(folder: Path) -> None:
    (folder / "class").mkdir()
    shutil.copy(folder / "photos/happy.png", folder / "class/happy.png")


CASES = [
    *(
        Case(
            f"base-on-the-hub-while-offline{name}",
            command=(*command, "--set", "model=nobody/nothing"),
            says=(
                "base model 'nobody/nothing' is neither a folder nor in the hub's local cache (HF_HUB_OFFLINE is set)",
            ),
        )
        for name, command in (("", DRY_RUN), ("-search", SEARCH))
    ),
    Case(
        "clip-on-the-hub-while-offline",
        command=setting("evaluation.clip=nobody/nothing"),
        says=(
            "the CLIP model 'nobody/nothing' cannot be loaded",
            "not with HF_HUB_OFFLINE=1, unless it was downloaded",
        ),
    ),
    Case("base-with-fp16-weights-only", fp16_only, exit_code=0, says=("photos:",)),
    Case(
        "base-without-unet-weights",
        without(UNET),
        says=("holds no weights of its unet", "put back what is missing, or unset HF_HUB_OFFLINE"),
    ),
    Case("base-without-unet-weights-trainer", without(UNET), command=TRAIN, says=("holds no weights of its unet",)),
    Case(
        "base-with-another-variant-only",
        other_variant,
        says=("only diffusion_pytorch_model.non_ema.safetensors, which is a variant that is not read: rename it",),
    ),
    Case("base-with-pickled-weights", pickled, says=("holds pickled weights", "use its .safetensors version")),
    Case(
        "base-that-lacks-a-shard", lacking_a_shard, says=("unet/diffusion_pytorch_model-00002-of-00002", "is missing")
    ),
    Case("base-torn", torn(UNET), says=("unet/diffusion_pytorch_model.safetensors is damaged", "download it again")),
    Case("base-without-config", without("base/vae/config.json"), says=("vae/config.json cannot be read",)),
    Case("base-of-another-family", other_pipeline, says=("is a KolorsPipeline; only StableDiffusionPipeline",)),
    Case(
        "base-without-tokenizer",
        without("base/tokenizer/tokenizer.json"),
        says=("tokenizer holds no tokenizer.json, vocab.json or spiece.model", "put its files back"),
    ),
    Case(
        "base-is-an-adapter",
        an_adapter,
        command=setting("model=anna.safetensors"),
        says=("anna.safetensors holds no whole model", "is it an adapter, or a part?"),
    ),
    Case(
        "base-is-no-safetensors",
        no_model_at_all,
        command=setting("model=anna.safetensors"),
        says=("anna.safetensors is damaged", "download it again"),
    ),
    Case(
        "clip-without-weights",
        without("clip/model.safetensors"),
        says=("the CLIP model", "there is no model.safetensors in", "give a folder that holds a CLIPModel"),
    ),
    Case(
        "clip-that-lacks-a-layer",
        clip_without_a_layer,
        says=("has no fitting weights for 4 of the model's, such as text_model.encoder.layers.1.mlp.fc1.bias",),
    ),
    Case("clip-torn", torn("clip/model.safetensors"), says=("the CLIP model", "model.safetensors is damaged")),
    Case("clip-of-another-kind", clip_of_another_kind, says=("says model_type 'siglip', not 'clip'",)),
    *(
        Case(
            f"captions-too-long{name}",
            long_caption,
            command=command,
            says=(
                "the base model's text encoder reads 24 tokens",
                "the caption of happy.png has 520 ('a photo of sks man,",
                "the caption of sad.png has 520",
                "shorten them",
            ),
        )
        for name, command in (("", DRY_RUN), ("-search", SEARCH))
    ),
    Case(
        "prompt-too-long",
        append("prompts/validation.txt", LONG + "a photo of {trigger} man\n"),
        says=("a prompt of validation.txt has", "reads 24 tokens"),
    ),
    Case(
        "final-prompt-too-long",
        append("prompts/final.txt", LONG + "a photo of {trigger} man\n"),
        says=("a prompt of final.txt has",),
    ),
    Case(
        "negative-prompt-too-long",
        command=setting(f"evaluation.generation.negative_prompt={LONG}"),
        says=("evaluation.generation.negative_prompt has",),
    ),
    Case(
        "class-prompt-too-long",
        command=setting("training.prior_loss_weight=1", f"photos.prior.prompt={LONG}"),
        says=("photos.prior.prompt has",),
    ),
    Case(
        "class-images-of-the-person",
        class_images,
        command=setting("training.prior_loss_weight=1", "photos.prior.prompt=a man", "photos.prior.folder=class"),
        says=("happy.png: is the person's own photo happy.png", "class images show others: remove it"),
    ),
]
