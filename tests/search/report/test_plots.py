"""The figures as files of their own: whole XML with the trials' numbers, nothing to fetch, and kept by MLflow."""

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from mlflow import MlflowClient

from benchmarks.scale.synthetic_run import write_synthetic_run
from search.report.curves import CURVES
from search.report.figure import Figure
from search.report.plots import CAPTIONS, FRONT, IMPORTANCE, PARALLEL, draw_plots, write_plots
from search.storage.result import SearchResult
from search.storage.result_schema import Outcome
from search.storage.run_folder import read_config
from search.tracking.tracker import Tracker

SVG = "{http://www.w3.org/2000/svg}"
TRIALS = 10


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SearchResult]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.files._fsync", lambda path: None)
        rates = [1e-3 * 1.2**number for number in range(TRIALS)]
        yield write_synthetic_run(tmp_path_factory.mktemp("run"), trials=TRIALS, rates=rates)[0]


def read(path: Path) -> ElementTree.Element:
    return ElementTree.fromstring(path.read_text("utf-8"))


def told(picture: ElementTree.Element) -> list[str]:
    """What the marks of a picture tell, in the order in which they are drawn."""
    return [mark.findtext(f"{SVG}title", "") for mark in picture.iter(f"{SVG}g")]


def test_each_plot_is_xml_that_tells_the_trials_numbers(result: SearchResult) -> None:
    paths = write_plots(result)
    assert [path.relative_to(result.folder).as_posix() for path in paths] == [
        f"plots/{name}.svg" for name in (FRONT, IMPORTANCE, PARALLEL, *CURVES)
    ]
    figures = draw_plots(result, read_config(result.folder))
    for path in paths:
        picture, figure = read(path), figures[path.stem]
        assert picture.tag == f"{SVG}svg"
        assert picture.findtext(f"{SVG}title") == figure.title
        assert told(picture) == [mark.label for mark in figure.marks]
        assert drawn(picture) == shapes(figure)
        texts = [text.text or "" for text in picture.iter(f"{SVG}text")]
        assert [figure.title, *(rule.text for rule in figure.rules)] == texts[: 1 + len(figure.rules)]
        assert " ".join(texts[1 + len(figure.rules) :]) == CAPTIONS[path.stem]


def drawn(picture: ElementTree.Element) -> tuple[int, int, int]:
    marks = list(picture.iter(f"{SVG}g"))
    return tuple(
        len([each for mark in marks for each in mark.iter(SVG + tag)]) for tag in ("polyline", "circle", "path")
    )  # type: ignore[return-value]


def shapes(figure: Figure) -> tuple[int, int, int]:
    return (
        sum(bool(mark.line) for mark in figure.marks),
        sum(len(mark.dots) for mark in figure.marks),
        sum(len(mark.crosses) for mark in figure.marks),
    )


def test_the_front_names_every_scored_trial_with_its_likeness(result: SearchResult) -> None:
    texts = told(read(write_plots(result)[0]))
    for trial in result.values["trials"]:
        start = f"trial {trial['id']} at step {trial['best_step']}: "
        (text,) = [text for text in texts if text.startswith(start)]
        assert f", likeness {trial['metrics']['likeness']:.3g}, fidelity {trial['metrics']['fidelity']:.3g}, " in text


def test_a_plot_needs_nothing_beside_it(result: SearchResult) -> None:
    for path in write_plots(result):
        text = path.read_text("utf-8")
        assert text.count("http") == 1, "only the name of SVG itself"
        assert "var(" not in text, "no colour of a page around it"
        used = {name for each in read(path).iter() for name in each.get("class", "").split()} - {"plain"}
        assert all(f".{name}" in text for name in used), "every style is within"


def test_where_nothing_was_scored_there_is_no_plot(result: SearchResult) -> None:
    values = {**result.values, "trials": [], "champion": None, "front": []}
    assert write_plots(SearchResult(folder=result.folder, outcome=Outcome.model_validate(values))) == ()


def test_the_searchs_own_run_in_mlflow_holds_the_plots(result: SearchResult, tmp_path: Path) -> None:
    with Tracker(None, "people", tmp_path) as tracker:
        tracker.start(result.folder, {}, [])
        paths = write_plots(result)
        for path in paths:
            tracker.picture(path, "plots")
        tracker.finish("champion", [], failed=False)
    client = MlflowClient(tracker.shown_uri)
    kept = [file.path for file in client.list_artifacts(tracker.run_id, "plots")]
    assert sorted(kept) == sorted(f"plots/{path.name}" for path in paths)
    for path in paths:
        copy = Path(client.download_artifacts(tracker.run_id, f"plots/{path.name}", str(tmp_path)))
        assert copy.read_bytes() == path.read_bytes()
