"""`--dry-run`: the plan in numbers worked by hand, at the pace of an earlier run where there is one."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from search.config.defaults import Added
from search.config.search_config import SearchConfig, dump_config, load_config
from search.photos.split import read_split
from search.run import search
from search.storage.result import SearchResult
from search.study import dry_run
from tests.support.outcomes import an_outcome

Write = Callable[[dict[str, Any]], Path]


@pytest.fixture
def config(document: dict[str, Any], write_config: Write, tmp_path: Path) -> SearchConfig:
    """Four trials on one worker, the first of 150 steps, none stopped early."""
    for number in range(6):
        Image.new("RGB", (64, 64), (40 * number, 255 - 30 * number, 17 * number)).save(
            tmp_path / "photos" / f"{number}.png"
        )
        (tmp_path / "photos" / f"{number}.txt").write_text("a photo of {trigger} man")
    document |= {
        "sampler": {"name": "tpe"},  # whose trials may be of any length alike
        "stopping": {"enabled": False},
        "seats": {"count": 1},
        "budget": {"gpu_hour_price": 2.0, "max_minutes": 30},
    }
    document["evaluation"]["others"] = {"count": 0}
    document["final"] |= {"candidates": 1, "retrain": 1}
    return load_config(write_config(document))


def describe(config: SearchConfig, added: Sequence[Added]) -> list[str]:
    return dry_run.describe(config, added, read_split(config.photos, config.evaluation.faces))


def test_the_plan_without_experience(config: SearchConfig) -> None:
    # Steps: 150, then three of 100 on average; checkpoints every 50. Images: base and 9 checkpoints of 2 x 2;
    # in the final base, two candidates and two retrainings of 1 x 2.
    assert describe(config, [Added("preset quick", {"trials": 4, "final": {"retrain": 1}})]) == [
        "anna: the plan; nothing is started",
        "photos: 4 to train on, 2 to compare with",
        "preset quick: trials=4, final.retrain=1",
        "space: alpha, learning_rate, rank, steps",
        "trials: 4 by tpe, at most 600 steps, about 450 expected, 9 checkpoints",
        "final: 2 candidates, each trained again 1 times, about 200 steps",
        "images: about 50",
        "time, cost and disk: unknown, for no earlier run in this folder has used this model at this size; the search "
        "predicts them when two trials have ended",
        "budget: 30 minutes, which ends the search after 30:00, 0.50 worker hours, cost 1.00 at the latest",
    ]


def test_the_plan_at_the_pace_of_an_earlier_run(config: SearchConfig, tmp_path: Path) -> None:
    earlier = tmp_path / "runs" / "before"
    (earlier / "trials" / "000" / "step-50").mkdir(parents=True)
    (earlier / "trials" / "000" / "step-50" / "weights").write_bytes(bytes(2_999_998))
    (earlier / "trials" / "000" / "step-50" / "report.json").write_text("{}")
    (earlier / "search.yaml").write_text(dump_config(config), "utf-8")
    SearchResult(folder=earlier, outcome=an_outcome()).write()
    # 30 s to start; 450 steps of 0.1 s and 9 x 4 images of 2 s; the final's anchors, two scorings and two trainings of
    # 100 steps and a scoring, 2 images each; 15 s to close.
    seconds = 30 + (45 + 72) + (4 + 2 * 4 + 2 * (10 + 4)) + 15
    assert seconds == 202
    lines = describe(config, [])
    assert lines[-3:-1] == [
        "time on 1 worker(s): about 3:22, 0.06 worker hours, cost 0.11, at the pace of before",
        "disk: about 39 MB of checkpoints",
    ]
    other = config.model_copy(update={"model": "someone/else"})
    assert describe(other, [])[-2].startswith("time, cost and disk: unknown")


def test_from_python_overrides_go_with_a_file(config: SearchConfig, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"overrides \['trials=2'\] go with a file only"):
        search(config, ["trials=2"])
    (tmp_path / "photos" / "0.txt").unlink()
    with pytest.raises(ValueError, match=r"0.png: has no caption"):
        search(tmp_path / "search.yaml", ["trials=2"])
    assert not list((tmp_path / "runs").glob("*/search.yaml"))


def test_a_plan_for_a_cluster_says_that_this_machine_cannot_hold_it(config: SearchConfig) -> None:
    monstrous = config.seats.model_copy(update={"count": 1000})
    lines = describe(config.model_copy(update={"seats": monstrous}), [])
    (line,) = [line for line in lines if line.startswith("workers: ")]
    assert line.startswith("workers: a cluster has to hold them; on this machine 1000 worker(s) of 1 process(es) need ")
    assert lines[-1] == (
        "budget: 30 minutes, which ends the search after 30:00, 500.00 worker hours, cost 1000.00 at the latest"
    )
