"""Which layers of a model carry adapters, by the ends of their names."""

from collections.abc import Mapping

from trainer.config import Targets

ATTENTION_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
FEED_FORWARD_TARGETS = ("ff.net.0.proj", "ff.net.2")
CONVOLUTION_TARGETS = (
    "proj_in",  # 1x1 convolutions around a transformer block (linear layers in Stable Diffusion 2)
    "proj_out",
    "conv1",
    "conv2",
    "conv_shortcut",
    "downsamplers.0.conv",
    "upsamplers.0.conv",
)
UNET_TARGETS: Mapping[Targets, tuple[str, ...]] = {
    "attention": ATTENTION_TARGETS,
    "attention+feed_forward+convolutions": ATTENTION_TARGETS + FEED_FORWARD_TARGETS + CONVOLUTION_TARGETS,
}
JOINT_ATTENTION_TARGETS = ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
"""The projections of the text's tokens, in blocks where text and picture attend to each other."""
TRANSFORMER_TARGETS: Mapping[Targets, tuple[str, ...]] = {
    "attention": ATTENTION_TARGETS + JOINT_ATTENTION_TARGETS,
    "attention+feed_forward+convolutions": (
        ATTENTION_TARGETS
        + JOINT_ATTENTION_TARGETS
        + FEED_FORWARD_TARGETS
        + ("ff_context.net.0.proj", "ff_context.net.2")
    ),
}
"""Those that diffusers' own training scripts adapt; a transformer has no convolutions worth it."""
TEXT_ENCODER_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")
