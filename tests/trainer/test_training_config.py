"""The configuration of a training: legal values, and refusals that name the value."""

import math
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest

from trainer.config import TrainingConfig, check_text_encoder_settings


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("learning_rate", 0),
        ("learning_rate", -1e-4),
        ("learning_rate", math.nan),
        ("text_encoder_learning_rate", 1.5),
        ("rank", 0),
        ("rank", 4.0),
        ("rank", True),
        ("alpha", 0),
        ("alpha", math.inf),
        ("dropout", 1),
        ("dropout", -0.1),
        ("caption_dropout", 1),
        ("caption_shuffle", 1.1),
        ("horizontal_flip", -0.5),
        ("horizontal_flip", math.nan),
        ("face_loss_weight", 0.5),
        ("face_loss_weight", math.inf),
        ("targets", "everything"),
        ("steps", 0),
        ("batch_size", 0),
        ("gradient_accumulation_steps", 0),
        ("lr_scheduler", "linear"),
        ("lr_warmup_steps", -1),
        ("lr_cycles", 0),
        ("snr_gamma", 0),
        ("snr_gamma", math.nan),
        ("max_grad_norm", 0),
        ("max_grad_norm", math.nan),
        ("weight_decay", -1),
        ("seed", -1),
        ("seed", 2**63),
        ("resolution", 0),
        ("resolution", 100),
        ("mixed_precision", "fp8"),
        ("optimizer", "sgd"),
        ("adapter", "oft"),
        ("text_encoder_rank", 0),
        ("text_encoder_alpha", -1.0),
        ("text_encoder_steps", 0),
        ("noise_offset", -0.1),
        ("noise_offset", math.nan),
        ("loss", "l1"),
        ("huber_c", 0),
        ("huber_c", 1.5),
        ("huber_schedule", "linear"),
        ("ema_decay", 1),
        ("gradient_checkpointing", 1),
    ],
)
def test_an_illegal_value_is_refused_by_name_and_value(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field} is ") as caught:
        TrainingConfig(**{field: value})  # type: ignore[arg-type]
    assert repr(value) in str(caught.value)


def test_a_warmup_must_end_before_the_run_does() -> None:
    assert TrainingConfig(steps=10, lr_warmup_steps=9).lr_warmup_steps == 9
    with pytest.raises(ValueError, match=r"lr_warmup_steps is 10; .* \(below steps, which is 10\)"):
        TrainingConfig(steps=10, lr_warmup_steps=10)


def test_the_homework_s_settings_are_legal() -> None:
    config = TrainingConfig(seed=1126, steps=200, lr_warmup_steps=100)
    assert (config.rank, config.alpha, config.batch_size, config.snr_gamma, config.lr_cycles) == (32, 16.0, 2, 5.0, 3)
    assert config.trains_text_encoder
    assert not TrainingConfig(text_encoder_learning_rate=0).trains_text_encoder
    assert TrainingConfig(batch_size=3, gradient_accumulation_steps=4).photos_per_step == 12


def test_a_config_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        TrainingConfig().rank = 8  # type: ignore[misc]


def test_importing_it_imports_no_torch() -> None:
    code = "import sys, trainer.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_text_encoder_learns_at_the_unets_rate_unless_it_is_given_its_own() -> None:
    assert TrainingConfig(learning_rate=3e-4).learning_rate_of("text_encoder") == 3e-4
    own = TrainingConfig(learning_rate=3e-4, text_encoder_learning_rate=1e-5)
    assert (own.learning_rate_of("unet"), own.learning_rate_of("text_encoder")) == (3e-4, 1e-5)
    assert not TrainingConfig(learning_rate=3e-4, text_encoder_learning_rate=0).trains_text_encoder


def test_prodigy_has_one_rate_for_everything() -> None:
    for rate in (None, 0, 0.5):
        assert TrainingConfig(optimizer="prodigy", learning_rate=0.5, text_encoder_learning_rate=rate)
    with pytest.raises(ValueError, match=r"text_encoder_learning_rate is 0\.1, but Prodigy finds one rate"):
        TrainingConfig(optimizer="prodigy", learning_rate=0.5, text_encoder_learning_rate=0.1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rank_pattern": {"mid_block.*": 0}}, r"rank_pattern\['mid_block\.\*'\] is 0; it must be a whole number"),
        ({"rank_pattern": {"mid_block.*": 2.0}}, "is 2.0; it must be a whole number from 1 to 1024"),
        ({"alpha_pattern": {"attn2.*": 0.0}}, r"alpha_pattern\['attn2\.\*'\] is 0.0; it must be above 0"),
        ({"alpha_pattern": {"attn2(": 1.0}}, r"alpha_pattern names 'attn2\(', which is no regular expression"),
        ({"adapter": "lokr", "dropout": 0.1}, "dropout is 0.1, but 'lokr' has no A"),
    ],
)
def test_what_a_method_cannot_do_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        TrainingConfig(**changes)


def test_the_text_encoder_may_have_its_own_rank_alpha_and_end() -> None:
    shared = TrainingConfig(rank=8, alpha=4)
    assert (shared.rank_of("text_encoder"), shared.alpha_of("text_encoder")) == (8, 4)
    own = TrainingConfig(rank=8, alpha=4, text_encoder_rank=2, text_encoder_alpha=1, text_encoder_steps=10)
    assert [(own.rank_of(part), own.alpha_of(part)) for part in ("unet", "text_encoder")] == [(8, 4), (2, 1)]
    assert [own.trains_at("text_encoder", step) for step in (9, 10)] == [True, False]
    assert own.trains_at("unet", 10)
    assert TrainingConfig(huber_schedule="constant", huber_c=1.5).huber_c == 1.5


@pytest.mark.parametrize(
    "name",
    [field.name for field in fields(TrainingConfig) if field.type in (int, float, int | None, float | None)],
)
@pytest.mark.parametrize("value", [True, False, "400"])
def test_neither_a_switch_nor_text_is_a_number(name: str, value: object) -> None:
    """True is 1 in Python: `horizontal_flip: true` would mirror every photo."""
    with pytest.raises(ValueError, match=f"{name} is {value!r}; give a number"):
        TrainingConfig(**{name: value})  # type: ignore[arg-type]


def test_settings_of_the_text_encoder_are_refused_where_it_is_never_trained() -> None:
    untrained = TrainingConfig(text_encoder_learning_rate=0)
    settings: dict[str, Any] = {"text_encoder_rank": 4, "text_encoder_alpha": 4.0, "text_encoder_steps": 4}
    for name, value in settings.items():
        given = replace(untrained, **{name: value})
        with pytest.raises(
            ValueError, match=f"{name} would change nothing, .* leave it out, or give the text encoder a"
        ):
            check_text_encoder_settings([given, untrained])
        with pytest.raises(ValueError, match=f"{name} would change nothing"):
            check_text_encoder_settings([untrained], drawn=[name])
        check_text_encoder_settings([given, TrainingConfig()])
    check_text_encoder_settings([untrained])
