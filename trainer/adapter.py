"""A LoRA adapter on the UNet and text encoders of a base model: attached for one job, then removed without trace."""

from dataclasses import dataclass

import torch
from diffusers.utils.peft_utils import recurse_remove_peft_layers
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn

from trainer.config import TrainingConfig
from trainer.model_family import BaseModel, Part

ADAPTER_NAME = "default"

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
UNET_TARGETS = {
    "attention": ATTENTION_TARGETS,
    "attention+feed_forward+convolutions": ATTENTION_TARGETS + FEED_FORWARD_TARGETS + CONVOLUTION_TARGETS,
}
TEXT_ENCODER_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")


@dataclass(frozen=True, eq=False)
class Adapter:
    """Low-rank updates W + (alpha / rank) * B @ A living inside the modules of `base`.

    A base model carries at most one adapter. Owner: whoever attached or loaded it, who also detaches it.
    """

    base: BaseModel
    parts: tuple[Part, ...]
    """Which modules carry adapter layers."""

    def lora_config(self, part: Part) -> LoraConfig:
        """PEFT's description of the layers of `part`."""
        configs: dict[str, LoraConfig] = self.base.module(part).peft_config  # type: ignore[assignment]
        return configs[ADAPTER_NAME]

    def named_parameters(self, part: Part) -> dict[str, nn.Parameter]:
        """Adapter weights of `part` by their name in the module; {} if it carries none."""
        if part not in self.parts:
            return {}
        return {name: weight for name, weight in self.base.module(part).named_parameters() if ".lora_" in name}

    def parameters(self, part: Part) -> list[nn.Parameter]:
        """Adapter weights of `part` in the module's order; [] if it carries none."""
        return list(self.named_parameters(part).values())

    def state_dict(self, part: Part) -> dict[str, Tensor]:
        """Adapter weights of `part` under PEFT's names (`...to_q.lora_A.weight`), live, not copied."""
        weights: dict[str, Tensor] = get_peft_model_state_dict(self.base.module(part), adapter_name=ADAPTER_NAME)
        return weights

    def load_state_dict(self, part: Part, weights: dict[str, Tensor]) -> None:
        """Copies weights with exactly the names of `state_dict(part)` into the adapter.

        Raises:
            ValueError: names or shapes differ.
        """
        own = self.state_dict(part)
        differing = sorted(
            {name for name in own.keys() & weights.keys() if own[name].shape != weights[name].shape}
            | (own.keys() ^ weights.keys())
        )
        if differing:
            raise ValueError(
                f"the weights do not fit the {part}'s adapter; {len(differing)} differ in name or shape, the first is "
                f"{differing[0]}: use the rank and targets they were trained with"
            )
        set_peft_model_state_dict(self.base.module(part), weights, adapter_name=ADAPTER_NAME)

    def train(self, mode: bool = True) -> None:
        """Switches the adapter's dropout on or off; the base itself always stays in evaluation mode."""
        for part in self.parts:
            for module in self.base.module(part).modules():
                if isinstance(module, LoraLayer):
                    module.lora_dropout.train(mode)

    def detach(self) -> None:
        """Takes all adapter layers out: the base computes exactly what it did before. Further calls do nothing."""
        for part in self.parts:
            _remove_adapter_layers(self.base.module(part))


def attach_adapter(base: BaseModel, config: TrainingConfig) -> Adapter:
    """Puts a fresh adapter into `base`: trainable float32 weights, A drawn from config.seed, B zero (no effect yet).

    Reads rank, alpha, dropout, targets, seed and whether the text encoders are trained.

    Raises:
        ValueError: the base carries an adapter already.
    """
    check_no_adapter(base)
    parts = base.parts if config.trains_text_encoder else base.parts[:1]
    adapter = Adapter(base=base, parts=parts)
    try:
        with torch.random.fork_rng(devices=[base.device] if base.device.type == "cuda" else []):
            torch.manual_seed(config.seed)
            for part in parts:
                names = UNET_TARGETS[config.targets] if part == "unet" else TEXT_ENCODER_TARGETS
                lora_config = LoraConfig(
                    r=config.rank,
                    lora_alpha=config.alpha,  # type: ignore[arg-type] # PEFT only divides it by the rank
                    lora_dropout=config.dropout,
                    target_modules=list(names),
                    init_lora_weights=True,
                )
                getattr(base, part).add_adapter(lora_config, adapter_name=ADAPTER_NAME)
    except BaseException:
        adapter.detach()
        raise
    for part in parts:
        for weight in adapter.parameters(part):
            weight.data = weight.data.float()
            weight.requires_grad_(True)
    adapter.train(False)
    return adapter


def check_no_adapter(base: BaseModel) -> None:
    """Raises ValueError if `base` carries an adapter."""
    if any(isinstance(module, LoraLayer) for part in base.parts for module in base.module(part).modules()):
        raise ValueError("the base model already carries an adapter; detach it before attaching or loading another")


def _remove_adapter_layers(module: nn.Module) -> None:
    recurse_remove_peft_layers(module)
    if hasattr(module, "peft_config"):
        del module.peft_config
    module._hf_peft_config_loaded = False  # type: ignore[assignment]
