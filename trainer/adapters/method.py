"""What an adapter is made of: LoRA and its kin, each as PEFT's description of the layers of one part of the model."""

import re
from collections.abc import Sequence

from peft import LoHaConfig, LoKrConfig, LoraConfig, PeftConfig
from torch import nn

from trainer.config import TrainingConfig


def adapted_layers(module: nn.Module, targets: Sequence[str]) -> list[str]:
    """Names of the layers of `module` that PEFT adapts: those that end in a target, from a dot on."""
    return [name for name, _ in module.named_modules() if any(f".{name}".endswith(f".{target}") for target in targets)]


def peft_config(config: TrainingConfig, part: str, targets: Sequence[str], layers: Sequence[str]) -> PeftConfig:
    """The layers of `part` as `config` asks for them; convolutions, too, where targets name them.

    - "lora": W + (alpha / rank) B A (Hu et al. 2021, https://arxiv.org/abs/2106.09685).
    - "rslora": alpha / sqrt(rank) instead (Kalajdzievski 2023, https://arxiv.org/abs/2312.03732).
    - "dora": its direction as in LoRA, its magnitude learnt by output channel (Liu et al. 2024,
      https://arxiv.org/abs/2402.09353).
    - "loha": a Hadamard product of two low-rank matrices, "lokr": a Kronecker product of a small matrix and a low-rank
      one (Yeh et al. 2023, https://arxiv.org/abs/2309.14859).

    Args:
        config: method, ranks, alphas and dropout.
        part: of the base model.
        targets: endings of the names of the layers to adapt.
        layers: the names themselves; patterns that are not theirs are left to the other parts.
    """
    rank, alpha = config.rank_of(part), config.alpha_of(part)
    ranks = {key: value for key, value in config.rank_pattern.items() if _match_any(key, layers)}
    alphas = {key: value for key, value in config.alpha_pattern.items() if _match_any(key, layers)}
    names = list(targets)
    if config.adapter in ("lokr", "loha"):
        kind = LoKrConfig if config.adapter == "lokr" else LoHaConfig
        return kind(
            r=rank,
            alpha=alpha,  # type: ignore[arg-type] # PEFT only divides it by the rank
            rank_pattern=ranks,
            alpha_pattern=alphas,
            target_modules=names,
        )
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type] # PEFT only divides it by the rank
        lora_dropout=config.dropout,
        target_modules=names,
        rank_pattern=ranks,
        alpha_pattern=alphas,
        use_rslora=config.adapter == "rslora",
        use_dora=config.adapter == "dora",
        init_lora_weights=True,
    )


def check_patterns(config: TrainingConfig, layers: Sequence[str]) -> None:
    """Raises ValueError if a pattern of `config` is that of no adapted layer: it would change nothing."""
    for field, patterns in (("rank_pattern", config.rank_pattern), ("alpha_pattern", config.alpha_pattern)):
        for pattern in patterns:
            if not _match_any(pattern, layers):
                raise ValueError(
                    f"{field} names {pattern!r}, which ends no adapted layer's name, such as {layers[0]}; "
                    "write for example mid_block.* or attn2.*"
                )


def matches(pattern: str, layer: str) -> bool:
    """Whether PEFT applies a pattern to a layer: it is a regular expression of the name's end, from a dot on."""
    return re.match(rf"(.*\.)?({pattern})$", layer) is not None


def _match_any(pattern: str, layers: Sequence[str]) -> bool:
    return any(matches(pattern, layer) for layer in layers)
