"""The space as a cube: draws and points, what a model sees of them, and conditions."""

import numpy as np
import pytest

from search.config.space import Choice, FloatRange, IntRange, Ratio, Space, Value
from search.study.samplers.unit_cube import UnitCube

SPACE: Space = {
    "learning_rate": FloatRange(low=1e-5, high=1e-1, log=True),
    "noise_offset": FloatRange(low=0.0, high=0.2),
    "rank": Choice(values=(32, 4, 8)),
    "alpha": Ratio(ratio=(0.5, 2)),
    "targets": Choice(values=("few", "many", "all")),
    "ema": Choice(values=(True, False)),
    "steps": IntRange(low=100, high=500, step=100),
    "loss": Choice(values=("squared", "huber")),
    "huber_c": FloatRange(low=0.1, high=0.5, when={"loss": ("huber",)}),
}
DRAW: dict[str, Value] = {
    "learning_rate": 1e-3,
    "noise_offset": 0.15,
    "rank": 8,
    "alpha": 2.0,
    "targets": "many",
    "ema": True,
    "steps": 200,
    "loss": "huber",
    "huber_c": 0.2,
}


def test_a_draw_is_a_point_and_the_point_the_draw() -> None:
    cube = UnitCube(SPACE)
    point = cube.point(DRAW)
    assert point == pytest.approx([0.5, 0.75, 0.5, 0.75, 0.5, 0.75, 0.3, 0.75, 0.25])
    drawn = cube.draw(point)
    assert list(drawn) == list(DRAW)
    assert {name: drawn[name] for name in ("rank", "alpha", "targets", "steps", "loss")} == {
        name: DRAW[name] for name in ("rank", "alpha", "targets", "steps", "loss")
    }
    assert drawn["ema"] is True
    assert [drawn["learning_rate"], drawn["noise_offset"], drawn["huber_c"]] == pytest.approx([1e-3, 0.15, 0.2])


def test_ends_of_ranges_stay_in_them() -> None:
    cube = UnitCube({"learning_rate": FloatRange(low=1e-4, high=1e-2, log=True)})
    ends = [float(cube.draw(np.array([end]))["learning_rate"]) for end in (0.0, 1.0)]
    assert ends == pytest.approx([1e-4, 1e-2])
    assert min(ends) >= 1e-4, "a hair below, and Optuna would refuse it"
    assert max(ends) <= 1e-2


def test_numbers_have_an_order_and_words_have_none() -> None:
    cube = UnitCube(SPACE)
    (features,) = cube.features(cube.point(DRAW)[None])
    learning_rate, noise_offset, rank, alpha, *targets, ema, steps = features[:9]
    assert (learning_rate, noise_offset, rank, alpha, ema, steps) == pytest.approx((0.5, 0.75, 0.5, 1, 1, 0.25))
    assert targets == [0, 1, 0]
    assert features[9:] == pytest.approx([0, 1, 0.25]), "loss, and huber_c"


def test_what_is_not_drawn_is_the_same_for_all() -> None:
    cube = UnitCube(SPACE)
    points = np.array([cube.point({**DRAW, "loss": "squared", "huber_c": value}) for value in (0.1, 0.4)])
    assert points[0, -1] != points[1, -1]
    assert "huber_c" not in cube.draw(points[0])
    first, second = cube.features(points)
    assert first.tolist() == second.tolist()
    without = {name: value for name, value in DRAW.items() if name != "huber_c"} | {"loss": "squared"}
    assert cube.features(cube.point(without)[None])[0].tolist() == first.tolist()


def test_random_points_reach_every_value_and_equal_draws_are_equal_points() -> None:
    cube = UnitCube(SPACE)
    points = cube.random(500, np.random.default_rng(0))
    draws = [cube.draw(point) for point in points]
    assert {draw["rank"] for draw in draws} == {4, 8, 32}
    assert {draw["steps"] for draw in draws} == {100, 200, 300, 400, 500}
    assert {"huber_c" in draw for draw in draws} == {True, False}
    assert np.median([float(draw["learning_rate"]) for draw in draws]) == pytest.approx(1e-3, rel=0.5)
    for point, draw in zip(points, draws, strict=True):
        assert cube.features(cube.point(draw)[None]) == pytest.approx(cube.features(point[None]))
    assert cube.numbers("steps", points).tolist() == [draw["steps"] for draw in draws]
    assert len({point[2] for point in points}) == 3


def test_near_points_are_nearer_than_random_ones_and_stay_inside() -> None:
    cube = UnitCube(SPACE)
    random = np.random.default_rng(0)
    points = cube.random(400, random)
    near = cube.near(points, random)
    assert ((near >= 0) & (near <= 1)).all()
    assert np.abs(near[:, 0] - points[:, 0]).mean() < 0.1
    moved = (near[:, 4] != points[:, 4]).mean()
    assert 0.1 < moved < 0.3, "drawn anew in three of ten, to another value in two thirds of these"
    assert points.tolist() != near.tolist()


def test_whole_numbers_on_a_logarithmic_scale_are_drawn_as_often_in_every_octave() -> None:
    cube = UnitCube({"rank": IntRange(low=4, high=64, log=True)})
    random = np.random.default_rng(0)
    points = cube.random(40_000, random)
    drawn = np.array([cube.draw(point)["rank"] for point in points])
    assert sorted(set(drawn.tolist())) == list(range(4, 65))
    assert all(isinstance(cube.draw(point)["rank"], int) for point in points[:5])
    shares = [np.mean((drawn >= low) & (drawn < 2 * low)) for low in (4, 8, 16, 32)]
    width = np.log(64.5 / 3.5)
    exact = [np.log((2 * low - 0.5) / (low - 0.5)) / width for low in (4, 8, 16, 32)]
    assert shares == pytest.approx(exact, abs=0.01)

    for rank in (4, 5, 16, 63, 64):
        point = cube.point({"rank": rank})
        assert cube.draw(point) == {"rank": rank}
        assert cube.near(point[None], np.random.default_rng(1)).shape == (1, 1)
        assert cube.features(point[None]) == pytest.approx(np.log(rank / 3.5) / width)
    equal = points[drawn == 7]
    assert np.ptp(equal) == 0, "equal draws are equal points"
    assert set(cube.numbers("rank", points[:50])) == set(map(float, drawn[:50]))
