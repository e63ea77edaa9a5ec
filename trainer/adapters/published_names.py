"""The names of a UNet's layers as Stability AI published them, which kohya's keys of Stable Diffusion XL are made of.

Those of Stable Diffusion 1.x and 2.x are made of diffusers' names. (kohya-ss/sd-scripts, library/sdxl_model_util.py.)
"""

import re

BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")
MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)")
RESNET_LAYERS = {"conv1": "in_layers.2", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}


def published_name(layer: str, layers_per_block: int) -> str:
    """The published name of one of SDXL's layers, such as `input_blocks.4.1.proj_in` for
    `down_blocks.1.attentions.0.proj_in`.

    Args:
        layer: diffusers' name of a layer that may be adapted (`trainer.models.targets.UNET_TARGETS`).
        layers_per_block: of the UNet; 2 in SDXL's own.

    Raises:
        ValueError: the layer lies outside the UNet's blocks.
    """
    if match := MIDDLE.fullmatch(layer):
        kind, number, inner = match.groups()
        place = "middle_block.1" if kind == "attentions" else f"middle_block.{2 * int(number)}"
        return f"{place}.{RESNET_LAYERS[inner] if kind == 'resnets' else inner}"
    if not (match := BLOCK.fullmatch(layer)):
        raise ValueError(f"{layer} is no layer of a block, so its published name is not known")
    side, block, kind, number, inner = match.groups()
    first = (layers_per_block + 1) * int(block)
    if kind == "downsamplers":
        return f"input_blocks.{first + layers_per_block + 1}.0.op"
    if kind == "upsamplers":  # stands behind a resnet and an attention, which every block that has one attends with
        return f"output_blocks.{first + layers_per_block}.2.conv"
    # What comes before the blocks counts as the first on the way down.
    blocks, at = ("input_blocks", first + 1) if side == "down" else ("output_blocks", first)
    inner = RESNET_LAYERS[inner] if kind == "resnets" else inner
    return f"{blocks}.{at + int(number)}.{1 if kind == 'attentions' else 0}.{inner}"
