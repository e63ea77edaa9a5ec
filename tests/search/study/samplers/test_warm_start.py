"""Warm starts: results that mean the same today are taken over, of other searches the best configurations only."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from search.config.search_config import ConfigurationError, SearchConfig, dump_config, load_config
from search.study.samplers.warm_start import warm_start
from search.study.study import make_sampler

Write = Callable[[dict[str, Any]], Path]

SPACE: dict[str, Any] = {
    "learning_rate": {"low": 1e-5, "high": 1e-2, "log": True},
    "rank": {"values": [4, 8, 16]},
    "alpha": {"ratio": [0.5, 1, 2]},
    "steps": {"low": 50, "high": 150, "step": 50},
}
TRIALS: tuple[dict[str, Any], ...] = (
    {"learning_rate": 1e-4, "rank": 4, "alpha": 2, "steps": 150},
    {"learning_rate": 1e-3, "rank": 8, "alpha": 8, "steps": 100},
    {"learning_rate": 5e-3, "rank": 16, "alpha": 32, "steps": 150},
    {"learning_rate": 2e-3, "rank": 8, "alpha": 16, "steps": 50},
)


@pytest.fixture
def earlier(document: dict[str, Any], write_config: Write, tmp_path: Path) -> Path:
    """A run folder: three trials that ended at 0.1, 0.3 and 0.2, one that was stopped, one proposed again."""
    document |= {"space": SPACE, "first_trials": [*TRIALS, TRIALS[0]], "trials": 5}
    config = load_config(write_config(document))
    folder = tmp_path / "runs" / "before"
    folder.mkdir(parents=True)
    (folder / "search.yaml").write_text(dump_config(config), "utf-8")
    sampler = make_sampler(config, folder)
    for name, params, value in zip("abcd", TRIALS, (0.1, 0.3, 0.9, 0.2), strict=True):
        assert sampler.suggest(name) == {"number": "abcd".index(name), "params": params}
        sampler.on_trial_complete(name, {"step": 50 if name == "c" else params["steps"], "search_value": value})
    assert isinstance(sampler.suggest("e"), dict)
    sampler.on_trial_complete("e", error=True)
    return folder


def load(document: dict[str, Any], write_config: Write, **changes: Any) -> SearchConfig:
    return load_config(write_config({**document, "first_trials": [TRIALS[0]], "warm_start": "runs/before", **changes}))


def test_results_that_mean_the_same_are_taken_over(
    earlier: Path, document: dict[str, Any], write_config: Write, tmp_path: Path
) -> None:
    config = load(document, write_config, trials=2)
    assert config.warm_start == earlier / "journal.log"
    known = warm_start(config)
    assert known.line == "warm start: the sampler knows 4 of 4 results of before"
    assert known.first_trials == ()
    (tmp_path / "now").mkdir()
    sampler = make_sampler(config, tmp_path / "now")
    assert sampler.suggest("x") == {"number": 0, "params": TRIALS[0]}, "known from elsewhere, but not trained here"
    assert [(trial.state, trial.value) for trial in sampler.study.trials] == [
        (TrialState.RUNNING, None),
        (TrialState.COMPLETE, 0.1),
        (TrialState.COMPLETE, 0.3),
        (TrialState.PRUNED, 0.9),
        (TrialState.COMPLETE, 0.2),
    ]
    assert sampler.study.trials[3].intermediate_values == {50: 0.9}
    assert sampler.study.trials[2].params == {"learning_rate": 1e-3, "rank": 8, "alpha/rank": 1.0, "steps": 100}
    following = sampler.suggest("y")
    assert isinstance(following, dict)
    assert following["number"] == 5, "this search's own numbers go on behind those that it knows"


def test_what_todays_space_does_not_hold_is_left_behind(
    earlier: Path, document: dict[str, Any], write_config: Write
) -> None:
    space = {**SPACE, "rank": {"values": [8, 16]}, "steps": {"low": 100, "high": 150, "step": 50}}
    known = warm_start(load(document, write_config, space=space))
    assert known.line == "warm start: the sampler knows 2 of 4 results of before"
    fixed = {key: value for key, value in SPACE.items() if key != "steps"}
    known = warm_start(
        load(document, write_config, space=fixed, training={**document["training"], "steps": 150}, first_trials=[])
    )
    assert known.line == "warm start: the sampler knows 2 of 4 results of before", "those of 150 steps"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"evaluation": {"seeds": [3, 4]}}, "evaluation differ"),
        ({"photos": {"reference_share": 0.5}, "evaluation": {"every": 25}}, "photos and evaluation differ"),
        ({"training": {"batch_size": 4}}, "none of its trainings lies in today's space"),
    ],
)
def test_of_a_search_that_measured_otherwise_only_the_best_are_tried(
    changes: dict[str, Any], reason: str, earlier: Path, document: dict[str, Any], write_config: Write, tmp_path: Path
) -> None:
    sections = {name: {**document[name], **values} for name, values in changes.items()}
    config = load(document, write_config, **sections, trials=4)
    known = warm_start(config)
    assert known.results == ()
    assert known.line == (
        "warm start: the best 3 configurations of before are tried first; its results are not taken over, for " + reason
    )
    (tmp_path / "now").mkdir()
    sampler = make_sampler(config, tmp_path / "now")
    proposed = [sampler.suggest(name) for name in "wxy"]
    assert proposed == [{"number": number, "params": TRIALS[place]} for number, place in enumerate((0, 1, 3))], (
        "0.3, then 0.2; 0.1 was the first trial already, 0.9 was stopped"
    )


def test_what_is_no_earlier_search_is_named(document: dict[str, Any], write_config: Write, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="warm_start: runs/nowhere is neither a run folder"):
        load_config(write_config({**document, "warm_start": "runs/nowhere"}))
    (tmp_path / "empty.log").write_text("")
    config = load_config(write_config({**document, "warm_start": "empty.log"}))
    with pytest.raises(ConfigurationError, match=r"empty.log holds no study that can be read"):
        warm_start(config)
