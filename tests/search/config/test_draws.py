"""Draws: dimensions that depend on each other, what they mean to the trainer, and the way back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.config.draws import corners, draw_of, holds, order, settings_of
from search.config.search_config import ConfigurationError, dump_config, load_config
from search.config.space import Choice, FloatRange, IntRange, Ratio, Space, Value

Write = Callable[[dict[str, Any]], Path]

SPACE: Space = {
    "alpha": Ratio(ratio=(0.5, 1, 2)),
    "huber_c": FloatRange(low=0.01, high=0.5, when={"loss": ("huber",)}),
    "loss": Choice(values=("squared", "huber")),
    "rank": Choice(values=(4, 8)),
    "steps": IntRange(low=100, high=300, step=100),
    "lr_warmup_steps": Ratio(ratio=(0.1, 0.25), of="steps"),
}


def test_what_others_depend_on_is_drawn_before_them() -> None:
    assert order(SPACE) == ("loss", "huber_c", "rank", "alpha", "steps", "lr_warmup_steps")


def test_a_ratio_means_a_product_whole_where_it_is_whole() -> None:
    draw: dict[str, Value] = {"alpha": 0.5, "loss": "squared", "rank": 4, "steps": 300, "lr_warmup_steps": 0.1}
    assert settings_of(SPACE, draw, {}) == {
        "alpha": 2,
        "loss": "squared",
        "rank": 4,
        "steps": 300,
        "lr_warmup_steps": 30,
    }
    assert settings_of({"alpha": Ratio(ratio=(0.3,))}, {"alpha": 0.3}, {"rank": 8}) == {"alpha": 2.4}, (
        "of the fixed one"
    )


@pytest.mark.parametrize(("loss", "drawn"), [("huber", True), ("squared", False)])
def test_a_conditional_setting_is_drawn_where_its_condition_holds(loss: str, drawn: bool) -> None:
    assert holds(SPACE, "huber_c", {"loss": loss}) is drawn
    assert not holds(SPACE, "huber_c", {}), "what was not drawn itself fulfils nothing"


def test_the_nearest_draw_to_recorded_settings() -> None:
    recorded: dict[str, Value] = {
        "rank": 32,
        "alpha": 16,
        "steps": 2000,
        "huber_c": 0.9,
        "loss": "huber",
        "lr_warmup_steps": 100,
    }
    draw = draw_of(SPACE, recorded, {})
    assert draw == {
        "loss": "huber",
        "huber_c": 0.5,
        "rank": 8,
        "alpha": 2,
        "steps": 300,
        "lr_warmup_steps": 0.25,
    }, "alpha 16 is twice the rank that today's space holds"
    assert "huber_c" not in draw_of(SPACE, {**recorded, "loss": "squared"}, {})
    assert "huber_c" in draw_of(SPACE, {"huber_c": 0.1}, {}), "the loss is open yet"
    assert draw_of(SPACE, {"alpha": 8}, {"rank": 32}) == {}, "a ratio of what is not known yet"


def test_every_draw_is_the_nearest_to_its_own_settings() -> None:
    seen = 0
    for _, draw in corners(SPACE):
        fixed = {"rank": 8, "steps": 200}
        whole: dict[str, Value] = {"rank": 4, **draw}
        assert draw_of(SPACE, settings_of(SPACE, whole, fixed), fixed) == whole
        seen += 1
    assert seen > 30


def test_corners_bring_their_conditions_and_leave_out_what_excludes_itself() -> None:
    space: Space = {"huber_c": SPACE["huber_c"], "loss": SPACE["loss"]}
    assert list(corners(space)) == [
        (("huber_c",), {"huber_c": 0.01, "loss": "huber"}),
        (("huber_c",), {"huber_c": 0.5, "loss": "huber"}),
        (("loss",), {"loss": "huber"}),
        (("loss",), {"loss": "squared"}),
        (("huber_c", "loss"), {"huber_c": 0.01, "loss": "huber"}),
        (("huber_c", "loss"), {"huber_c": 0.5, "loss": "huber"}),
    ]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"huber_c": {"values": [0.1, 0.2], "when": {"los": "huber"}}}, "'huber_c' has a condition on 'los', which"),
        (
            {"huber_c": {"values": [0.1, 0.2], "when": {"loss": "hubert"}}, "loss": {"values": ["huber", "squared"]}},
            r"'huber_c' is drawn when 'loss' is 'hubert', which is not among its values \['huber', 'squared'\]",
        ),
        (
            {"dropout": {"values": [0.1, 0.2], "when": {"rank": 4}}, "rank": {"low": 4, "high": 8}},
            "'dropout' has a condition on 'rank', which is a range; a condition needs `values`",
        ),
        (
            {
                "loss": {"values": ["huber", "squared"], "when": {"rank": 4}},
                "rank": {"values": [4, 8], "when": {"loss": "huber"}},
            },
            "loss and rank depend on each other in a circle",
        ),
        ({"alpha": {"ratio": [0.5, 1], "of": "snr_gama"}}, "'alpha' is a ratio of 'snr_gama', which is no training"),
        ({"text_encoder_alpha": {"ratio": [1], "of": "text_encoder_rank"}}, "which is None; give `of` a number"),
        ({"lr_warmup_steps": {"ratio": [0.15], "of": "rank"}}, "may draw 0.15: lr_warmup_steps is 4.8.*whole number"),
        ({"steps": {"ratio": [10], "of": "rank"}}, "space.steps cannot depend on other settings"),
        ({"alpha": {"ratio": [0.5, 0]}}, "greater than 0"),
        ({"alpha": {"ratio": [0.5, 0.5]}}, "must not repeat"),
        (
            {
                "huber_c": {"low": 0.1, "high": 2.0, "when": {"loss": "huber"}},
                "loss": {"values": ["huber", "squared"]},
            },
            "space.huber_c may draw 2.0: huber_c is 2.0",
        ),
    ],
)
def test_dependencies_that_cannot_work_are_refused(
    space: dict[str, Any], message: str, document: dict[str, Any], write_config: Write
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load_config(write_config({**document, "space": space}))


def test_a_space_with_dependencies_is_read_and_read_back(
    document: dict[str, Any], write_config: Write, tmp_path: Path
) -> None:
    document["space"] |= {
        "alpha": {"ratio": [0.5, 1]},
        "loss": {"values": ["squared", "huber"]},
        "huber_c": {"low": 0.01, "high": 0.5, "log": True, "when": {"loss": "huber"}},
    }
    config = load_config(write_config(document))
    assert config.space["alpha"] == Ratio(ratio=(0.5, 1.0), of="rank")
    assert config.space["huber_c"].when == {"loss": ("huber",)}
    first = config.nearest_draw(config.first_trials[0])
    assert first == {"learning_rate": 1e-4, "rank": 16, "alpha": 1.0, "steps": 150}
    assert config.settings(first) == {"learning_rate": 1e-4, "rank": 16, "alpha": 16, "steps": 150}
    (tmp_path / "again.yaml").write_text(dump_config(config), "utf-8")
    assert load_config(tmp_path / "again.yaml") == config
