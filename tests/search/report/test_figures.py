"""The figures of a search: which there are, their files, and which settings mattered, against Optuna."""

from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import optuna
import pytest
from mlflow import MlflowClient
from PIL import Image

from benchmarks.scale.synthetic_run import write_synthetic_run
from search.config.search_config import SearchConfig
from search.config.space import Choice, FloatRange, Space
from search.report.drawing import Drawing
from search.report.figures import (
    CURVES,
    FRONT,
    IMPORTANCE,
    INTERVALS,
    PARALLEL,
    STRENGTHS,
    draw_figures,
    importance,
    write_plots,
)
from search.storage.result import SearchResult
from search.storage.result_schema import TrialResult
from search.tracking.tracker import Tracker
from tests.support.report_page import changed

TRIALS = 10
SPACE: Space = {"learning_rate": FloatRange(low=1e-4, high=1e-2, log=True), "rank": Choice(values=(4, 8))}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[SearchResult, SearchConfig]:
    rates = [1e-3 * 1.2**number for number in range(TRIALS)]
    return write_synthetic_run(tmp_path_factory.mktemp("run"), trials=TRIALS, rates=rates)[:2]


@pytest.fixture(scope="module")
def figures(run: tuple[SearchResult, SearchConfig]) -> Mapping[str, Drawing]:
    return draw_figures(*run)


def labels(figure: Drawing) -> list[str]:
    """What the marks of a figure say, in the order in which they are drawn."""
    marks = ElementTree.fromstring(f"<svg>{figure.content}</svg>").iter()
    return [mark.get("aria-label", "") for mark in marks if mark.get("class") == "mark"]


def test_a_whole_search_has_every_figure(
    run: tuple[SearchResult, SearchConfig], figures: Mapping[str, Drawing]
) -> None:
    assert list(figures) == [FRONT, IMPORTANCE, PARALLEL, *CURVES, INTERVALS, STRENGTHS]
    finalists, space = len(run[0].outcome.finalists), len(run[1].space)
    # The front's line and a dot a trial; a bar a setting; a line a trial; a line each for likeness and fidelity.
    expected = [TRIALS + 1, space, *[TRIALS] * 5, finalists, 2]
    assert [len(labels(figure)) for figure in figures.values()] == expected


def test_the_front_names_every_scored_trial_with_its_likeness(
    run: tuple[SearchResult, SearchConfig], figures: Mapping[str, Drawing]
) -> None:
    for trial in run[0].outcome.trials:
        start = f"trial {trial.id} at step {trial.best_step}: "
        (text,) = [text for text in labels(figures[FRONT]) if text.startswith(start)]
        assert f", likeness {trial.metrics['likeness']:.3g}, fidelity {trial.metrics['fidelity']:.3g}, " in text


def test_the_curves_follow_the_reports_of_the_run_folder(
    run: tuple[SearchResult, SearchConfig], figures: Mapping[str, Drawing]
) -> None:
    trial = run[0].outcome.trials[0]
    values = ", ".join(f"{one.objective:.3g} at step {one.step}" for one in trial.checkpoints)
    assert f"trial 000, finished: objective {values}" in labels(figures["objective"])


def test_plots_are_files_of_their_own(figures: Mapping[str, Drawing], tmp_path: Path) -> None:
    paths = write_plots(figures, tmp_path / "plots")
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        f"plots/{name}.svg" for name in (FRONT, IMPORTANCE, PARALLEL, *CURVES)
    ]
    assert [path.read_text("utf-8") for path in paths] == [figures[path.stem].as_file() for path in paths]


def test_where_nothing_was_scored_there_is_no_figure(run: tuple[SearchResult, SearchConfig], tmp_path: Path) -> None:
    result, config = run
    empty = changed(result, trials=[], champion=None, front=[], finalists=[], strengths=None)
    figures = draw_figures(empty, config)
    assert (figures, write_plots(figures, tmp_path)) == ({}, ())


def test_the_searchs_own_run_in_mlflow_holds_the_plots(figures: Mapping[str, Drawing], tmp_path: Path) -> None:
    folder = tmp_path / "anna"
    folder.mkdir()
    with Tracker(None, "people", tmp_path) as tracker:
        tracker.start(folder, {})
        paths = write_plots(figures, folder / "plots")
        (folder / "champion").mkdir()
        Image.new("RGB", (8, 8)).save(folder / "champion" / "samples.png")
        tracker.finish([])
    client = MlflowClient(tracker.shown_uri)
    kept = [file.path for file in client.list_artifacts(tracker.run_id, "plots")]
    assert sorted(kept) == sorted(f"plots/{path.name}" for path in paths)
    for path in paths:
        copy = Path(client.download_artifacts(tracker.run_id, f"plots/{path.name}", str(tmp_path)))
        assert copy.read_bytes() == path.read_bytes()


def trials(count: int, *, faceless: int = 0) -> list[TrialResult]:
    """The objective depends on the learning rate alone."""
    random = np.random.default_rng(0)
    rates = 10 ** random.uniform(-4, -2, count)
    return [
        TrialResult.model_construct(
            params={"learning_rate": float(rate), "rank": int(random.choice([4, 8]))},
            metrics={"objective": -62.2 if number < faceless else -abs(float(np.log10(rate)) + 3)},
        )
        for number, rate in enumerate(rates)
    ]


def test_what_decides_comes_first() -> None:
    shares = importance(trials(60), SPACE)
    assert list(shares) == ["learning_rate", "rank"]
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["learning_rate"] > 0.8


def test_it_is_optunas_figure_over_the_scored_trials() -> None:
    study = optuna.create_study(direction="maximize")
    ranges = {
        "learning_rate": optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True),
        "rank": optuna.distributions.CategoricalDistribution((4, 8)),
    }
    scored = trials(30, faceless=3)
    for one in scored:
        value = one.metrics["objective"]
        study.add_trial(optuna.trial.create_trial(params=dict(one.params), distributions=ranges, value=value))
    failed = TrialResult.model_construct(params={"learning_rate": 1e-3, "rank": 4}, metrics={})
    assert importance([*scored, failed], SPACE) == optuna.importance.get_param_importances(study)


def test_too_few_or_equal_trials_say_nothing() -> None:
    assert importance(trials(9), SPACE) == {}
    equal = [one.model_copy(update={"metrics": {"objective": 0.5}}) for one in trials(20)]
    assert importance(equal, SPACE) == {}
