"""An adapter on the denoiser and text encoders of a base model: attached for one job, then removed without trace."""

from dataclasses import dataclass

import torch
from diffusers.utils.peft_utils import recurse_remove_peft_layers
from peft import PeftConfig
from peft.tuners.lora import LoraLayer
from peft.tuners.lycoris_utils import LycorisLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn

from trainer.adapters.method import adapted_layers, check_patterns, peft_config
from trainer.config import TrainingConfig
from trainer.models.base_model import BaseModel, Part
from trainer.models.linear_layers import speed_up_linear_layers

ADAPTER_NAME = "default"
WEIGHT_PREFIXES = (".lora_", ".lokr_", ".hada_")
"""By which PEFT names the weights of a layer: LoRA and DoRA, LoKr, LoHa."""


@dataclass(frozen=True, eq=False)
class Adapter:
    """Updates W + (alpha / rank) * B @ A, or their kin of trainer.adapters.method, living inside the modules of `base`.

    A base model carries at most one adapter. Owner: whoever attached or loaded it, who also detaches it.
    """

    base: BaseModel
    parts: tuple[Part, ...]
    """Which modules carry adapter layers."""

    def peft_config(self, part: Part) -> PeftConfig:
        """PEFT's description of the layers of `part`."""
        configs: dict[str, PeftConfig] = self.base.module(part).peft_config  # type: ignore[assignment]
        return configs[ADAPTER_NAME]

    def named_parameters(self, part: Part) -> dict[str, nn.Parameter]:
        """Adapter weights of `part` by their name in the module; {} if it carries none."""
        if part not in self.parts:
            return {}
        named = self.base.module(part).named_parameters()
        return {name: weight for name, weight in named if any(prefix in name for prefix in WEIGHT_PREFIXES)}

    def parameters(self, part: Part) -> list[nn.Parameter]:
        """Adapter weights of `part` in the module's order; [] if it carries none."""
        return list(self.named_parameters(part).values())

    @property
    def parameter_count(self) -> int:
        """Trained numbers in all parts."""
        return sum(weight.numel() for part in self.parts for weight in self.parameters(part))

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
                elif isinstance(module, LycorisLayer):
                    module.eval()  # in training it would draw a number a call, for a dropout that is not used

    def scale(self, strength: float) -> None:
        """Applies the update `strength` times: 0 is the base model, 1 what was trained. Each call starts from 1.

        Of DoRA it scales B only, and the learnt magnitudes stay: at 0 it is not quite the base model.
        """
        for part in self.parts:
            for module in self.base.module(part).modules():
                if isinstance(module, LoraLayer | LycorisLayer):
                    module.set_scale(ADAPTER_NAME, strength)

    def detach(self) -> None:
        """Removes all adapter layers: the base computes exactly what it did before. Further calls do nothing."""
        for part in self.parts:
            _remove_adapter_layers(self.base.module(part))


def attach_adapter(base: BaseModel, config: TrainingConfig) -> Adapter:
    """Attaches a fresh adapter to `base`: trainable float32 weights drawn from config.seed, without an effect yet.

    Reads method, ranks, alphas, dropout, targets, seed and whether the text encoders are trained.

    Raises:
        ValueError: the base carries an adapter already, its family cannot do what config asks for, or a pattern fits
            none of the adapted layers.
    """
    check_no_adapter(base)
    base.check(config)
    parts = base.parts if config.trains_text_encoder else base.parts[:1]
    targets = {part: base.text_encoder_targets(part) for part in parts[1:]} | {parts[0]: base.targets[config.targets]}
    layers = {part: adapted_layers(base.module(part), targets[part]) for part in parts}
    check_patterns(config, [name for names in layers.values() for name in names])
    adapter = Adapter(base=base, parts=parts)
    try:
        with torch.random.fork_rng(devices=[base.device] if base.device.type == "cuda" else []):
            torch.manual_seed(config.seed)
            for part in parts:
                described = peft_config(config, part, targets[part], layers[part])
                getattr(base, part).add_adapter(described, adapter_name=ADAPTER_NAME)
    except BaseException:
        adapter.detach()
        raise
    for part in parts:
        for weight in adapter.parameters(part):
            weight.data = weight.data.float()
            weight.requires_grad_(True)
        speed_up_linear_layers(base.module(part))
    adapter.train(False)
    return adapter


def check_no_adapter(base: BaseModel) -> None:
    """Raises ValueError if `base` carries an adapter."""
    if any(isinstance(module, BaseTunerLayer) for part in base.parts for module in base.module(part).modules()):
        raise ValueError("the base model already carries an adapter; detach it before attaching or loading another")


def _remove_adapter_layers(module: nn.Module) -> None:
    recurse_remove_peft_layers(module)
    if hasattr(module, "peft_config"):
        del module.peft_config
    module._hf_peft_config_loaded = False  # type: ignore[assignment]
