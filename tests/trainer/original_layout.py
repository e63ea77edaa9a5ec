"""Models of diffusers' layout written into one file in the layout that Stable Diffusion was published in.

The inverse of what diffusers' `from_single_file` does, for the models of the tests.
"""

import re
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import DIFFUSERS_TO_LDM_MAPPING
from safetensors.torch import save_file
from torch import Tensor, nn

from trainer.models.loading import BaseModel
from trainer.models.stable_diffusion_xl import StableDiffusionXL

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPEN_CLIP = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "fc1": "c_fc", "fc2": "c_proj", "self_attn": "attn"}


def write_single_file(
    base: BaseModel, path: Path, *, dtype: torch.dtype = torch.float32, more: dict[str, Tensor] | None = None
) -> Path:
    """All weights of the model in one file, besides `more` tensors."""
    tensors = {
        **{f"model.diffusion_model.{name}": weight for name, weight in _unet(base.denoiser).items()},
        **{f"first_stage_model.{name}": weight for name, weight in _vae(base.vae).items()},
    }
    if isinstance(base, StableDiffusionXL):
        tensors |= _clip(base.text_encoder, "conditioner.embedders.0.transformer.text_model.")
        tensors |= _open_clip(base.text_encoder_2, "conditioner.embedders.1.model.")
    else:
        tensors |= _clip(base.text_encoder, "cond_stage_model.transformer.text_model.")
    cast = {name: weight.to(dtype).contiguous() for name, weight in tensors.items()}
    save_file({**cast, **(more or {})}, path)
    return path


def published_unet_names(unet: UNet2DConditionModel) -> dict[str, str]:
    """The published name of each of the UNet's weights, by diffusers'."""
    mapping = DIFFUSERS_TO_LDM_MAPPING["unet"]
    singles = {**mapping["layers"], **mapping["addition_embed_type"]}
    layers = unet.config["layers_per_block"]
    weights = unet.state_dict()
    names = {}
    for name in weights:
        if name in singles:
            names[name] = singles[name]
            continue
        side, *rest = name.split(".", 1)
        inner = rest[0]
        if side == "mid_block":
            kind, number, inner = inner.split(".", 2)
            place = f"middle_block.{2 * int(number) if kind == 'resnets' else 1}"
        else:
            block, kind, number, inner = inner.split(".", 3)
            first = (layers + 1) * int(block)
            attends = f"{side}.{block}.attentions.0.norm.weight" in weights
            if side == "down_blocks":
                at = first + layers + 1 if kind == "downsamplers" else first + int(number) + 1
                place = f"input_blocks.{at}.{1 if kind == 'attentions' else 0}"
                inner = inner.replace("conv.", "op.") if kind == "downsamplers" else inner
            elif kind == "upsamplers":
                place = f"output_blocks.{first + layers}.{2 if attends else 1}"
            else:
                place = f"output_blocks.{first + int(number)}.{1 if kind == 'attentions' else 0}"
        if kind == "resnets":
            layer, suffix = inner.rsplit(".", 1)
            inner = f"{RESNET[layer]}.{suffix}"
        names[name] = f"{place}.{inner}"
    return names


def _unet(unet: UNet2DConditionModel) -> dict[str, Tensor]:
    weights = unet.state_dict()
    return {published: weights[name] for name, published in published_unet_names(unet).items()}


def _vae(vae: AutoencoderKL) -> dict[str, Tensor]:
    last = len(vae.config["up_block_types"]) - 1
    written = {}
    for name, weight in vae.state_dict().items():
        changed = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        changed = changed.replace("downsamplers.0", "downsample").replace("upsamplers.0", "upsample")
        changed = re.sub(r"down_blocks\.(\d+)", r"down.\1", changed)
        changed = re.sub(r"up_blocks\.(\d+)", lambda match: f"up.{last - int(match[1])}", changed)
        changed = re.sub(r"mid_block\.resnets\.(\d+)", lambda match: f"mid.block_{int(match[1]) + 1}", changed)
        changed = changed.replace("resnets", "block")
        if ".mid_block.attentions.0." in changed:
            half, _, inner = changed.partition(".mid_block.attentions.0.")
            layer, suffix = inner.rsplit(".", 1)
            changed = f"{half}.mid.attn_1.{VAE_ATTENTION[layer]}.{suffix}"
            weight = weight[:, :, None, None] if weight.ndim == 2 else weight
        written[changed] = weight
    return written


def _clip(encoder: nn.Module, prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name.removeprefix('text_model.')}": weight for name, weight in encoder.state_dict().items()}


def _open_clip(encoder: nn.Module, prefix: str) -> dict[str, Tensor]:
    """OpenCLIP keeps the three projections of attention in one matrix, and its last projection transposed."""
    names = DIFFUSERS_TO_LDM_MAPPING["openclip"]["layers"]
    weights = encoder.state_dict()
    written = {}
    for name, weight in weights.items():
        if name in names:
            written[f"{prefix}{names[name]}"] = weight.T if name == "text_projection.weight" else weight
            continue
        changed = name.replace("text_model.encoder.layers.", "transformer.resblocks.")
        for theirs, ours in OPEN_CLIP.items():
            changed = changed.replace(theirs, ours)
        if ".attn.q_proj." in changed:
            three = [weights[name.replace("q_proj", projection)] for projection in ("q_proj", "k_proj", "v_proj")]
            written[prefix + changed.replace("q_proj.", "in_proj_")] = torch.cat(three)
        elif ".attn.out_proj." in changed or ".attn." not in changed:
            written[prefix + changed] = weight
    return written
